"""VoxelNeXt: voxels summed up on the ground, targets on sparse cells, boxes, a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_nuscenes import make_batch, random_scene, spec_of, voxelnext_config

from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network
from pcdet_distill.models.backbones_3d.spconv_backbone_voxelnext import sum_on_ground
from pcdet_distill.models.dense_heads.voxelnext_head import VoxelNeXtHead
from pcdet_distill.models.detectors.voxelnext import VoxelNeXt
from pcdet_distill.ops.sparse_conv import SparseConvTensor


def detector(seed=0):
    cfg = voxelnext_config()
    torch.manual_seed(seed)
    return build_network(cfg.MODEL, 10, spec_of(cfg)), spec_of(cfg)


def sparse(shape, batch_size, count, seed):
    """Random cells of a grid, with three channels."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(batch_size * int(np.prod(shape)), generator=generator)[:count]
    indices = np.stack(np.unravel_index(cells.numpy(), (batch_size, *shape)), axis=1)
    features = torch.randn(count, 3, generator=generator)
    return SparseConvTensor(features, torch.from_numpy(indices).int(), shape, batch_size)


def test_voxels_of_all_levels_are_summed_up_on_the_ground():
    finest = sparse([5, 8, 12], 2, 60, 0)
    fifth = sparse([3, 4, 6], 2, 20, 1)
    sixth = sparse([2, 2, 3], 2, 9, 2)
    ground = sum_on_ground(finest, {2: fifth, 4: sixth})
    expected = torch.zeros(2, 3, 8, 12)
    for scale, tensor in ((1, finest), (2, fifth), (4, sixth)):
        for (frame, _, y, x), row in zip(tensor.indices.tolist(), tensor.features):
            expected[frame, :, y * scale, x * scale] += row
    torch.testing.assert_close(ground.dense(), expected)
    is_active = torch.zeros(2, 8, 12, dtype=torch.bool)
    is_active[ground.indices.long().unbind(dim=1)] = True
    assert len(ground.features) == int(is_active.sum())


def head_of(model):
    assert isinstance(model.dense_head, VoxelNeXtHead)
    return model.dense_head


def cells_of_map(head, keep_every, seed=0):
    """(N, 3) cells of two frames; about one of ``keep_every`` is active."""
    nx, ny = head.feature_map_size
    generator = torch.Generator().manual_seed(seed)
    is_active = torch.rand(2, ny, nx, generator=generator) < 1 / keep_every
    return torch.nonzero(is_active).int()


def test_targets_equal_those_of_a_loop_over_cells_and_boxes():
    """Heat at a cell: the larger of the peaks at the centre and at the nearest cell."""
    model, _ = detector()
    head = head_of(model)
    cells = cells_of_map(head, keep_every=3)
    gt_boxes = torch.from_numpy(np.stack([random_scene(seed)[1] for seed in (0, 1)]))
    targets = head.target_assigner.assign_to_cells(gt_boxes, cells, head.feature_map_size)
    for labels, target in zip(head.head_labels, targets):
        heatmap = np.zeros((len(cells), len(labels)))
        for frame in range(2):
            own = [box for box in gt_boxes[frame] if int(box[9]) in labels]
            assert int(target.mask[frame].sum()) == len(own)
            for slot, box in enumerate(own):
                centre = ((box[:2] + 9.6) / 0.6).numpy()
                radius = int(head.target_assigner._radius(box[None, :9])[0])
                sigma = (2 * radius + 1) / 6
                distances = []
                for cell_frame, y, x in cells.tolist():
                    apart = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
                    distances.append(apart if cell_frame == frame else np.inf)
                nearest = int(np.argmin(distances))
                assert int(target.rows[frame, slot]) == nearest
                _, near_y, near_x = cells[nearest].tolist()
                column = labels.index(int(box[9]))
                for number, (cell_frame, y, x) in enumerate(cells.tolist()):
                    if cell_frame != frame:
                        continue
                    to_nearest = (x - near_x) ** 2 + (y - near_y) ** 2
                    heat = np.exp(-min(distances[number], to_nearest) / (2 * sigma**2))
                    heatmap[number, column] = max(heatmap[number, column], heat)
                offset = centre - [near_x, near_y]
                np.testing.assert_allclose(target.boxes[frame, slot, :2], offset, atol=1e-4)
                torch.testing.assert_close(target.boxes[frame, slot, 8:], box[7:9])
        np.testing.assert_allclose(target.heatmap.numpy(), heatmap, atol=1e-5)
        assert (target.heatmap == 1).sum() <= target.mask.sum()


