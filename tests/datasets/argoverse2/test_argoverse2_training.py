"""The model of cfgs/argo2_models trains on a folder of Argoverse 2, and its detections are scored.

The network is made narrow and the pillars wide, so that a step takes a moment.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tiny_argoverse2 import write_folder

from pcdet_distill.config import Argo2Options, load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.argoverse2.infos import create_argoverse2_infos
from pcdet_distill.evaluation.argoverse2 import Argoverse2Result
from pcdet_distill.models import build_network, load_data_to_device


def small_config(root: Path):
    """The yaml with fewer channels and wider pillars."""
    config = load_config("cfgs/argo2_models/centerpoint_pillar.yaml")
    config.DATA_CONFIG.DATA_PATH = str(root)
    config.DATA_CONFIG.DATA_PROCESSOR[2].VOXEL_SIZE = [1.6, 1.6, 8]
    config.DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST[0].SAMPLE_GROUPS = ["Bus:2"]
    config.DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST[0].PREPARE = {}
    model = config.MODEL
    model.VFE.NUM_FILTERS = [8]
    model.MAP_TO_BEV.NUM_BEV_FEATURES = 8
    model.BACKBONE_2D.update(
        LAYER_NUMS=[1, 1, 1], NUM_FILTERS=[8, 8, 8], NUM_UPSAMPLE_FILTERS=[8, 8, 8]
    )
    model.DENSE_HEAD.SHARED_CONV_CHANNEL = 8
    return config


def test_a_few_steps_and_an_evaluation(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    features = ["x", "y", "z", "intensity"]
    create_argoverse2_infos(root, Argo2Options(), features, show_progress=False)
    config = small_config(root)
    torch.manual_seed(0)
    train_set = build_dataset(config.DATA_CONFIG, config.CLASS_NAMES, training=True)
    model = build_network(config.MODEL, len(config.CLASS_NAMES), train_set)
    losses = train(model, train_set)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]

    val_set = build_dataset(config.DATA_CONFIG, config.CLASS_NAMES, training=False)
    batch = val_set.collate_batch([val_set[0], val_set[1]])
    load_data_to_device(batch, torch.device("cpu"))
    with torch.no_grad():
        predictions, _ = model.eval()(batch)
    annos = val_set.generate_prediction_dicts(batch, predictions, val_set.class_names)
    result = val_set.evaluate(annos)
    assert isinstance(result, Argoverse2Result)
    assert result.of_category("Bus").num_objects == 2


def train(model: torch.nn.Module, dataset) -> list[float]:
    """The loss of some steps on the same batch."""
    items = [dataset[index] for index in range(2)]
    optimizer = torch.optim.Adam(model.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        batch = dataset.collate_batch([dict(item) for item in items])
        load_data_to_device(batch, torch.device("cpu"))
        ret_dict, _, _ = model(batch)
        optimizer.zero_grad()
        ret_dict["loss"].backward()
        optimizer.step()
        losses.append(ret_dict["loss"].item())
    return losses
