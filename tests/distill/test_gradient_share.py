"""GradientShare: on a quadratic whose gradients are known, in checkpoints, in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from test_distiller import BEV, GRAPH, distiller
from torch import nn
from toy_detectors import toy_batch

from pcdet_distill.distill.gradient_share import GradientShare, gradient_norms, shared_tensors
from pcdet_distill.distill.schedule import ShareOptions, WeightSchedule
from pcdet_distill.engine.distributed.launch import free_port
from pcdet_distill.errors import ConfigError

SHARE = {**GRAPH, "WEIGHT": {"SHARE": 0.2, "EVERY": 3}}


def quadratic(values, curvature, centre=0.0):
    """Its gradient is curvature * (values - centre)."""
    return 0.5 * curvature * (values - centre).square().sum()


def share(**options):
    return GradientShare(ShareOptions(**options))


def point(*values):
    return torch.tensor(values, requires_grad=True)


def test_norms_of_quadratics():
    """At (3, 4): 2 * 5 for the first loss; 0.5 * |(3, 4) - (3, 1)| for the second."""
    x = point(3.0, 4.0)
    norms = gradient_norms(quadratic(x, 2.0), quadratic(x, 0.5, torch.tensor([3.0, 1.0])), [x])
    assert norms.tolist() == pytest.approx([10.0, 1.5])


def test_only_what_the_term_reaches_counts():
    x, y = point(3.0), point(100.0)
    norms = gradient_norms(quadratic(x, 1.0) + quadratic(y, 1.0), quadratic(x, 2.0), [x, y])
    assert norms.tolist() == pytest.approx([3.0, 6.0])


def test_small_gradients_do_not_vanish_in_float16():
    x = torch.ones(4, dtype=torch.float16, requires_grad=True)
    tiny = (x * 2e-8).sum()
    assert gradient_norms(tiny, tiny, [x])[0].item() == pytest.approx(4e-8, rel=0.05)


def test_a_detection_loss_elsewhere_is_refused():
    x, y = point(3.0), point(4.0)
    with pytest.raises(ConfigError, match="detection loss does not depend on what the term"):
        gradient_norms(quadratic(y, 1.0), quadratic(x, 1.0), [x])


def test_the_first_measurement_gives_the_share_exactly():
    """Detection: gradient 2 * 3 = 6. Term: 4 * (3 - 1) = 8. A share of 0.2 is a weight of 0.15."""
    x = point(3.0)
    module = share()
    assert module.is_due()
    module.measure(quadratic(x, 2.0), quadratic(x, 4.0, 1.0), [x])
    assert module.factor.item() == pytest.approx(0.75)
    assert module.measured == 1.0
    weight = 0.2 * module.factor.item()
    assert weight * 8 / 6 == pytest.approx(0.2)


@pytest.mark.parametrize("smoothing, expected", [(0.0, 4.0), (0.5, 2.0), (0.75, 2**0.5)])
def test_later_ones_are_averaged_in_the_logarithm(smoothing, expected):
    """Ratios 1 and 4: half of the logarithm is 2."""
    x = point(1.0)
    module = share(smoothing=smoothing)
    module.measure(quadratic(x, 1.0), quadratic(x, 1.0), [x])
    module.measure(quadratic(x, 4.0), quadratic(x, 1.0), [x])
    assert module.factor.item() == pytest.approx(expected)
    assert module.measured == pytest.approx(0.25)  # what was left of the share in the meantime


@pytest.mark.parametrize("ratio, expected", [(1000.0, 4.0), (0.001, 1 / 4)])
def test_one_outlier_moves_the_factor_little(ratio, expected):
    x = point(1.0)
    module = share(smoothing=0.0, limit=1e9)
    module.measure(quadratic(x, 1.0), quadratic(x, 1.0), [x])
    module.measure(quadratic(x, ratio), quadratic(x, 1.0), [x])
    assert module.factor.item() == pytest.approx(expected)


@pytest.mark.parametrize("ratio, expected", [(1000.0, 3.0), (0.001, 1 / 3)])
def test_the_factor_is_bounded(ratio, expected):
    """A term that vanishes is not blown up without end."""
    x = point(1.0)
    module = share(smoothing=0.0, limit=3.0)
    module.measure(quadratic(x, 1.0), quadratic(x, 1.0), [x])
    module.measure(quadratic(x, ratio), quadratic(x, 1.0), [x])
    assert module.factor.item() == pytest.approx(expected)


@pytest.mark.parametrize("curvature", [0.0, float("inf"), float("nan")])
def test_a_gradient_without_a_size_is_no_measurement(curvature):
    x = point(1.0)
    module = share()
    module.measure(quadratic(x, 1.0), quadratic(x, curvature), [x])
    assert module.factor == 0
    module.measure(quadratic(x, 3.0), quadratic(x, 1.0), [x])
    module.measure(quadratic(x, 1.0), quadratic(x, curvature), [x])
    assert module.factor == 3


def test_due_every_n_steps_and_until_there_is_a_first_measurement():
    x = point(1.0)
    module = share(every=4)
    assert [module.is_due() for _ in range(3)] == [True, True, True]
    module.measure(quadratic(x, 1.0), quadratic(x, 1.0), [x])
    assert [module.is_due() for _ in range(7)] == [False, True, False, False, False, True, False]


def test_the_share_is_kept_while_the_gradients_change():
    """Detection is learned fast, the term slowly: with a fixed weight its share would rise."""
    x = nn.Parameter(torch.tensor([5.0, -3.0]))
    module = share(every=5, smoothing=0.0, limit=1e6)
    optimizer = torch.optim.SGD([x], lr=0.05)
    shares, plain_shares = [], []
    for _ in range(60):
        detection = quadratic(x, 1.0)
        term = quadratic(x, 0.01, torch.tensor([50.0, 70.0]))
        if module.is_due():
            module.measure(detection, term, [x])
        weight = 0.2 * module.factor
        detection_norm, term_norm = gradient_norms(detection, term, [x])
        shares.append((weight * term_norm / detection_norm).item())
        plain_shares.append((0.2 * module.first * term_norm / detection_norm).item())
        optimizer.zero_grad()
        (detection + weight.detach() * term).backward()
        optimizer.step()
    assert shares[0] == pytest.approx(0.2)
    assert plain_shares[-1] > 0.6
    assert all(0.19 < value < 0.27 for value in shares)


@pytest.mark.parametrize("of", ["features", "student"])
def test_a_distiller_gives_the_term_its_share(of):
    """The term adds a fifth of the detection loss' gradient, on the parameters that it reaches."""
    torch.manual_seed(0)
    model = distiller({"LOCAL": {**GRAPH, "WEIGHT": {"SHARE": 0.2, "OF": of}}})
    term = model.head.terms["LOCAL"]
    ret, tb, _ = model(toy_batch())
    reached = [parameter for name, parameter in model.student.named_parameters() if "vfe" in name]
    alone = distiller({"LOCAL": {**GRAPH, "WEIGHT": 0}})
    alone.student.load_state_dict(model.student.state_dict())
    reached_alone = [own for name, own in alone.student.named_parameters() if "vfe" in name]
    detection = torch.autograd.grad(alone(toy_batch())[0]["loss"], reached_alone)
    together = torch.autograd.grad(ret["loss"], reached)
    extra = torch.cat([(b - a).flatten() for a, b in zip(detection, together)]).norm()
    size = torch.cat([part.flatten() for part in detection]).norm()
    if of == "student":
        assert (extra / size).item() == pytest.approx(0.2, rel=1e-4)
    assert tb["distill_local_weight"].item() == pytest.approx(term.weight)
    assert tb["distill_local_share"] == pytest.approx(0.2)
    assert term.weight > 0