def test_predictions_equal_to_the_targets_give_the_boxes_back():
    model, _ = detector()
    head = head_of(model)
    cells = cells_of_map(head, keep_every=2)
    gt_boxes = torch.from_numpy(np.stack([random_scene(seed)[1] for seed in (2, 3)]))
    targets = head.target_assigner.assign_to_cells(gt_boxes, cells, head.feature_map_size)
    predictions = []
    for target in targets:
        codes = torch.zeros(len(cells), target.boxes.shape[2])
        codes[target.rows[target.mask]] = target.boxes[target.mask]
        parts = codes.split([2, 1, 3, 2, 2], dim=1)
        prediction = dict(zip(head.code_names, parts))
        prediction["hm"] = torch.where(target.heatmap == 1, 5.0, -9.0)
        predictions.append(prediction)
    nx, ny = head.feature_map_size
    tensor = SparseConvTensor(torch.zeros(len(cells), 1), cells, [ny, nx], 2)
    for boxes, found in zip(gt_boxes, head.boxes_of_cells(predictions, tensor)):
        order = found["pred_labels"].argsort()
        turn = found["pred_boxes"][order, 6] - boxes[:, 6]
        torch.testing.assert_close(turn.cos(), torch.ones(10), atol=1e-4, rtol=0)
        others = [0, 1, 2, 3, 4, 5, 7, 8]
        torch.testing.assert_close(
            found["pred_boxes"][order][:, others], boxes[:, others], atol=1e-3, rtol=0
        )
        assert found["pred_labels"][order].tolist() == list(range(1, 11))


def test_a_few_steps_lower_the_loss_and_eval_gives_boxes():
    model, spec = detector()
    assert isinstance(model, VoxelNeXt)
    batch = make_batch(spec, [random_scene(0), random_scene(1)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        ret, tb_dict, _ = model.train()(dict(batch))
        ret["loss"].backward()
        optimizer.step()
        losses.append(ret["loss"].item())
    assert losses[-1] < 0.8 * losses[0]
    assert {"hm_loss_head_0", "loc_loss_head_5", "rpn_loss", "loss_rpn"} <= set(tb_dict)
    with torch.no_grad():
        predictions, _ = model.eval()(dict(batch))
    assert [frame["pred_boxes"].shape[1] for frame in predictions] == [9, 9]


def test_a_frame_that_does_not_count_has_no_part_in_the_loss():
    model, spec = detector()
    scenes = [random_scene(0), random_scene(1)]
    batch = make_batch(spec, scenes)
    batch["loss_frames"] = torch.tensor([True, False])
    ret, _, _ = model.train()(dict(batch))
    moved = dict(batch)
    moved["gt_boxes"] = batch["gt_boxes"].clone()
    moved["gt_boxes"][1, :, :2] += 1
    again, _, _ = model.train()(moved)
    assert ret["loss"].item() == pytest.approx(again["loss"].item(), rel=1e-6)
    moved["gt_boxes"][0, :, :2] += 1
    other, _, _ = model.train()(dict(moved))
    assert other["loss"].item() != pytest.approx(ret["loss"].item(), rel=1e-3)


def test_a_wrong_stride_is_refused():
    cfg = voxelnext_config()
    cfg.MODEL.DENSE_HEAD.TARGET_ASSIGNER_CONFIG.FEATURE_MAP_STRIDE = 4
    spec = spec_of(cfg)
    model = build_network(cfg.MODEL, 10, spec)
    with pytest.raises(ConfigError, match="FEATURE_MAP_STRIDE makes a map of 64 x 64"):
        model.train()(make_batch(spec, [random_scene(0)]))
