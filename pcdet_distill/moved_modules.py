"""Modules of version 0.1 that have another place now. Importing them works for one more version.

``import pcdet_distill.engine.cost`` finds no such file. Python then asks the finder that
``pcdet_distill/__init__.py`` has registered. The module it makes forwards every name to the new
place, with a warning. This table stands in for fifty files that would forward.
"""

from __future__ import annotations

import importlib.abc
import runpy
import warnings
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from .moved import forward_names

PACKAGE = "pcdet_distill"

# Old module -> the modules that have its names now. The first that has a name gives it.
NEW_PLACES: dict[str, tuple[str, ...]] = {
    "config_check": ("config.check",),
    "config_override": ("config.override",),
    "config_schema": ("config.nodes", "config.schema"),
    "config_values": ("config.values",),
    "lookup": ("config",),
    "models.model_utils.settings": ("config",),
    "distill.losses.labels": ("distill.batch_transforms.labels",),
    "distill.prediction_side": ("distill.prediction_input", "distill.prediction_matching"),
    "distill.sides": ("distill.tap_source", "distill.term_inputs"),
    "distill.student_init": ("distill.init", "distill.init.student"),
    "distill.student_init.calibration": ("distill.init.calibration", "distill.init.scores"),
    "distill.student_init.channels": ("distill.init.channels",),
    "distill.student_init.layers": ("distill.init.layers", "models.eval_mode"),
    "distill.student_init.options": ("distill.init.options",),
    "distill.student_init.patches": ("distill.init.patches",),
    "distill.student_init.plan": ("distill.init.plan",),
    "distill.student_init.reconstruct": ("distill.init.reconstruct",),
    "distill.student_init.selection": ("distill.init.selection",),
    "distill.student_init.topology": ("distill.init.topology",),
    "distill.student_init.weights": (
        "distill.init.weights",
        "distill.init.norms",
        "distill.init.proposals",
    ),
    "engine.arguments": ("engine.cli.arguments", "engine.cli.settings"),
    "engine.checkpoint_files": ("engine.checkpoints.files",),
    "engine.cost": ("engine.logging.cost",),
    "engine.device": ("models.device",),
    "engine.eval_loop": ("engine.evaluation.loop",),
    "engine.eval_report": ("engine.evaluation.report",),
    "engine.heap": ("engine.resources.heap",),
    "engine.launch": ("engine.distributed.launch",),
    "engine.progress": ("engine.logging.progress",),
    "engine.randomness": ("engine.checkpoints.randomness", "seeds"),
    "engine.run_lock": ("engine.checkpoints.run_lock",),
    "engine.state": ("engine.checkpoints.state",),
    "engine.threads": ("engine.resources.threads", "processes"),
    "engine.trainer": ("engine.loop",),
    "quickstart": ("apps.quickstart",),
    "quickstart.plan": ("apps.quickstart.plan",),
    "quickstart.results": ("apps.quickstart.results",),
    "quickstart.run": ("apps.quickstart.run",),
    "study": ("apps.study", "apps.study.command"),
    "study.check": ("apps.study.check",),
    "study.comparisons": ("apps.study.results.comparisons",),
    "study.data": ("apps.study.data",),
    "study.measured": ("apps.study.cost.measured",),
    "study.plan": ("apps.study.plan",),
    "study.plot": ("apps.study.results.plot",),
    "study.publish": ("apps.study.results.publish",),
    "study.results": ("apps.study.survey", "apps.study.records", "apps.study.cost.equal_compute"),
    "study.runner": ("apps.study.runner", "apps.study.survey"),
    "study.spec": ("apps.study.spec",),
    "study.spread": ("apps.study.results.spread",),
    "study.table": ("apps.study.results.table", "apps.study.results.text"),
}

