"""Mobility that depends on position or direction, and in which sense its noise is taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Any, Final, Literal

import numpy as np
import sympy
import torch
from torch import Tensor

from landscape.boundaries.walls import PERIODIC, REFLECT, Walls
from landscape.checks import one_of
from landscape.common.arguments import guarded_class
from landscape.common.codec import Described
from landscape.common.positions import plain_array, unmasked
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.potentials.expression.potential import Expression, timeless
from landscape.potentials.expression.tape import compile_tape

__all__ = ["FormulaField", "Mobility", "MobilityField", "Terms"]

SHARES: Final = {"ito": 0.0, "stratonovich": 0.5, "anti-ito": 1.0}  # of the divergence
TINY: Final = 1e-12  # below 0, what rounding may make of a mobility that is 0 somewhere
FLAT: Final = 1e-14  # of an entry, below which a pivot is 0
ROUNDED: Final = 1e-12  # of a product of two entries: square of what rounding may leave beside such a pivot
PROBES: Final = 16  # points at which a matrix of formulas is looked at

Terms = tuple[Tensor, Tensor, Tensor]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Mobility(Described):
    r"""A mobility M(x), symmetric and positive, of overdamped dynamics:

    .. math:: dx = [-M \nabla V + c\, T\, \mathrm{div} M]\, dt + \sqrt{2 T M}\, dW \quad (\text{Ito}), \qquad
              (\mathrm{div} M)_i = \sum_j \partial M_{ij} / \partial x_j ,

    where c says in which sense the noise of :math:`dx = -M \nabla V dt + \sqrt{2 T M} dW` is taken: 1 "anti-ito" (also
    called isothermal, Haenggi-Klimontovich), 1/2 "stratonovich", 0 "ito". The stationary distributions are

    * "anti-ito": exp(-V/T) for every M;
    * where M = m(x) times a constant matrix: exp(-V/T) m^(c-1), that is exp(-V/T)/sqrt(m) and exp(-V/T)/m, and so in
      one dimension; where M is diagonal and each entry depends on its own coordinate alone the same with the product of
      the entries for m;
    * where M does not depend on x: exp(-V/T), whatever c.

    Relaxation in a quadratic V with the Hessian H has the rates of the eigenvalues of M H.

    Parameters
    ----------
    matrix : number, formula, mapping, nested sequence or callable
        M: a scalar; numbers or formulas by the coordinate's name, the entries of a diagonal M; one for each coordinate;
        a matrix of them; or ``callable(position)`` on tensors ``(chains, dim)`` that gives ``(chains,)``, ``(chains,
        dim)`` or ``(chains, dim, dim)``. M may be singular but nowhere negative. Without unit: 1 is plain dynamics.
    interpretation : {"anti-ito", "stratonovich", "ito"}
    parameters : mapping of str to float, optional
        Values of the other names in the formulas.
    divergence : callable, optional
        div M of a callable M, ``(chains, dim)``; by automatic differentiation unless given.

    Raises
    ------
    ConfigError, FormulaError, ShapeError
        If a setting makes no sense; when a run starts, if formulas do not fit its coordinates, the matrix is not
        symmetric, or negative at a start.
    NonFiniteError
        During a run, where M is negative, with the place.

    Notes
    -----
    Formulas run compiled and batched; callables batched, and each derivative that their divergence needs costs a
    backward pass. Euler-Maruyama is of strong order 1/2 with a mobility that varies, of weak order 1. At a reflecting
    boundary M must not couple the coordinate to others.

    References
    ----------
    Lau, Lubensky, "State-dependent diffusion: thermodynamic consistency and its path integral formulation", Phys. Rev.
    E 76, 011123 (2007), eqs. 1-14. Haenggi, Thomas, Phys. Rep. 88, 207 (1982).

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> rule = ls.EulerMaruyama(dt=0.01, mobility=ls.Mobility("1 + x**2"))
    >>> rule.obeys_boltzmann
    True
    >>> run = ls.simulate(spring, rule, temperature=0.5, chains=2000, steps=300, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 0.5) < 0.06
    True
    """

    matrix: Any
    interpretation: Literal["anti-ito", "stratonovich", "ito"] = "anti-ito"
    parameters: Mapping[str, float] | None = None
    divergence: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        one_of("interpretation", self.interpretation, tuple(SHARES))
        if self.divergence is not None and not (callable(self.divergence) and callable(self.matrix)):
            raise ConfigError("the divergence is given with a mobility that is a callable; that of formulas is known")
        if callable(self.matrix):
            if self.parameters:
                raise ConfigError("a callable keeps its own parameters: give none")
            return
        if isinstance(self.matrix, np.ndarray | Tensor):
            object.__setattr__(self, "matrix", plain_array(self.matrix, "a mobility").tolist())
        known = {} if self.parameters is None else self.parameters
        if not isinstance(known, Mapping) or not all(isinstance(value, Real) for value in known.values()):
            raise ConfigError(f"the parameters of a mobility are a mapping of names to numbers, got {known!r}")
        numbers = self._numbers()
        if numbers is not None:
            lowest = np.linalg.eigvalsh(numbers).min() if numbers.ndim == 2 else numbers.min()
            if not np.isfinite(numbers).all() or lowest < -TINY * np.abs(numbers).max():
                raise ConfigError(f"a mobility must be finite and not negative, got {self.matrix!r}")
            if numbers.ndim == 2 and not np.allclose(numbers, numbers.T, rtol=1e-12, atol=0):
                raise ConfigError(f"a mobility must be symmetric, got {self.matrix!r}")

    def _numbers(self) -> Any:
        """The whole of M as an array, None where formulas are among it."""
        given = list(self.matrix.values()) if isinstance(self.matrix, Mapping) else self.matrix
        try:
            values = unmasked(given)
        except ValueError:
            raise ShapeError(f"the rows of a mobility must have equal lengths, got {self.matrix!r}") from None
        if values.ndim > 2 or (values.ndim == 2 and values.shape[0] != values.shape[1]) or not values.size:
            raise ShapeError(f"a mobility is a number, one per coordinate or a square matrix, got {self.matrix!r}")
        return values.astype(float) if values.dtype.kind in "iuf" else None

    @property
    def share(self) -> float:
        """c, the part of the divergence that drives."""
        return SHARES[self.interpretation]

    @property
    def keeps_boltzmann(self) -> bool:
        """Whether the law is exp(-V/T)."""
        return self.share == 1.0 or (not callable(self.matrix) and self._numbers() is not None)

    def of(self, potential: Potential) -> MobilityField:
        """M as a field over the coordinates of a potential.

        Raises
        ------
        ConfigError, FormulaError, ShapeError
        """
        names = tuple(potential.coordinates or (f"x{i}" for i in range(potential.dim)))
        return _field(self, names)


class MobilityField(ABC):
    """M, what its divergence drives, and a root of M, at positions ``(chains, dim)``."""

    dim: int

    @abstractmethod
    def terms(self, position: Tensor) -> Terms:
        """M, c div M and L with L L^T = M; M and L as diagonals ``(chains, dim)`` or matrices ``(chains, dim, dim)``.

        The root is NaN where M is negative.
        """

    @abstractmethod
    def couples(self, coordinate: int, position: Tensor) -> bool:
        """Whether M has entries between this coordinate and others."""

    def check_walls(self, potential: Potential, position: Tensor, walls: Walls) -> None:
        """Refuse mirrors across which M couples, and periods that M does not have.

        Raises
        ------
        ConfigError
        """
        names = potential.coordinates or ()
        for d in range(self.dim):
            if walls.kinds[d] == REFLECT and self.couples(d, position):
                raise ConfigError(
                    f"the mobility couples {names[d]!r}, which has reflecting walls, to other coordinates: a path is "
                    "not mirrored there but pushed back along M. Take coordinates in which M is diagonal at the wall"
                )
            if walls.kinds[d] == PERIODIC:
                ends = []
                for end in (walls.lows[d], walls.highs[d]):
                    at = position.clone()
                    at[:, d] = float(end)
                    ends.append(self.matrix(at))
                if not torch.allclose(ends[0], ends[1], rtol=1e-6, atol=1e-9, equal_nan=True):
                    raise ConfigError(f"the mobility differs between the ends of the period of {names[d]!r}")

    def matrix(self, position: Tensor) -> Tensor:
        """M as matrices ``(chains, dim, dim)``."""
        values = self.terms(position)[0]
        return torch.diag_embed(values) if values.ndim == 2 else values

    def step(self, gradient: Tensor, terms: Terms, dt: Tensor, amplitude: Tensor, noise: Tensor) -> Tensor:
        """-dt M grad V + (amplitude^2/2) c div M + amplitude L xi, the displacement of a step, ``(chains, dim)``."""
        mobility, push, root = terms
        if mobility.ndim == 2:
            slope, shaken = mobility * gradient, root * noise
        else:
            slope = torch.einsum("nij,nj->ni", mobility, gradient)
            shaken = torch.einsum("nij,nj->ni", root, noise)
        return amplitude * (shaken + 0.5 * amplitude * push) - dt * slope

    def obstacle(self, position: Tensor) -> str | None:
        """What is wrong with M at some positions, None if nothing is."""
        matrices = self.matrix(position)
        lowest = torch.linalg.eigvalsh(matrices.nan_to_num()).amin(-1)
        lowest = torch.where(torch.isfinite(matrices).all(-1).all(-1), lowest, torch.nan)
        bad = torch.nonzero(~(lowest >= -TINY * matrices.abs().amax((-1, -2)).clamp_min(1.0)))
        if not len(bad):
            return None
        chain = int(bad[0])
        place = ", ".join(f"{value:g}" for value in position[chain].tolist()[:12])
        return f"the mobility is {float(lowest[chain]):g} at ({place}): expected 0 or more everywhere that chains go"


@lru_cache(maxsize=64)
def _field(mobility: Mobility, names: tuple[str, ...]) -> MobilityField:
    if callable(mobility.matrix):
        return CallableField(mobility, len(names))
    return FormulaField(mobility, names)


class FormulaField(MobilityField):
    """A mobility of formulas, as expressions for the compiled loops and as a program in torch.

    Attributes
    ----------
    entries : list of lists of expressions
        M, of a diagonal one its diagonal in one row.
    push : list of expressions
        c div M.
    """

    def __init__(self, mobility: Mobility, names: tuple[str, ...]) -> None:
        self.dim = len(names)
        symbols = [sympy.Symbol(name, real=True) for name in names]
        self.entries = _entries(mobility, names)
        full = len(self.entries) > 1 or self.dim == 1
        self.diagonal = (
            not full
            or self.dim == 1
            or all(self.entries[i][j] == 0 for i in range(self.dim) for j in range(self.dim) if i != j)
        )
        if self.diagonal and len(self.entries) > 1:
            self.entries = [[self.entries[i][i] for i in range(self.dim)]]
        share = sympy.Float(mobility.share)
        rows = (
            [[(entry, symbol)] for entry, symbol in zip(self.entries[0], symbols, strict=True)]
            if self.diagonal
            else [list(zip(row, symbols, strict=True)) for row in self.entries]
        )
        self.push = [share * sum((sympy.diff(e, s) for e, s in row), sympy.S.Zero) for row in rows]
        self.tape = compile_tape([entry for row in [*self.entries, self.push] for entry in row], names, {})
        if not self.diagonal:
            self._check_symmetric(mobility)

    def _check_symmetric(self, mobility: Mobility) -> None:
        points = np.random.default_rng(0).normal(size=(PROBES, self.dim))
        matrices = self.terms(torch.as_tensor(points))[0]
        if not torch.allclose(matrices, matrices.mT, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise ConfigError(f"a mobility must be symmetric, got {mobility.matrix!r}")

    @property
    def roots(self) -> list[sympy.Expr]:
        """Square roots of a diagonal M, NaN where it is negative."""
        return [_square_root(entry) for entry in self.entries[0]]

    def mixed(self, gradient: Sequence[sympy.Expr]) -> list[sympy.Expr]:
        """M grad V as expressions."""
        if self.diagonal:
            return [entry * slope for entry, slope in zip(self.entries[0], gradient, strict=True)]
        return [sum((e * g for e, g in zip(row, gradient, strict=True)), sympy.S.Zero) for row in self.entries]

    def terms(self, position: Tensor) -> Terms:
        """M, c div M and L."""
        values = torch.stack(self.tape.run(position), dim=-1)
        matrix, push = values[:, : -self.dim], values[:, -self.dim :]
        if not self.diagonal:
            matrix = matrix.reshape(*position.shape, self.dim)
        return matrix, push, root_of(matrix)

    def couples(self, coordinate: int, position: Tensor) -> bool:
        """Whether M has entries between this coordinate and others."""
        if self.diagonal:
            return False
        return any(entry != 0 for j, entry in enumerate(self.entries[coordinate]) if j != coordinate)


class CallableField(MobilityField):
    """A mobility that is a torch callable."""

    def __init__(self, mobility: Mobility, dim: int) -> None:
        self.dim, self.function, self.given, self.share = dim, mobility.matrix, mobility.divergence, mobility.share

    def _values(self, position: Tensor) -> Tensor:
        values = self.function(position)
        n, dim = position.shape
        if isinstance(values, Tensor) and values.shape == (n,):
            return values[:, None].expand(n, dim)
        if not isinstance(values, Tensor) or values.shape not in ((n, dim), (n, dim, dim)):
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ShapeError(f"the mobility gave {got}; expected ({n},), ({n}, {dim}) or ({n}, {dim}, {dim})")
        return values

    def terms(self, position: Tensor) -> Terms:
        """M, c div M and L."""
        with torch.no_grad():
            values = self._values(position.detach()).to(position)
        push = self.share * self._divergence(position) if self.share else torch.zeros_like(position)
        return values, push, root_of(values)

    def couples(self, coordinate: int, position: Tensor) -> bool:
        """Whether M is a matrix at all: what its entries are elsewhere is not known."""
        with torch.no_grad():
            return self._values(position).ndim == 3 and self.dim > 1

    def _divergence(self, position: Tensor) -> Tensor:
        if self.given is not None:
            found = self.given(position.detach())
            if not isinstance(found, Tensor) or found.shape != position.shape:
                got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
                raise ShapeError(f"the divergence gave {got}; expected {tuple(position.shape)}")
            return found.to(position)
        with torch.enable_grad():
            leaf = position.detach().requires_grad_(True)
            values = self._values(leaf)
            if not values.requires_grad:
                if not torch.equal(self._values(1.01 * position + 0.01), values):
                    raise ConfigError("the mobility varies, but torch cannot differentiate it: give its divergence")
                return torch.zeros_like(position)

            def slope(entry: Tensor, along: int) -> Tensor:
                (found,) = torch.autograd.grad(
                    entry.sum(), leaf, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                return found[:, along]

            axes = range(self.dim)
            if values.ndim == 2:
                return torch.stack([slope(values[:, d], d) for d in axes], dim=1)
            rows = [torch.stack([slope(values[:, d, e], e) for e in axes]).sum(0) for d in axes]
            return torch.stack(rows, dim=1)


def _entries(mobility: Mobility, names: tuple[str, ...]) -> list[list[sympy.Expr]]:
    """M as expressions: its rows, or its diagonal as one row."""
    given, dim = mobility.matrix, len(names)
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ConfigError(f"the mobility has entries for {sorted(given)}, the coordinates are {list(names)}")
        rows = [[given[name] for name in names]]
    elif isinstance(given, list | tuple):
        rows = [list(row) for row in given] if isinstance(given[0], list | tuple) else [list(given)]
    else:
        rows = [[given] * dim]
    if any(len(row) != dim for row in rows) or len(rows) not in (1, dim):
        raise ShapeError(f"the mobility is {len(rows)} x {len(rows[0])}, and there are {dim} coordinates")
    values = {sympy.Symbol(k, real=True): sympy.Float(v) for k, v in (mobility.parameters or {}).items()}

    def formula(entry: Any) -> sympy.Expr:
        if not isinstance(entry, str | sympy.Expr):
            if not isinstance(entry, Real):
                raise ConfigError(f"the entries of a mobility are formulas and numbers, got {entry!r}")
            return sympy.S.Zero if float(entry) == 0 else sympy.Float(float(entry))
        return timeless(Expression(entry, names, mobility.parameters)).expression.subs(values)

    return [[formula(entry) for entry in row] for row in rows]


def _square_root(value: sympy.Expr) -> sympy.Expr:
    if value.is_number:
        return sympy.sqrt(sympy.Max(value, sympy.Float(0.0)))
    kept = sympy.Piecewise((sympy.Max(value, sympy.Float(0.0)), value >= -TINY), (value, True))
    return sympy.sqrt(kept)


def root_of(mobility: Tensor) -> Tensor:
    """L with L L^T = M: roots of diagonals ``(chains, dim)``, lower triangles of matrices ``(chains, dim, dim)``.

    Zeros stand in the column of a pivot that is 0, and NaN where M is not positive semidefinite. The compiled loops do
    the same operations (`kernels.formula`).
    """
    if mobility.ndim == 2:
        return torch.where(mobility >= -TINY, mobility.clamp_min(0.0), torch.nan).sqrt()
    root = torch.zeros_like(mobility)
    dim = mobility.shape[-1]
    for j in range(dim):
        own = mobility[:, j, j]
        pivot = own
        for k in range(j):
            pivot = pivot - root[:, j, k] * root[:, j, k]
        flat, negative = pivot <= FLAT * own, ~(pivot >= -TINY * own.abs().clamp_min(1.0))
        root[:, j, j] = torch.where(negative, torch.nan, torch.where(flat, 0.0, pivot)).sqrt()
        for i in range(j + 1, dim):
            rest = mobility[:, i, j]
            for k in range(j):
                rest = rest - root[:, i, k] * root[:, j, k]
            nothing = rest * rest <= ROUNDED * (own * mobility[:, i, i]).abs().clamp_min(TINY)
            beside = torch.where(nothing, 0.0, torch.nan).to(rest)
            root[:, i, j] = torch.where(flat, beside, rest / root[:, j, j])
    return root
