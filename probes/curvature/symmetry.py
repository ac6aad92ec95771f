"""Whether a matrix that should be symmetric is: what products at hand show, and which layers are to blame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from landscape.common.notices import warn
from landscape.potentials.base import has_samples
from landscape.probes.curvature.linear import LinearMap, sign_probes
from landscape.probes.curvature.operators import layer_blocks
from landscape.probes.curvature.positions import Sites
from landscape.probes.curvature.rows import dot

__all__ = ["Asymmetry", "SymmetryCheck", "Watch", "asymmetry_of"]

_LONG: Final = 2**16  # numbers from which on only some vectors are compared with the witness:
_FIRST, _EVERY = 3, 8  # the first ones, the witness among them, and every so many
_MEASURED: Final = 6  # products spent on the size of an asymmetry that was found
_TF32: Final = 2.0**-11  # roundoff of the numbers that graphics processors may shorten float32 to
_BLAMED: Final = 0.5  # share of the largest, in the norm, from which a layer is named beside it
_NAMED: Final = 3  # layers at most
_PURPOSES: Final = (101, 102, 103)  # of the random vectors here: none that an estimator uses


@dataclass(frozen=True, slots=True)
class Asymmetry:
    """How far a matrix is from its transpose.

    Attributes
    ----------
    size : float
        Frobenius norm of H - H^T, or an estimate.
    norm : float
        Frobenius norm of H, or an estimate by the same means.
    """

    size: float = 0.0
    norm: float = 0.0


def asymmetry_of(matrix: Tensor) -> Asymmetry:
    """Of a dense matrix, exactly.

    Examples
    --------
    >>> round(asymmetry_of(torch.tensor([[1.0, 3.0], [2.0, 0.0]])).size ** 2, 5)  # (3 - 2)^2, twice
    2.0
    """
    return Asymmetry(float(torch.linalg.matrix_norm(matrix - matrix.T)), float(torch.linalg.matrix_norm(matrix)))


class Watch:
    """Looks on while a matrix is multiplied, and compares w^T H v with v^T H w for the vectors v that come.

    The witness w is random, with independent components of variance 1: then the mean of (w^T H v - v^T H w)^2 is
    |(H - H^T) v|^2, which is set beside |H v|^2. Rounding errors of the products largely cancel in it, even where v is
    the eigenvector of a large eigenvalue.

    Parameters
    ----------
    linear : LinearMap
        From now on its products are seen.
    witness : tensor, shape ``(size,)``, optional
        One product is spent on it. Left out, the first vector that comes serves, at no cost: it has to be random.

    Examples
    --------
    >>> from landscape.probes.curvature.linear import as_linear
    >>> linear = as_linear(np.array([[1.0, 3.0], [2.0, 0.0]]))
    >>> watch = Watch(linear)
    >>> _ = linear(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64))
    >>> round(watch.asymmetry().size, 12)  # an estimate of sqrt(2) from one pair
    2.0
    """

    def __init__(self, linear: LinearMap, witness: Tensor | None = None) -> None:
        self._size, self._multiply = linear.size, linear.multiply
        self._witness: tuple[Tensor, Tensor] | None = None
        self._came = 0
        self._gaps: list[float] = []
        self._images: list[float] = []
        linear.multiply = self._look_on
        if witness is not None:
            linear.one(witness)

    def _look_on(self, vectors: Tensor) -> Tensor:
        products = self._multiply(vectors)
        for vector, product in zip(vectors, products, strict=True):
            self._came += 1
            if self._size > _LONG and self._came > _FIRST and self._came % _EVERY:
                continue  # four passes over a long vector are a tenth of what its product may cost
            square = dot(vector, vector)
            if not square > 0:
                continue
            if self._witness is None:
                self._witness = vector / square**0.5, product / square**0.5
                continue
            witness, image = self._witness
            self._gaps.append((dot(witness, product) - dot(vector, image)) / square**0.5)
            self._images.append((dot(product, product) / square) ** 0.5)
        return products

    def asymmetry(self) -> Asymmetry:
        """What has been seen, as if all vectors were random; nothing is found from fewer than two."""
        if not self._gaps:
            return Asymmetry()
        return Asymmetry(_rms(self._gaps) * self._size, _rms(self._images) * self._size**0.5)


def _rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


class SymmetryCheck:
    """Collects what is found at all positions, and warns once.

    A matrix is not symmetric where |H - H^T| exceeds the square root of the roundoff of its products times |H|, in
    Frobenius norms: where more than half of the digits differ. Rounding leaves a few to some hundred roundoffs, in
    float32 networks too; where torch's formulas are wrong the two are of one order. The root lies far from both.

    Parameters
    ----------
    sites : Sites
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._shares: dict[int, float] = {}
        self._to_blame: tuple[str, ...] = ()

    def note(self, number: int, layer: int, linear: LinearMap, found: Asymmetry, *, exact: bool = False) -> float:
        """The least error bar at that position: |H - H^T|, or 0 where the matrix is symmetric.

        Where it is not, products are spent on how far it is not, and once on which layers are to blame.

        Parameters
        ----------
        exact : bool
            Whether `found` is of the whole matrix, and not only a sign of something wrong.
        """
        if not found.size > _roundoff(self._sites, linear) ** 0.5 * found.norm:
            return 0.0
        if not exact:
            watch = Watch(linear)
            for number_of in range(_MEASURED):
                linear(sign_probes(linear, 1, 0, purpose=_PURPOSES[2], first=number_of))
            measured = watch.asymmetry()
            found = max(found, measured, key=lambda one: one.size)
        if not self._shares:
            self._to_blame = self._layers(layer, linear)
        self._shares[number] = max(self._shares.get(number, 0.0), found.size / found.norm if found.norm else np.inf)
        return found.size

    def _layers(self, layer: int, linear: LinearMap) -> tuple[str, ...]:
        own = self._sites.layers[layer][0]
        if own is not None:
            return (own,)
        if not has_samples(self._sites.potential):
            return ()
        return _layers_to_blame(linear, dict(layer_blocks(self._sites.potential)))

    def warn(self, what: str) -> None:
        """One warning, if anything was found.

        Warns
        -----
        UserWarning
            That names the layers in whose rows H - H^T is largest.
        """
        if not self._shares:
            return
        where = f" at {len(self._shares)} of {self._sites.count} positions" if self._sites.count > 1 else ""
        warn(
            f"{what}: the matrix is not symmetric{where}, |H - H^T| is {max(self._shares.values()):.1g} of |H|"
            f"{self._cause()}. `converged` is false there, and no error bar is smaller than |H - H^T|"
        )

    def _cause(self) -> str:
        if not has_samples(self._sites.potential):
            return ": give a symmetric matrix, or a potential whose `hvp` is the derivative of its gradient"
        layers = " and ".join(repr(name) for name in self._to_blame)
        return (
            f", most of it in the rows of {layers or 'no single layer'}: the second derivatives of an operation there "
            "or next to it are wrong (a custom autograd.Function whose backward is not itself differentiable, a "
            "`detach`, a fused or scripted kernel): write it with plain operations of torch"
        )


