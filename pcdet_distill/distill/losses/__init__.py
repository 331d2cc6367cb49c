"""The distillation losses, by the NAME a yaml file gives them."""

from __future__ import annotations

import importlib

from ...config import lookup, nearest
from ...errors import ConfigError
from .attention_nonlocal import AttentionNonlocalLoss
from .attention_transfer import AttentionTransferLoss
from .base import DistillLoss
from .contrastive import ContrastiveLoss
from .feature_mimic import FeatureMimicLoss
from .graph import GraphDistillLoss, GraphOptions
from .labels import TeacherLabels
from .localisation import LocalisationLoss
from .logit_box import LogitBoxLoss
from .masked_imitation import MaskedImitationLoss
from .overhaul import OverhaulLoss
from .pivotal_logit import PivotalLogitLoss
from .similarity import SimilarityLoss

DISTILL_LOSSES: dict[str, type[DistillLoss]] = {
    "AttentionNonlocalLoss": AttentionNonlocalLoss,
    "AttentionTransferLoss": AttentionTransferLoss,
    "ContrastiveLoss": ContrastiveLoss,
    "FeatureMimicLoss": FeatureMimicLoss,
    "GraphDistillLoss": GraphDistillLoss,
    "LocalisationLoss": LocalisationLoss,
    "LogitBoxLoss": LogitBoxLoss,
    "MaskedImitationLoss": MaskedImitationLoss,
    "OverhaulLoss": OverhaulLoss,
    "PivotalLogitLoss": PivotalLogitLoss,
    "SimilarityLoss": SimilarityLoss,
    "TeacherLabels": TeacherLabels,
}

__all__ = ["DISTILL_LOSSES", "DistillLoss", "GraphDistillLoss", "GraphOptions", "find_loss"]


def find_loss(name: str, where: str) -> type[DistillLoss]:
    """The loss of a NAME: one of the table, or a class anywhere by its path, as ``my_package.my_module.MyLoss``."""
    module_name, _, class_name = str(name).rpartition(".")
    if not module_name or not all(module_name.split(".")):
        return lookup(DISTILL_LOSSES, name, where)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{where}: '{module_name}' cannot be imported ({error}); expected the path of a class whose "
            "package is installed or on PYTHONPATH"
        ) from error
    losses = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, DistillLoss)
    ]
    if class_name not in losses:
        raise ConfigError(
            f"{where}: '{class_name}' is no DistillLoss of {module_name}{nearest(class_name, losses)}"
        )
    return getattr(module, class_name)
