"""Config files: OpenPCDet's yaml, every key of it checked, and how a block is read."""

from .blocks import errors_name_file, refuse_unknown_keys, required, same_length, to_plain
from .load import find_file, load_config, read_yaml, resolve_data_path
from .names import lookup, nearest

__all__ = [
    "errors_name_file",
    "find_file",
    "load_config",
    "lookup",
    "nearest",
    "read_yaml",
    "refuse_unknown_keys",
    "required",
    "resolve_data_path",
    "same_length",
    "to_plain",
]
