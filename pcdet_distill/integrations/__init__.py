"""Distillation inside the training tools of other projects."""
