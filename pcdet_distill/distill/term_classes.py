"""From the NAME of a term to its class, one of this package or one of your own."""

from __future__ import annotations

from typing import TypeAlias

from ..config import import_plugin, lookup, nearest
from ..errors import ConfigError
from .batch_transforms import BATCH_TRANSFORMS, BatchTransform
from .losses import DISTILL_LOSSES, DistillLoss

TermClass: TypeAlias = type[DistillLoss] | type[BatchTransform]


def find_term_class(name: str, where: str) -> TermClass:
    """The class of a NAME.

    Args:
        name: one of DISTILL_LOSSES or BATCH_TRANSFORMS, or the path of a class such as
            ``my_package.my_module.MyLoss``; ``config.plugins`` says where it may lie.
        where: key path of the NAME, for errors.
    """
    module_name, _, class_name = str(name).rpartition(".")
    if not module_name or not all(module_name.split(".")):
        known: dict[str, TermClass] = {**DISTILL_LOSSES, **BATCH_TRANSFORMS}
        return lookup(known, name, where)
    module = import_plugin(module_name, where)
    classes: dict[str, TermClass] = {}
    for key, value in vars(module).items():
        if isinstance(value, type) and issubclass(value, (DistillLoss, BatchTransform)):
            classes[key] = value
    if class_name not in classes:
        raise ConfigError(
            f"{where}: '{class_name}' is no DistillLoss or BatchTransform of "
            f"{module_name}{nearest(class_name, classes)}"
        )
    return classes[class_name]
