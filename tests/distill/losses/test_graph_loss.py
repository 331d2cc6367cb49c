"""GraphDistillLoss: every option against a slow computation, its limits, and its training."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from made_nodes import choices_of, tap
from plain_graph_loss import plain_loss

from pcdet_distill.distill.losses import edges as edges_module
from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.losses.graph_options import OFFICIAL
from pcdet_distill.distill.nodes import NodeFeatures
from pcdet_distill.errors import ConfigError
from pcdet_distill.models.taps import TapInfo

PRESETS = {
    "default": GraphOptions(),
    **{f"official_{kind}": options for kind, options in OFFICIAL.items()},
}
SMALL = GraphOptions(num_nodes=7, num_neighbors=4, embed_dim=5)
STUDENT = TapInfo("s", 3, 1, "voxel")
TEACHER = TapInfo("t", 6, 1, "voxel")
CHOICES = choices_of(GraphOptions)
del CHOICES["preset"]


def nodes(features, batch_index, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = len(features)
    return NodeFeatures(
        features,
        batch_index,
        torch.rand(count, 3, generator=generator, dtype=features.dtype),
        torch.randperm(count, generator=generator).to(features.dtype) + 1,
        objectness=torch.rand(count, generator=generator, dtype=features.dtype),
    )


def scene(seed=0, count=40, frames=2, dtype=torch.float64):
    """Student and teacher nodes with random features; rows of the frames lie mixed."""
    generator = torch.Generator().manual_seed(seed)
    batch_index = torch.randint(0, frames, (count,), generator=generator)
    student = torch.randn(count, 3, generator=generator, dtype=dtype).requires_grad_()
    teacher = torch.randn(count, 6, generator=generator, dtype=dtype)
    return nodes(student, batch_index), nodes(teacher, batch_index)


def build(options=SMALL, seed=1, dtype=torch.float64, channels=(3, 6)):
    torch.manual_seed(seed)
    student, teacher = (TapInfo("t", count, 1, "voxel") for count in channels)
    module = GraphDistillLoss(student, teacher, options).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def gradients(loss, module, student):
    module.zero_grad()
    student.features.grad = None
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    return {**found, "student": student.features.grad.clone()}


def variants():
    """Each choice of each option, in two presets; sampling and frobenius are tested below."""
    for preset in ("default", "official_voxel"):
        for field, values in {**CHOICES, "mix_frames": (True, False)}.items():
            for value in values:
                if field != "sampling" and value != "frobenius":
                    yield preset, field, value


@pytest.mark.parametrize(
    "preset, field, value",
    [
        *variants(),
        ("official_bev", "edge", "difference"),
        ("official_point", "edge", "concat"),
        ("official_point", "distance", "frobenius"),
    ],
)
def test_every_option_against_the_plain_computation(preset, field, value, monkeypatch):
    monkeypatch.setattr(edges_module, "CHUNK_FLOATS", 50)  # several chunks even here
    options = dataclasses.replace(
        PRESETS[preset], num_nodes=7, num_neighbors=4, embed_dim=5, temperature=0.3
    )
    module = build(dataclasses.replace(options, **{field: value}))
    student, teacher = scene()
    queries = module.choose_queries(teacher)
    loss = module.compare(student, teacher, queries)
    expected = plain_loss(module, student, teacher, queries)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    ours = gradients(loss, module, student)
    theirs = gradients(expected, module, student)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    "change",
    [
        {"edge": "difference"},
        {"pool": "max"},
        {"pool": "mean"},
        {"score": "channel_max"},
        {"score": "norm"},
        {"score": "objectness"},
        {"weighting": "none"},
        {"weighting": "softmax_raw"},
        {"weighting": "batch_size"},
        {"temperature": 5.0},
        {"distance": "smooth_l1"},
        {"distance": "cosine"},
        {"distance": "published"},
        {"distance": "frobenius", "weighting": "none"},
        {"teacher_adapter": "trained"},
        {"teacher_adapter": "none"},
        {"neighbor_space": "metres"},
        {"mix_frames": True},
        {"num_nodes": 3},
        {"num_nodes": 0.25},
        {"num_neighbors": 9},
        {"embed_dim": 8},
        {"sampling": "bottom"},
    ],
)
def test_every_option_changes_the_loss(change):
    student, teacher = scene()
    plain = build(SMALL)
    changed = build(dataclasses.replace(SMALL, **change))
    losses = [module(student, teacher, {}).item() for module in (plain, changed)]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_literal_value():
    """One frame, two nodes, K 2, the edges themselves: worked out by hand.

    Teacher nodes 0 and 2 give the edges (0,0) (2,0) (0,2) (2,2): standardised, every channel is -1
    or 1. The student sees 1 everywhere, its normalised output is beta = 0.5 in both channels.
    Scores 1 and 3 scale to 0 and 1: weights 2 / (1 + e^2) and 2 e^2 / (1 + e^2) for temperature
    0.5. Mean square per query: (1.5^2 + 0.5^2) / 2 for a balanced channel, 1.5^2 or 0.5^2 for the
    centre's: query 0 (1.25 + 2.25) / 2 = 1.75, query 1 (1.25 + 0.25) / 2 = 0.75.
    """
    single = TapInfo("t", 1, 1, "voxel")
    options = GraphOptions(num_nodes=2, num_neighbors=2, teacher_adapter="none")
    module = GraphDistillLoss(single, single, options).double()
    with torch.no_grad():
        module.student_adapter.beta.fill_(0.5)
    frame = torch.zeros(2, dtype=torch.long)
    features = torch.tensor([[0.0], [2.0]]).double()
    places = torch.zeros(2, 3)
    counts = torch.tensor([1.0, 3.0])
    student = NodeFeatures(torch.ones_like(features), frame, places, counts)
    teacher = NodeFeatures(features, frame, places, counts)
    light = 1 / (1 + 2.718281828459045**2)
    assert module(student, teacher, {}).item() == pytest.approx(
        light * 1.75 + (1 - light) * 0.75, abs=1e-5
    )
    entropy = -(light * torch.tensor(light).log2() + (1 - light) * torch.tensor(1 - light).log2())
    assert module.logs["entropy"].item() == pytest.approx(float(entropy), abs=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_zero_when_student_is_teacher_and_adapters_are_equal(preset):
    options = dataclasses.replace(PRESETS[preset], num_nodes=7, num_neighbors=4, embed_dim=5)
    module = build(options, channels=(6, 6))
    with torch.no_grad():
        module.student_adapter.weight.copy_(module.teacher_adapter.weight)
        for name, neutral in (("gamma", 1.0), ("beta", 0.0)):
            same = getattr(module.teacher_adapter, name)
            getattr(module.student_adapter, name).copy_(
                torch.tensor(neutral) if same is None else same
            )
    _, teacher = scene()
    assert module(teacher, teacher, {}).item() < 1e-14


def test_queries_are_chosen_per_frame_by_score():
    batch_index = torch.tensor([0, 1, 0, 1, 0, 1, 0])
    teacher = dataclasses.replace(
        nodes(torch.zeros(7, 6), batch_index), saliency=torch.tensor([5.0, 9, 1, 8, 3, 7, 2])
    )

    def chosen(**change):
        return sorted(build(dataclasses.replace(SMALL, **change)).choose_queries(teacher).tolist())

    assert chosen(num_nodes=2) == [0, 1, 3, 4]
    assert chosen(num_nodes=2, sampling="bottom") == [2, 3, 5, 6]
    assert chosen(num_nodes=2, mix_frames=True) == [1, 3]
    assert chosen(num_nodes=0.5) == [0, 1, 3, 4]  # 2 of 4 and, rounded up, 2 of 3
    assert chosen(num_nodes=100) == list(range(7))
    random = [tuple(chosen(num_nodes=2, sampling="random")) for _ in range(3)]
    torch.manual_seed(0)
    loss = GraphDistillLoss(
        STUDENT, TEACHER, dataclasses.replace(SMALL, num_nodes=2, sampling="random")
    )
    random += [tuple(sorted(loss.choose_queries(teacher).tolist())) for _ in range(10)]
    assert len(set(random)) > 1
    for rows in random:
        of_second_frame = [row for row in rows if row % 2]
        assert len(rows) == 4
        assert len(of_second_frame) == 2


def test_frames_never_mix():
    """Whatever frame 1 holds, the gradient of frame 0's edges stays the same."""
    module = build(
        dataclasses.replace(SMALL, weighting="none")
    ).eval()  # eval: fixed statistics, the one thing shared
    student, teacher = scene(frames=2)
    other = (teacher.batch_index == 1)[:, None]
    changed = dataclasses.replace(
        teacher, features=torch.where(other, teacher.features * 3 - 1, teacher.features)
    )
    found = [
        gradients(module(student, side, {}), module, student)["student"]
        for side in (teacher, changed)
    ]
    rows = teacher.batch_index == 0
    assert torch.equal(found[0][rows], found[1][rows])
    assert not torch.equal(found[0][~rows], found[1][~rows])
    mixed = build(dataclasses.replace(SMALL, weighting="none", mix_frames=True)).eval()
    found = [
        gradients(mixed(student, side, {}), mixed, student)["student"]
        for side in (teacher, changed)
    ]
    assert not torch.equal(found[0][rows], found[1][rows])  # the published way does mix them


