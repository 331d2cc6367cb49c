"""The distillation losses, by the NAME that a yaml file gives them."""

from __future__ import annotations

from ...moved import forward_names
from .attention_nonlocal import AttentionNonlocalLoss
from .attention_transfer import AttentionTransferLoss
from .base import DistillLoss, MapLoss, NodeLoss, PredictionLoss
from .category_logit import CategoryLogitLoss
from .contrastive import ContrastiveLoss
from .densify import DensifyLoss
from .disparity import DisparityLoss
from .feature_mimic import FeatureMimicLoss
from .graph import GraphDistillLoss, GraphOptions
from .graph_relation import GraphRelationLoss
from .head_relation import HeadRelationLoss
from .interchange import InterchangeLoss
from .localisation import LocalisationLoss
from .logit_box import LogitBoxLoss
from .masked_imitation import MaskedImitationLoss
from .overhaul import OverhaulLoss
from .pivotal_logit import PivotalLogitLoss
from .region_mimic import RegionMimicLoss
from .similarity import SimilarityLoss

DISTILL_LOSSES: dict[str, type[DistillLoss]] = {
    "AttentionNonlocalLoss": AttentionNonlocalLoss,
    "AttentionTransferLoss": AttentionTransferLoss,
    "CategoryLogitLoss": CategoryLogitLoss,
    "ContrastiveLoss": ContrastiveLoss,
    "DensifyLoss": DensifyLoss,
    "DisparityLoss": DisparityLoss,
    "FeatureMimicLoss": FeatureMimicLoss,
    "GraphDistillLoss": GraphDistillLoss,
    "GraphRelationLoss": GraphRelationLoss,
    "HeadRelationLoss": HeadRelationLoss,
    "InterchangeLoss": InterchangeLoss,
    "LocalisationLoss": LocalisationLoss,
    "LogitBoxLoss": LogitBoxLoss,
    "MaskedImitationLoss": MaskedImitationLoss,
    "OverhaulLoss": OverhaulLoss,
    "PivotalLogitLoss": PivotalLogitLoss,
    "RegionMimicLoss": RegionMimicLoss,
    "SimilarityLoss": SimilarityLoss,
}

__all__ = [
    "DISTILL_LOSSES",
    "DistillLoss",
    "GraphDistillLoss",
    "GraphOptions",
    "GraphRelationLoss",
    "MapLoss",
    "NodeLoss",
    "PredictionLoss",
]

# Old names, for one more version.
__getattr__ = forward_names(
    __name__,
    ("pcdet_distill.distill.batch_transforms", "pcdet_distill.distill.term_classes"),
    {"TeacherLabels": "TeacherLabels", "find_loss": "find_term_class"},
)
