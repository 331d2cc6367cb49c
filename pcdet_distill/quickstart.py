"""Moved to ``pcdet_distill.apps.quickstart``; imports from here go on working for one version."""

from .moved import forward_names

NEW_NAMES = {
    "Plan": "QuickstartPlan",
    "main": "main",
    "make_steps": "make_steps",
    "run_steps": "run_steps",
}
__getattr__ = forward_names(__name__, "pcdet_distill.apps.quickstart", NEW_NAMES)