def test_nodes_outside_of_the_graph_are_not_embedded(monkeypatch):
    student, teacher = scene()
    module = build(dataclasses.replace(SMALL, num_nodes=2, num_neighbors=3))
    seen = []
    for adapter in (module.student_adapter, module.teacher_adapter):
        monkeypatch.setattr(
            adapter,
            "forward",
            lambda features, queries, neighbours, forward=adapter.forward: (
                seen.append(len(features)),
                forward(features, queries, neighbours),
            )[1],
        )
    loss = module(student, teacher, {})
    assert seen[0] == seen[1] <= 2 * 2 * 3  # frames, queries, neighbours; of 40 nodes
    rows = gradients(loss, module, student)["student"].abs().sum(1).nonzero()
    assert len(rows) == seen[0]


def test_row_order_does_not_matter():
    student, teacher = scene()
    order = torch.randperm(len(teacher))
    module = build()
    shuffled = module(student.select(order), teacher.select(order), {})
    torch.testing.assert_close(module(student, teacher, {}), shuffled, rtol=1e-12, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_teacher_gets_no_gradient_and_student_and_adapters_do(preset):
    student, teacher = scene(dtype=torch.float32)
    teacher = dataclasses.replace(teacher, features=teacher.features.requires_grad_())
    module = build(
        dataclasses.replace(PRESETS[preset], num_nodes=9, num_neighbors=3), dtype=torch.float32
    )
    found = gradients(module(student, teacher, {}), module, student)
    assert teacher.features.grad is None
    assert all(gradient.abs().sum() > 0 for gradient in found.values())
    trained = {name.split(".")[0] for name, _ in module.named_parameters()}
    assert trained == (
        {"student_adapter", "teacher_adapter"}
        if preset.startswith("official")
        else {"student_adapter"}
    )


def test_no_nodes_give_a_zero_that_can_be_differentiated():
    student, teacher = scene(count=0)
    module = build()
    loss = module(student, teacher, {})
    assert loss.item() == 0
    found = gradients(loss, module, student)
    assert all(float(gradient.abs().sum()) == 0 for gradient in found.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_one_node_and_fewer_nodes_than_neighbours(preset):
    module = build(PRESETS[preset])
    student, teacher = scene(count=1, frames=1)
    assert torch.isfinite(module(student, teacher, {}))
    student, teacher = scene(count=5, frames=3)
    loss = module(student, teacher, {})
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.features.grad).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_more_neighbours_than_there_are_nodes_are_left_out(mixed):
    """Frames of 5 and 3 nodes, or one of 8: 10^9 neighbours become those of the fullest frame."""
    student, teacher = scene(count=8, frames=1)
    sides = [
        dataclasses.replace(side, batch_index=torch.tensor([0] * 5 + [1] * 3))
        for side in (student, teacher)
    ]
    losses = [
        build(dataclasses.replace(SMALL, num_neighbors=count, mix_frames=mixed))(*sides, {}).item()
        for count in (8 if mixed else 5, 10**9)
    ]
    assert losses[0] == losses[1] > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_an_empty_frame_among_others(preset):
    """Frame 1 of three has no nodes, frame 2 has fewer than K and fewer than the queries."""
    student, teacher = scene(count=12, frames=1)
    batch_index = torch.tensor([0] * 9 + [2] * 3)
    sides = [dataclasses.replace(side, batch_index=batch_index) for side in (student, teacher)]
    module = build(dataclasses.replace(PRESETS[preset], num_nodes=5, num_neighbors=4))
    queries = module.choose_queries(sides[1])
    assert len(queries) == (5 if PRESETS[preset].mix_frames else 8)
    loss = module(*sides, {})
    found = gradients(loss, module, student)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


def test_published_frobenius_norm_has_a_gradient_at_zero():
    module = build(
        dataclasses.replace(OFFICIAL["point"], distance="frobenius", num_nodes=3), channels=(6, 6)
    )
    module.student_adapter.load_state_dict(module.teacher_adapter.state_dict())
    _, teacher = scene()
    same = dataclasses.replace(teacher, features=teacher.features.clone().requires_grad_())
    module(same, teacher, {}).backward()
    assert torch.isfinite(same.features.grad).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_mixed_precision_computes_in_float32(preset):
    options = dataclasses.replace(PRESETS[preset], num_nodes=20, num_neighbors=4)
    student, teacher = scene(dtype=torch.float32)
    plain = build(options, dtype=torch.float32)(student, teacher, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = build(options, dtype=torch.float32)(student, teacher, {})
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)
    half = [
        dataclasses.replace(side, features=side.features.detach().half())
        for side in (student, teacher)
    ]
    full = [dataclasses.replace(side, features=side.features.float()) for side in half]
    assert torch.equal(
        build(options, dtype=torch.float32)(*half, {}),
        build(options, dtype=torch.float32)(*full, {}),
    )


def train_on_noise(options, steps):
    """Loss after training the adapters on a student that is independent of the teacher."""
    torch.manual_seed(0)
    module = GraphDistillLoss(tap(8), tap(16), options)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.01)
    frame = torch.zeros(100, dtype=torch.long)
    for _ in range(steps):
        sides = [
            NodeFeatures(
                torch.randn(100, width).relu(), frame, torch.zeros(100, 3), torch.rand(100)
            )
            for width in (8, 16)
        ]
        loss = module(*sides, {})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), module


