"""Detectors: slots by name, run in the order of ``module_list`` on one dict."""

import torch
from torch import nn

from .layers import SLOTS


class Detector3DTemplate(nn.Module):
    """Slots of a yaml's MODEL, a training step, final boxes and checkpoints."""

    def __init__(self, model_cfg, num_class, dataset):
        super().__init__()
        self.model_cfg = model_cfg
        self.num_class = num_class
        self.dataset = dataset
        self.class_names = dataset.class_names
        self.register_buffer("global_step", torch.LongTensor(1).zero_())
        self.module_list = self.build_networks()

    @property
    def mode(self):
        """OpenPCDet's name of the mode."""
        return "TRAIN" if self.training else "TEST"

    def update_global_step(self):
        """Count a training step."""
        self.global_step += 1

    def build_networks(self):
        """The modules of all slots that the config names, in their order."""
        modules = []
        channels = self.dataset.point_feature_encoder.num_point_features
        for name, block in SLOTS.items():
            config = self.model_cfg.get(block)
            if config is None:
                self.add_module(name, None)
                continue
            module = config_class(config)(
                model_cfg=config,
                channels=channels,
                num_class=self.num_class,
                grid_size=self.dataset.grid_size,
            )
            channels = getattr(module, "num_features", channels)
            self.add_module(name, module)
            modules.append(module)
        return modules

    def forward(self, batch_dict):
        for module in self.module_list:
            batch_dict = module(batch_dict)
        if self.training:
            loss, tb_dict = self.dense_head.get_loss()
            return {"loss": loss}, tb_dict, {}
        return self.post_processing(batch_dict)

    def post_processing(self, batch_dict):
        """Boxes above the score threshold, without NMS; counts its calls."""
        self.post_processed = getattr(self, "post_processed", 0) + 1
        pred_dicts = []
        for frame in range(batch_dict["batch_size"]):
            scores, labels = batch_dict["batch_cls_preds"][frame].sigmoid().max(dim=-1)
            kept = scores > self.model_cfg.POST_PROCESSING.SCORE_THRESH
            boxes = batch_dict["batch_box_preds"][frame][kept]
            pred_dicts.append(
                {
                    "pred_boxes": boxes,
                    "pred_scores": scores[kept],
                    "pred_labels": labels[kept] + 1,
                }
            )
        return pred_dicts, {"gt": 0}

    def _load_state_dict(self, on_disk, *, strict):
        own = self.state_dict()
        fitting = {}
        for key, value in on_disk.items():
            if key in own and own[key].shape == value.shape:
                fitting[key] = value
        self.load_state_dict(fitting if strict else {**own, **fitting})
        return own, fitting

    def load_params_from_file(self, filename, logger, to_cpu=False, pre_trained_path=None):
        """Load the weights that fit, and log the others."""
        checkpoint = _read(filename, to_cpu)
        own, fitting = self._load_state_dict(checkpoint["model_state"], strict=False)
        for key in own:
            if key not in fitting:
                logger.info(f"Not updated weight {key}: {tuple(own[key].shape)}")

    def load_params_with_optimizer(self, filename, to_cpu=False, optimizer=None, logger=None):
        """Load a whole training; returns iteration and epoch."""
        checkpoint = _read(filename, to_cpu)
        self._load_state_dict(checkpoint["model_state"], strict=True)
        if optimizer is not None:
            optimizer.load_state_dict(checkpoint["optimizer_state"])
        return checkpoint.get("it", 0.0), checkpoint.get("epoch", -1)


def _read(filename, to_cpu):
    return torch.load(filename, map_location="cpu" if to_cpu else None, weights_only=False)


def config_class(config):
    """The class that a block of the yaml names."""
    from . import layers

    return getattr(layers, config.NAME)


class PointPillar(Detector3DTemplate):
    """A detector by its name alone: the slots make the difference."""


class SECONDNet(Detector3DTemplate):
    """A detector by its name alone: the slots make the difference."""


DETECTORS = {"PointPillar": PointPillar, "SECONDNet": SECONDNet}