def _roundoff(sites: Sites, linear: LinearMap) -> float:
    """Of the numbers that the products are made of, which for operators of users is not known."""
    source = sites.potential
    if has_samples(source):
        if linear.device.type == "cuda" and linear.dtype == torch.float32:
            return _TF32
        return float(torch.finfo(linear.dtype).eps)
    if isinstance(source, Tensor):
        return float(torch.finfo(source.dtype if source.is_floating_point() else torch.float64).eps)
    if isinstance(source, np.ndarray) or scipy.sparse.issparse(source):
        return float(np.finfo(source.dtype if source.dtype.kind == "f" else np.float64).eps)
    return float(torch.finfo(torch.float32).eps)


def _layers_to_blame(linear: LinearMap, blocks: dict[str, slice]) -> tuple[str, ...]:
    """Names of the layers in whose rows H - H^T is largest, from two products for each layer."""
    names = list(blocks)
    first, second = (_multiplied(linear, blocks, purpose) for purpose in _PURPOSES[:2])
    # an entry is u_b^T (H - H^T) w_c with random u_b and w_c that vanish outside of the blocks b and c
    gaps = np.zeros((len(names), len(names)))
    for b, (part, vector, product) in enumerate(first):
        for c, (other, along, image) in enumerate(second):
            gaps[b, c] = dot(vector, image[part]) - dot(along, product[other])
    rows = np.nan_to_num(np.sqrt((gaps**2).sum(0) + (gaps**2).sum(1)))
    order = np.argsort(-rows)
    return tuple(names[b] for b in order[:_NAMED] if rows[b] > 0 and rows[b] >= _BLAMED * rows[order[0]])


def _multiplied(linear: LinearMap, blocks: dict[str, slice], purpose: int) -> list[tuple[slice, Tensor, Tensor]]:
    """Random signs within each block, one block after the other, and the products with them."""
    signs = sign_probes(linear, 1, 0, purpose=purpose)[0]
    found = []
    for part in blocks.values():
        vector = torch.zeros_like(signs)
        vector[part] = signs[part]
        found.append((part, signs[part], linear.one(vector)))
    return found


def widened(error: Any, least: float) -> Any:
    """An error bar that is no smaller than what asymmetry asks for; NaN stays."""
    return np.maximum(error, least) if least else error
