"""The dense part compiled: recordings for each kind of input, and the numbers of the plain pass.

No GPU is needed. A made-up recorder stands for CUDA graphs: like a graph it runs the pass again on
the same inputs, into the same outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import small_nuscenes
import torch
from pretend_gpu import PretendTensor, pretended
from small_center import center_config
from small_model import make_batch, random_scene, small_model
from small_multi_head import multi_model_config
from small_pillarnet import pillarnet_config
from small_point_rcnn import small_point_rcnn
from small_second import second_batch, small_second
from small_two_stage import TWO_STAGE_CONFIGS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network
from pcdet_distill.models import dense_pass as module_under_test
from pcdet_distill.models.dense_pass import (
    MOST_RECORDINGS,
    GraphPass,
    compile_dense_part,
    dense_modules,
)

DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "PointPillar": small_model,
    "PointPillar, several heads": lambda: small_model(multi_model_config()),
    "CenterPoint": lambda: small_model(center_config()),
    "PillarNet": lambda: small_model(pillarnet_config()),
}


class MadeUpGraphs:
    """Records passes as CUDA graphs do, and counts.

    Attributes:
        recorded: passes that were recorded.
        replayed: passes that were run again.
    """

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def record(self, run: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """As ``record_cuda_graph``."""
        self.recorded += 1
        outputs = run()
        # Whoever uses them before the first replay notices.
        for output in tensors_of(outputs):
            output.fill_(torch.nan if output.is_floating_point() else 0)

        def replay() -> None:
            self.replayed += 1
            for old, new in zip(tensors_of(outputs), tensors_of(run())):
                old.copy_(new)

        return outputs, replay


def tensors_of(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def graphed(model: nn.Module) -> MadeUpGraphs:
    """Give a model made-up graphs in place of its dense part."""
    graphs = MadeUpGraphs()
    for module in dense_modules(model):
        module.dense_pass = GraphPass(module, module.dense_pass, graphs.record)
    return graphs


def confident(model: nn.Module) -> nn.Module:
    """In eval mode, with scores of about one half, so that there are boxes to compare."""
    for name, parameter in model.named_parameters():
        predicts_classes = "conv_cls" in name or ".hm." in name
        if predicts_classes and name.endswith(".bias"):
            nn.init.zeros_(parameter)
    return model.eval()


def predict(model: nn.Module, seeds: Sequence[int]) -> list[dict[str, Tensor]]:
    """Final boxes of a batch of random scenes."""
    with torch.no_grad():
        return model(make_batch([random_scene(seed) for seed in seeds]))[0]


def check_equal(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(found) == len(expected)
    assert sum(len(frame["pred_boxes"]) for frame in expected)
    for one, other in zip(found, expected):
        for key, value in other.items():
            torch.testing.assert_close(one[key], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make_model", DETECTORS.values(), ids=DETECTORS.keys())
def test_replayed_boxes_are_those_of_the_plain_pass(make_model: Callable[[], nn.Module]) -> None:
    model = confident(make_model())
    plain = [predict(model, seeds) for seeds in ([0], [1], [2, 3], [4])]
    graphs = graphed(model)
    replayed = [predict(model, seeds) for seeds in ([0], [1], [2, 3], [4])]
    # Compared at the end: boxes of a batch outlive the next ones.
    for found, expected in zip(replayed, plain):
        check_equal(found, expected)
    # The backbone and the head have a recording for one frame and one for two.
    assert graphs.recorded == 4
    assert graphs.replayed == 8


class Doubled(nn.Module):
    """A dense pass of its own: features times a weight, and the batch size."""

    has_dense_pass = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 2.0))
        self.passes = 0

    def dense_pass(self, features: Tensor, batch_size: int) -> dict[str, Any]:
        """Count, and multiply."""
        self.passes += 1
        return {"maps": [features * self.weight], "batch_size": batch_size}


@pytest.fixture
def doubled() -> tuple[Doubled, GraphPass, MadeUpGraphs]:
    """A module in eval mode, its pass and the recorder."""
    module = Doubled().eval()
    graphs = MadeUpGraphs()
    return module, GraphPass(module, module.dense_pass, graphs.record), graphs


@torch.no_grad()
def test_a_recording_reads_copies_of_its_inputs(
    doubled: tuple[Doubled, GraphPass, MadeUpGraphs],
) -> None:
    _, run, graphs = doubled
    first = torch.ones(2, 3)
    assert run(first, 2)["maps"][0].tolist() == [[2, 2, 2], [2, 2, 2]]
    other = torch.full((2, 3), 5.0)
    assert run(other, 2)["maps"][0].tolist() == [[10, 10, 10], [10, 10, 10]]
    assert first.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert graphs.recorded == 1


@torch.no_grad()
def test_lists_of_a_result_belong_to_the_caller(
    doubled: tuple[Doubled, GraphPass, MadeUpGraphs],
) -> None:
    _, run, _ = doubled
    run(torch.ones(1), 1)["maps"].append("more")
    assert len(run(torch.ones(1), 1)["maps"]) == 1


KINDS = {
    "another shape": lambda: (torch.ones(3, 3), 2),
    "another batch size": lambda: (torch.ones(2, 3), 3),
    "another dtype": lambda: (torch.ones(2, 3, dtype=torch.float64), 2),
    "another layout": lambda: (torch.ones(3, 2).T, 2),
}


@pytest.mark.parametrize("make_inputs", KINDS.values(), ids=KINDS.keys())
@torch.no_grad()
def test_another_kind_of_input_is_recorded_by_itself(
    doubled: tuple[Doubled, GraphPass, MadeUpGraphs],
    make_inputs: Callable[[], tuple[Tensor, int]],
) -> None:
    _, run, graphs = doubled
    run(torch.ones(2, 3), 2)
    features, batch_size = make_inputs()
    found = run(features, batch_size)
    assert torch.equal(found["maps"][0], 2 * features)
    assert found["batch_size"] == batch_size
    assert graphs.recorded == 2
    run(torch.ones(2, 3), 2)
    assert graphs.recorded == 2


@torch.no_grad()
def test_another_precision_is_recorded_by_itself(
    doubled: tuple[Doubled, GraphPass, MadeUpGraphs], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run, graphs = doubled
    for allow in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allow)
        run(torch.ones(1), 1)
    assert graphs.recorded == 2


@torch.no_grad()
def test_weights_loaded_in_place_are_used_and_moved_ones_recorded_anew(
    doubled: tuple[Doubled, GraphPass, MadeUpGraphs],
) -> None:
    module, run, graphs = doubled
    run(torch.ones(1), 1)
    module.load_state_dict({"weight": torch.full((1,), 7.0)})
    assert run(torch.ones(1), 1)["maps"][0].item() == 7
    assert graphs.recorded == 1
    module.weight = nn.Parameter(torch.full((1,), 9.0))
    assert run(torch.ones(1), 1)["maps"][0].item() == 9
    assert graphs.recorded == 2


@torch.no_grad()
def test_too_many_kinds_run_as_they_are(doubled: tuple[Doubled, GraphPass, MadeUpGraphs]) -> None:
    _, run, graphs = doubled
    for size in range(1, MOST_RECORDINGS + 3):
        assert run(torch.ones(size), size)["maps"][0].tolist() == [2.0] * size
    assert graphs.recorded == MOST_RECORDINGS


def test_training_gradients_and_hooks_run_the_plain_pass(
    doubled: tuple[Doubled, GraphPass, MadeUpGraphs],
) -> None:
    module, run, graphs = doubled
    run(torch.ones(1), 1)["maps"][0].backward()
    assert module.weight.grad is not None
    with torch.no_grad():
        run_in_training = module.train()
        run(torch.ones(1), 1)
        run_in_training.eval()
        handle = module.register_forward_hook(lambda *_: None)
        run(torch.ones(1), 1)
        handle.remove()
        assert graphs.recorded == 0
        run(torch.ones(1), 1)
    assert graphs.recorded == 1


def test_features_can_still_be_captured() -> None:
    model = small_model().eval()
    graphed(model)
    predict(model, [0])
    with model.capture(["backbone_2d.blocks.0"]) as features:
        predict(model, [0])
    assert features["backbone_2d.blocks.0"].dim() == 4


class NoCopiesFromTheHost(TorchDispatchMode):
    """Refuses what a CUDA graph cannot record: copies from memory of the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = args[-1] if func is torch.ops.aten.copy_.default else args[0]
            assert isinstance(source, PretendTensor), "a copy from the host"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make_model", DETECTORS.values(), ids=DETECTORS.keys())
