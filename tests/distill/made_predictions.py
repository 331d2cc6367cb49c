"""Predictions written by hand, for tests of the losses that see them."""

from __future__ import annotations

import torch

from pcdet_distill.distill.predictions import Predictions


class PlainForm:
    """Codes are boxes less their reference."""

    name = "plain"
    opposite_headings_are_equal = False

    def decode(self, codes, references, logits, directions):
        return codes + references

    def encode(self, boxes, references, logits):
        return boxes - references


def predictions(scores, codes, batch_index=None, coords=None, references=None):
    """From scores (N, classes) in 0..1 and codes (N, K)."""
    scores = torch.as_tensor(scores, dtype=torch.float32)
    codes = torch.as_tensor(codes, dtype=torch.float32)
    count = len(scores)
    index = (
        torch.zeros(count, dtype=torch.long) if batch_index is None else torch.tensor(batch_index)
    )
    coords = (
        torch.zeros(count, 3) if coords is None else torch.as_tensor(coords, dtype=torch.float32)
    )
    references = torch.zeros_like(codes) if references is None else torch.as_tensor(references)
    return Predictions(torch.logit(scores), codes, index, coords, references, PlainForm())


def with_gradients(made):
    """The same, as leaves that collect gradients."""
    for part in (made.logits, made.codes):
        part.requires_grad_()
    return made