def test_noise_collapses_the_published_adapters_with_a_warning_and_not_ours(caplog):
    small = {"num_nodes": 50, "num_neighbors": 8, "embed_dim": 8}
    with caplog.at_level(logging.WARNING):
        loss, module = train_on_noise(dataclasses.replace(PRESETS["default"], **small), 301)
        assert loss > 0.9
        assert module.logs["dead_teacher"] == 0
        caplog.clear()  # the student's adapter may well die of noise: the best guess is a constant
        # plain mean weights, as in the measurement that found the collapse
        options = dataclasses.replace(OFFICIAL["voxel"], **small, weighting="none", distance="mse")
        loss, module = train_on_noise(options, 361)
    assert loss < 0.01
    assert module.logs["dead_teacher"] > 0.4
    warned = [record.getMessage() for record in caplog.records]
    assert warned
    assert len(warned) == len(set(warned))
    assert "no longer teaches" in warned[0]


def test_a_single_empty_frame_gives_no_warning(caplog):
    """Adapters are checked every 20 steps. One empty map is no dead adapter; two in a row are."""
    student, teacher = scene(dtype=torch.float32)
    empty = dataclasses.replace(teacher, features=torch.zeros_like(teacher.features))
    module = build(dtype=torch.float32)
    for looks, warnings in (
        ([empty], 0),
        ([teacher, empty], 0),
        ([empty], 1),
        ([teacher, empty, empty], 1),
    ):
        for side in looks:
            for _ in range(20):
                module(student, side, {})
        assert (
            sum(
                "teacher's adapter are constant" in record.getMessage() for record in caplog.records
            )
            == warnings
        )