def test_features_are_those_of_the_terms_taps():
    features = {
        "a": torch.ones(2, requires_grad=True),
        "b": {"x": torch.ones(3, requires_grad=True), "y": torch.ones(3)},
    }
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert [len(part) for part in shared_tensors(features, ["b", "a"], model, "features")] == [3, 2]
    assert shared_tensors(features, ["a"], model, "student")[0] is model.weight
    assert len(shared_tensors(features, ["a"], model, "student")) == 1


def test_every_term_may_have_one_and_the_schedule_is_that_of_the_share():
    weight = {"SHARE": 0.4, "END": 0.0, "UNTIL": 0.5}
    model = distiller({"LOCAL": SHARE, "MAP": {**BEV, "WEIGHT": weight}, "PLAIN": BEV})
    ret, tb, _ = model(toy_batch())
    ret["loss"].backward()
    assert tb["distill_local_share"] == pytest.approx(0.2)
    assert tb["distill_map_share"] == pytest.approx(0.4)
    assert "distill_plain_share" not in tb
    full = model.head.terms["MAP"].weight
    model.set_progress(0.25)
    assert model.head.terms["MAP"].weight == pytest.approx(full / 2)
    model.set_progress(0.5)
    assert not model.head.terms["MAP"].active
    assert model.head.terms["LOCAL"].active


