"""TransFusion-L: the assignment, queries, targets, boxes and a training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small_nuscenes import make_batch, random_scene, spec_of, transfusion_config

from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network
from pcdet_distill.models.dense_heads.hungarian import assign
from pcdet_distill.models.dense_heads.transfusion_head import TransFusionHead
from pcdet_distill.models.detectors.transfusion import TransFusion


def detector(cfg=None):
    cfg = cfg or transfusion_config()
    torch.manual_seed(0)
    return build_network(cfg.MODEL, 10, spec_of(cfg)), spec_of(cfg)


def head_of(model):
    assert isinstance(model.dense_head, TransFusionHead)
    return model.dense_head


@pytest.mark.parametrize("seed", range(40))
def test_the_assignment_is_the_cheapest(seed):
    random = np.random.default_rng(seed)
    num_objects = int(random.integers(0, 5))
    costs = random.normal(size=(num_objects, int(random.integers(max(num_objects, 1), 7))))
    if seed % 2:
        costs = costs.round()  # ties
    found = assign(costs)
    assert len(set(found.tolist())) == num_objects
    choices = itertools.permutations(range(costs.shape[1]), num_objects)
    cheapest = min(costs[range(num_objects), list(choice)].sum() for choice in choices)
    assert costs[range(num_objects), found].sum() == pytest.approx(cheapest)


def test_queries_are_local_maxima_but_for_small_classes():
    model, _ = detector()
    head = head_of(model)
    torch.manual_seed(3)
    logits = torch.randn(2, 10, 32, 32)
    queries = head.find_queries(logits)
    heat = logits.sigmoid()
    for frame in range(2):
        allowed = {}
        for label in range(10):
            for y in range(32):
                for x in range(32):
                    value = float(heat[frame, label, y, x])
                    near = heat[frame, label, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                    is_border = min(x, y) == 0 or max(x, y) == 31
                    if label >= 8 or (not is_border and value == float(near.max())):
                        allowed[label, y * 32 + x] = value
        best = sorted(allowed, key=allowed.get, reverse=True)[:30]
        pairs = zip(queries.classes[frame].tolist(), queries.cells[frame].tolist())
        assert list(pairs) == best
        own = queries.heat[frame].gather(0, queries.classes[frame][None])[0]
        assert own.tolist() == [allowed[pair] for pair in best]


def test_codes_and_boxes():
    """Sine comes before cosine, and z is that of the centre."""
    head = head_of(detector()[0])
    boxes = torch.from_numpy(random_scene(5)[1])[:, :9]
    codes = head.grid.encode(boxes)
    torch.testing.assert_close(codes[:, 0], (boxes[:, 0] + 9.6) / 0.6)
    torch.testing.assert_close(codes[:, 2], boxes[:, 2])
    torch.testing.assert_close(codes[:, 6], boxes[:, 6].sin())
    torch.testing.assert_close(head.grid.decode(codes), boxes, atol=1e-4, rtol=1e-4)


def test_queries_at_the_objects_learn_them_and_give_their_boxes():
    model, _ = detector()
    head = head_of(model)
    scene = torch.from_numpy(random_scene(6)[1])
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    far = scene[order][:, :9].clone()
    far[:, 0] = 0.0
    codes = torch.cat([head.grid.encode(far), head.grid.encode(scene[order][:, :9])])[None]
    logits = torch.full((1, 20, 10), -6.0)
    logits[0, 10 + torch.arange(10), order] = 6.0
    targets = head.query_assigner.assign_targets(logits, codes, scene[None])
    assert (targets.labels[0, :10] == -1).all()
    assert targets.labels[0, 10:].tolist() == order.tolist()
    assert float(targets.mean_iou) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(targets.codes[0, 10:], codes[0, 10:])

    parts = dict(zip(head.code_names, codes[0, 10:].T.split([2, 1, 3, 2, 2])))
    predictions = {name: part[None] for name, part in parts.items()}
    predictions["heatmap"] = logits[:, 10:].transpose(1, 2)
    predictions["query_labels"] = order[None]
    predictions["query_heat"] = torch.full((1, 10, 10), 0.5)
    (found,) = head.generate_predicted_boxes(predictions)
    torch.testing.assert_close(found["pred_boxes"], scene[order][:, :9], atol=1e-3, rtol=1e-3)
    assert found["pred_labels"].tolist() == (order + 1).tolist()
    expected = 0.5 * torch.tensor(6.0).sigmoid()
    torch.testing.assert_close(found["pred_scores"], expected.expand(10))


def test_a_few_steps_lower_the_loss_and_eval_gives_boxes():
    model, spec = detector()
    assert isinstance(model, TransFusion)
    batch = make_batch(spec, [random_scene(0), random_scene(1)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        ret, tb_dict, _ = model.train()(dict(batch))
        ret["loss"].backward()
        optimizer.step()
        losses.append(ret["loss"].item())
    assert losses[-1] < 0.8 * losses[0]
    names = {"loss_heatmap", "loss_cls", "loss_bbox", "matched_ious", "loss_trans"}
    assert names <= set(tb_dict)
    with torch.no_grad():
        predictions, _ = model.eval()(dict(batch))
    assert all(frame["pred_boxes"].shape[1] == 9 for frame in predictions)
    assert all(len(frame["pred_boxes"]) > 0 for frame in predictions)


def test_frames_without_objects_and_frames_that_do_not_count():
    model, spec = detector()
    batch = make_batch(spec, [random_scene(0), random_scene(1)])
    batch["gt_boxes"][0] = 0
    ret, tb_dict, _ = model.train()(dict(batch))
    ret["loss"].backward()
    assert torch.isfinite(ret["loss"])
    batch["loss_frames"] = torch.tensor([True, False])
    _, tb_dict, _ = model.train()(dict(batch))
    assert float(tb_dict["loss_bbox"]) == 0
    assert float(tb_dict["matched_ious"]) == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NUM_CLASSES", 3, "NUM_CLASSES is 3, expected 10"),
        ("NMS_KERNEL_SIZE", 4, "NMS_KERNEL_SIZE is 4, expected an odd number"),
        ("NUM_HEADS", 5, "HIDDEN_CHANNEL is 16, expected a multiple of NUM_HEADS, 5"),
        ("ACTIVATION", "rellu", "ACTIVATION.*relu"),
    ],
)
def test_wrong_values(key, value, message):
    with pytest.raises(ConfigError, match=message):
        detector(transfusion_config(f"MODEL.DENSE_HEAD.{key}", value))