def test_from_config():
    module = GraphDistillLoss.from_config(
        {"PRESET": "official", "NUM_NODES": 50, "EDGE": "difference"}, STUDENT, TEACHER, "T"
    )
    assert module.options == dataclasses.replace(OFFICIAL["voxel"], num_nodes=50, edge="difference")
    assert module.student_adapter.weight.shape == (
        32,
        6,
    )
    assert module.teacher_adapter.weight.shape == (32, 12)
    assert GraphDistillLoss.from_config({}, STUDENT, TEACHER, "T").options == GraphOptions()
    for kind, width in (
        ("voxel", 32),
        ("bev", 32),
        ("point", 3),
    ):  # points: as wide as the student's features
        side = TapInfo("s", 3, 1, kind)
        module = GraphDistillLoss.from_config({"PRESET": "official"}, side, TEACHER, "T")
        assert module.options == dataclasses.replace(OFFICIAL[kind], embed_dim=width)
    identity = GraphDistillLoss.from_config({"TEACHER_ADAPTER": "none"}, STUDENT, TEACHER, "T")
    assert identity.student_adapter.weight.shape == (12, 6)


def test_every_key_of_a_block_reaches_the_loss():
    other = GraphOptions(
        num_nodes=7.0,
        num_neighbors=3,
        embed_dim=8,
        edge="difference",
        pool="mean",
        score="norm",
        sampling="random",
        weighting="softmax_raw",
        temperature=0.1,
        distance="cosine",
        teacher_adapter="trained",
        neighbor_space="metres",
        mix_frames=True,
        preset="official",
    )
    values = dataclasses.asdict(other)
    usual = dataclasses.asdict(GraphOptions())
    assert all(values[name] != usual[name] for name in usual)
    block = {name.upper(): value for name, value in values.items()}
    assert GraphDistillLoss.from_config(block, STUDENT, TEACHER, "T").options == other