def train(model, steps, first=0):
    """A few steps of SGD; returns the weight at each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    weights = []
    for step in range(first, first + steps):
        loss = model(toy_batch(seed=step))[0]["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        weights.append(model.head.terms["LOCAL"].weight)
    return weights


def test_a_resumed_training_goes_on_with_the_same_weights():
    """Measured at steps 0, 3, 6, 9; interrupted after step 4."""
    torch.manual_seed(0)
    whole = distiller({"LOCAL": SHARE})
    torch.manual_seed(0)
    part = distiller({"LOCAL": SHARE})
    expected = train(whole, 10)
    assert len(set(expected)) == 4
    assert train(part, 5) == expected[:5]
    resumed = distiller({"LOCAL": SHARE})
    resumed.load_checkpoint_state(part.checkpoint_state(), "here")
    resumed.student.load_state_dict(part.student.state_dict())
    assert resumed.head.terms["LOCAL"].weight == expected[4]
    assert train(resumed, 5, first=5) == expected[5:]


def test_only_a_share_has_tensors_of_its_own():
    plain = set(distiller({"LOCAL": GRAPH}).head.state_dict())
    with_share = set(distiller({"LOCAL": SHARE}).head.state_dict())
    added = {f"terms.LOCAL.gradient_share.{name}" for name in ("factor", "first", "steps")}
    assert with_share - plain == added
    assert plain <= with_share


def test_the_detection_loss_is_needed():
    model = distiller({"LOCAL": SHARE})
    features = {"vfe@pillar_features": torch.rand(80, 4)}
    with pytest.raises(ConfigError, match="needs the detection loss"):
        model.head(features, {"vfe@pillar_features": torch.rand(80, 8)}, toy_batch())


TWO_PROCESSES = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import torch
import torch.distributed as dist
from test_gradient_share import SHARE, distiller, toy_batch

dist.init_process_group("gloo")
torch.manual_seed(0)
model = distiller({"LOCAL": SHARE})
parallel = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
weights = []
for step in range(5):
    # Other frames in each process.
    loss = parallel(toy_batch(seed=2 * step + dist.get_rank()))[0]["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    weights.append(model.head.terms["LOCAL"].weight)
first = next(model.student.parameters()).detach().flatten()[:3].tolist()
print(json.dumps({"weights": weights, "first": first}))
dist.destroy_process_group()
"""


def test_two_processes_have_the_same_weights(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(script), json.dumps(sys.path)]
    processes = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    found = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    assert found[0] == found[1]
    assert len(set(found[0]["weights"])) == 2  # measured at steps 0 and 3


@pytest.mark.parametrize(
    "block, words",
    [
        ({"SHARE": 0}, "W.SHARE: expected a number above 0"),
        ({"SHARE": 0.2, "START": 1.0}, "W: both START and SHARE are given"),
        ({"START": 1.0, "END": 0, "EVERY": 10}, "W.EVERY: has no effect without SHARE"),
        ({"SHARE": 0.2, "EVERY": 0}, "W.EVERY"),
        ({"SHARE": 0.2, "OF": "teacher"}, "W.OF: unknown value 'teacher'"),
        ({"SHARE": 0.2, "LIMIT": 0.5}, "W.LIMIT"),
        ({"SHARE": 0.2, "SMOOTHING": 1}, "W.SMOOTHING"),
        ({"SHARE": 0.2, "UNTIL": 0.5}, "W.UNTIL: has no effect without END"),
    ],
)
def test_refused(block, words):
    with pytest.raises(ConfigError) as error:
        WeightSchedule.from_config(block, "W")
    assert words in str(error.value)


def test_every_key_is_read():
    block = {"SHARE": 0.3, "EVERY": 7, "OF": "student", "SMOOTHING": 0.1, "LIMIT": 4}
    schedule = WeightSchedule.from_config(block, "W")
    assert schedule.share == ShareOptions(every=7, of="student", smoothing=0.1, limit=4.0)
    assert schedule.at(0.0) == schedule.at(1.0) == 0.3
    assert str(schedule) == "0.3 of the detection loss' gradient"
