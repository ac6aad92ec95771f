"""Losses per sample, and the probability models of which some are minus the logarithm."""

from __future__ import annotations

from landscape.potentials.losses.base import NamedLoss, SampleLoss
from landscape.potentials.losses.labelled import CrossEntropy, NegativeLogLikelihood
from landscape.potentials.losses.naming import (
    check_targets,
    cross_entropy,
    named_loss,
    placed_loss,
    squared_error,
    takes_tensor,
)
from landscape.potentials.losses.valued import BinaryCrossEntropy, Huber, SquaredError

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Huber",
    "NamedLoss",
    "NegativeLogLikelihood",
    "SampleLoss",
    "SquaredError",
    "check_targets",
    "cross_entropy",
    "named_loss",
    "placed_loss",
    "squared_error",
    "takes_tensor",
]
