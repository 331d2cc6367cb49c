"""The distillation losses, by the NAME that a yaml file gives them.

One file a method, with its formula, its paper and the departures from both:

features of places   feature_mimic, masked_imitation, attention_transfer, similarity, contrastive,
                     overhaul, interchange, region_mimic
graphs of places     graph (PointDistiller), graph_relation
whole maps           attention_nonlocal, densify
scores and boxes     logit_box, pivotal_logit, localisation, category_logit, disparity,
                     head_relation

What they share:

base           the kinds of losses, and how one is built; ``old_interface`` those of version 0.1
imitation      an adapter, and standardised features of the teacher; ``features`` their statistics
masks          weights of places by their distance to objects
graph_options  the options of ``graph``; ``edges`` sums over edges, ``collapse`` watches adapters
object_graphs  the nodes of each object for ``graph_relation``; ``relations`` between them
node_details   what a loss does at single nodes, for pictures
"""

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
