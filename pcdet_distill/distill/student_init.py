"""The old place of ``pcdet_distill.distill.init``; its names work for one more version."""

from ..moved import forward_names

NEW_NAMES = {
    "InitOptions": "InitOptions",
    "StudentStart": "StudentInit",
    "initialise_student": "init_student",
}
__getattr__ = forward_names(__name__, "pcdet_distill.distill.init", NEW_NAMES)