def test_a_dense_pass_can_be_recorded(
    make_model: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither waits for the GPU nor copies from the host."""
    model = make_model().eval()
    batch = make_batch([random_scene(0), random_scene(1)])
    monkeypatch.setenv("PCDET_DISTILL_KERNELS", "plain")
    waits_of_passes = []

    def watched(compute: Callable[..., Any]) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            before = waits.total
            with NoCopiesFromTheHost():
                outputs = compute(*inputs)
            waits_of_passes.append(waits.total - before)
            return outputs

        return run

    for module in dense_modules(model):
        module.dense_pass = watched(module.dense_pass)
    with pretended("cuda") as waits, torch.no_grad():
        model.to("cuda")
        for key, value in batch.items():
            batch[key] = value.to("cuda") if isinstance(value, Tensor) else value
        model(batch)
    assert waits_of_passes == [0, 0], waits.table()


def test_the_watch_sees_a_copy_from_the_host() -> None:
    with pretended("cuda"), NoCopiesFromTheHost(), pytest.raises(AssertionError):
        torch.ones(2).to("cuda")


def test_cuda_gets_graphs_and_a_cpu_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "_check_compiler", lambda device, flag: None)
    model = small_model().eval()
    other = copy.deepcopy(model)
    compile_dense_part(model, torch.device("cuda"))
    compile_dense_part(other, torch.device("cpu"))
    assert {type(module.dense_pass).__name__ for module in dense_modules(model)} == {"GraphPass"}
    assert {type(module.dense_pass).__name__ for module in dense_modules(other)} == {"CompiledPass"}


def test_a_detector_without_a_map_is_refused() -> None:
    with pytest.raises(ConfigError, match="--compile: PointRCNN has no dense part to compile"):
        compile_dense_part(small_point_rcnn(), torch.device("cpu"))


def test_sparse_heads_have_no_dense_part() -> None:
    cfg = small_nuscenes.voxelnext_config()
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), small_nuscenes.spec_of(cfg))
    assert dense_modules(model) == []


def test_a_second_stage_reads_the_dense_part_too() -> None:
    model = confident(small_second(TWO_STAGE_CONFIGS["VoxelRCNN"]()))
    batch = second_batch([random_scene(0)])
    with torch.no_grad():
        expected = model(dict(batch))[0]
        graphs = graphed(model)
        check_equal(model(dict(batch))[0], expected)
    assert graphs.replayed == 2


def test_without_a_compiler_a_cpu_refuses_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*args: Any, **options: Any) -> Any:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found.\nset CXX")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(ConfigError) as refused:
        compile_dense_part(small_model(), torch.device("cpu"))
    assert str(refused.value) == (
        "--compile: PyTorch cannot compile for cpu here (InvalidCxxCompiler: no working C++ "
        "compiler found); install a C++ compiler such as g++, or leave --compile out"
    )


@pytest.mark.slow
def test_compiled_boxes_are_those_of_the_plain_pass() -> None:
    """With the compiler of this machine."""
    model = confident(small_model())
    expected = [predict(model, [0]), predict(model, [1, 2])]
    compile_dense_part(model, torch.device("cpu"))
    check_equal(predict(model, [0]), expected[0])
    check_equal(predict(model, [1, 2]), expected[1])