# Old module -> {old name: new name}, where the name changed as well.
NEW_NAMES: dict[str, dict[str, str]] = {
    "distill.prediction_side": {"PredictionSide": "PredictionInput"},
    "distill.sides": {"NodeSide": "NodeInput", "Side": "TermInput"},
    "distill.student_init": {
        "StudentStart": "StudentInit",
        "initialise_student": "init_student",
    },
    "distill.student_init.calibration": {
        "Evidence": "ChannelScores",
        "Interest": "SampleWeights",
        "draw": "draw_rows",
        "gather_evidence": "channel_score_matrices",
    },
    "distill.student_init.layers": {
        "features_of": "feature_tensor",
        "in_eval": "evaluating",
        "layers_of": "find_layers",
        "listening": "layer_hooks",
        "predictions_of": "find_prediction_layers",
        "run": "run_detector",
    },
    "distill.student_init.patches": {
        "patches": "read_patches",
        "place_of": "place_grid",
        "targets": "read_targets",
        "weight_of": "weight_from_map",
    },
    "distill.student_init.plan": {"Plan": "ChannelPlan"},
    "distill.student_init.reconstruct": {"Wanted": "Target", "ridge": "ridge_regression"},
    "distill.student_init.selection": {"select": "select_channels"},
    "distill.student_init.topology": {"narrower_layers": "find_narrower_layers"},
    "distill.student_init.weights": {
        "Proposals": "TeacherPredictions",
        "measure_statistics": "measure_norms",
    },
    "engine.arguments": {"chosen_seed": "requested_seed"},
    "engine.checkpoint_files": {"load_with_optimizer": "read_with_optimizer"},
    "engine.randomness": {"randomness_kept": "preserve_randomness"},
    "engine.run_lock": {"folder_to_itself": "exclusive_folder"},
    "engine.state": {
        "pack": "make_checkpoint",
        "position": "resume_iteration",
        "unpack": "restore_checkpoint",
    },
    "engine.threads": {
        "allowed_cores": "available_cores",
        "best_of": "best_number",
        "undisturbed": "unchanged",
    },
    "quickstart": {"Plan": "QuickstartPlan"},
    "quickstart.plan": {"Plan": "QuickstartPlan"},
    "study.runner": {
        "one_study_at_a_time": "same_version_only",
        "terminated_is_interrupted": "sigterm_interrupts",
    },
    "study.spec": {"DataSpec": "StudyData"},
}


class OldModule(importlib.abc.Loader):
    """Makes the module at an old place.

    Args:
        old: its name without the package, a key of ``NEW_PLACES``.
    """

    def __init__(self, old: str) -> None:
        self.places = [f"{PACKAGE}.{place}" for place in NEW_PLACES[old]]
        self.renamed = NEW_NAMES.get(old)

    def exec_module(self, module: ModuleType) -> None:
        """Let the module forward the names that are asked for."""
        module.__doc__ = f"Moved to {', '.join(self.places)}."
        forward = forward_names(module.__name__, self.places, renamed=self.renamed)
        module.__getattr__ = forward  # type: ignore[method-assign]

    def get_code(self, name: str) -> CodeType:
        """The code that ``python -m OLD`` runs: it calls ``run_moved``."""
        call = f"from {__name__} import run_moved; run_moved({name!r}, {self.places[0]!r})"
        return compile(call, f"<{name}>", "exec")


def find_old_module(fullname: str) -> ModuleSpec | None:
    """The spec of a module of ``NEW_PLACES``, None for every other one."""
    package, _, old = fullname.partition(".")
    if package != PACKAGE or old not in NEW_PLACES:
        return None
    is_package = any(name.startswith(f"{old}.") for name in NEW_PLACES)
    return ModuleSpec(fullname, OldModule(old), is_package=is_package)


def run_moved(old: str, new: str) -> None:
    """Run the command ``python -m NEW`` for ``python -m OLD``."""
    warnings.warn(f"python -m {old} is now python -m {new}", DeprecationWarning, stacklevel=2)
    runpy.run_module(new, run_name="__main__", alter_sys=True)
