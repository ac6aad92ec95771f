"""What a loss per sample is, and what one of known form can say of itself."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias, cast

from torch import Tensor

from landscape.errors import ConfigError

__all__ = ["NamedLoss", "SampleLoss", "spoken"]

SampleLoss: TypeAlias = Callable[[Any, Tensor], Tensor]


class NamedLoss(ABC):
    """A loss per sample of known form; the energy is its mean over samples.

    Subclasses are frozen dataclasses of plain numbers, so that a loss can be written down in a specification.
    """

    name: ClassVar[str]
    fisher_is_gauss_newton: ClassVar[bool] = False  # <s s^T> is the second derivative in the outputs, for any target

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every sample ``(samples,)``; what else a sample has is averaged."""

    @abstractmethod
    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse targets that do not fit the outputs, with a message that says how.

        Raises
        ------
        ShapeError
        """

    def why_no_model(self, outputs: Tensor) -> str | None:
        """Why the loss is not minus the logarithm of a probability p(y | outputs), or None if it is."""
        return f"{self.name} is not minus the logarithm of a probability"

    def factor(self, outputs: Tensor) -> Tensor:
        """Directions u_k ``(K, b, ...)`` with sum_k u_k u_k^T = <s s^T>, s = d loss(y) / d outputs, y from p."""
        raise ConfigError(str(self.why_no_model(outputs)))

    def drawn(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Targets ``(draws, b, ...)`` from p, made of standard normals ``(draws, b, ...)`` shaped like the outputs."""
        raise ConfigError(str(self.why_no_model(outputs)))

    def spec(self) -> str | dict[str, Any]:
        """The name; with settings other than the defaults a table."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(cast(Any, self)) if f.compare}
        own = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
            if value != getattr(type(self)(), name)
        }
        return {"kind": self.name, **own} if own else self.name


def spoken(name: str) -> str:
    """The name of a loss as it is said in a sentence."""
    words = {"cross_entropy": "cross-entropy", "mse": "squared error", "nll": "negative log-likelihood"}
    return words.get(name, name.replace("_", " "))