@pytest.mark.parametrize(
    "cfg, words",
    [
        ({"NUM_NEIGBORS": 3}, ["T: unknown key 'NUM_NEIGBORS'", "NUM_NEIGHBORS"]),
        ({"STUDNT": "x"}, ["did you mean 'STUDENT'"]),
        ({"PRESET": "offical"}, ["T.PRESET", "did you mean 'official'"]),
        ({"POOL": "maximum"}, ["T.POOL", "max"]),
        ({"NUM_NEIGHBORS": 0}, ["T.NUM_NEIGHBORS", "above 0"]),
        ({"NUM_NEIGHBORS": 2.5}, ["whole number"]),
        ({"NUM_NODES": 2.5}, ["T.NUM_NODES", "fraction below 1"]),
        ({"TEMPERATURE": "hot"}, ["T.TEMPERATURE", "a number", "'hot'"]),
        ({"MIX_FRAMES": 1}, ["T.MIX_FRAMES", "true or false"]),
        ({"EMBED_DIM": True}, ["T.EMBED_DIM", "a whole number"]),
        ({"TEACHER_ADAPTER": "none", "EMBED_DIM": 8}, ["T.EMBED_DIM", "no effect"]),
        ({"WEIGHTING": "none", "TEMPERATURE": 0.1}, ["T.TEMPERATURE", "no effect"]),
        ({"DISTANCE": "frobenius"}, ["T.DISTANCE", "WEIGHTING: none", "not softmax"]),
    ],
)
def test_from_config_refuses(cfg, words):
    with pytest.raises(ConfigError) as error:
        GraphDistillLoss.from_config(cfg, STUDENT, TEACHER, "T")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("kind", ["sparse", "roi"])
def test_official_is_refused_where_nothing_is_published(kind):
    with pytest.raises(
        ConfigError, match=f"nothing is published for {kind} nodes, only for voxel, bev, point"
    ):
        GraphDistillLoss.from_config(
            {"PRESET": "official"}, dataclasses.replace(STUDENT, kind=kind), TEACHER, "T"
        )
