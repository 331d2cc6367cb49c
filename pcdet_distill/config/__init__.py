"""Config files: OpenPCDet's yaml, every key of it checked, and how a block is read.

    load                from a yaml file to the config of an experiment
    yaml_files          one yaml file as it stands; ``paths`` finds files, ``override`` is ``--set``
    schema              all keys, built of ``nodes``; ``values`` has their types, ``check`` compares
    options             a dataclass reads a block (``read_options``), ``option_values`` its values
    blocks, names       a key that must be there; a name becomes a class
    impossible          one sentence about a block from which nothing can be built
    plugins             classes of your own, by their import path
    safe_names          names in data files, which must not lead out of their folder

The options of one block each: ``distill_options``, ``cloud_options``, ``lidar_eval_options``,
``nuscenes_options``, ``argo2_options``.
"""

from .argo2_options import Argo2Options
from .blocks import errors_name_file, refuse_unknown_keys, required, same_length, to_plain
from .cloud_options import CloudOptions
from .distill_options import DistillOptions, TeacherOptions, TermOptions, WeightOptions
from .impossible import built_from
from .lidar_eval_options import LidarEvalOptions
from .load import load_config
from .names import lookup, nearest
from .nuscenes_options import NuScenesOptions
from .options import NoOptions, option, option_keys, option_table, read_options
from .paths import find_file, project_folder, resolve_data_path
from .plugins import add_plugin_folders, import_plugin
from .safe_names import check_regular, inside
from .yaml_files import read_yaml

__all__ = [
    "Argo2Options",
    "CloudOptions",
    "DistillOptions",
    "LidarEvalOptions",
    "NoOptions",
    "NuScenesOptions",
    "TeacherOptions",
    "TermOptions",
    "WeightOptions",
    "add_plugin_folders",
    "check_regular",
    "errors_name_file",
    "find_file",
    "import_plugin",
    "inside",
    "load_config",
    "lookup",
    "nearest",
    "option",
    "option_keys",
    "option_table",
    "built_from",
    "project_folder",
    "read_options",
    "read_yaml",
    "refuse_unknown_keys",
    "required",
    "resolve_data_path",
    "same_length",
    "to_plain",
]
