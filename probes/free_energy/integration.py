"""Thermodynamic integration: over temperature, over a parameter, or from one potential to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import finite_number, whole_number
from landscape.common.positions import plain_array
from landscape.errors import ConfigError
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.potentials.expression.potential import Expression
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.estimation.series import FloatArray
from landscape.probes.free_energy.averages import averages, chosen_values, curve
from landscape.probes.free_energy.quadrature import bends, integrate
from landscape.probes.free_energy.sampling import observed, tuned, with_parameter
from landscape.probes.registry import LANDSCAPE, probe

__all__ = ["Mixture", "slope_of", "thermodynamic_integration", "varied"]


@probe("free_energy.thermodynamic_integration", LANDSCAPE)
def thermodynamic_integration(
    potential: Potential | Sequence[Potential], parameter: str | None, values: Any, temperature: float | None = None, *,
    chains: int = 64, steps: int = 4000, every: int = 20, dt: float = 0.1, start: Any = None, seed: int = 0,
    reference: float = 0.0,
) -> xr.Dataset:  # fmt: skip
    r"""Free energy as an integral of averages: over a parameter, between two potentials, or over temperature.

    .. math:: \frac{dF}{d\lambda} = \Big\langle \frac{\partial V}{\partial \lambda} \Big\rangle_\lambda , \qquad
        \frac{d(F/T)}{d \ln T} = - \frac{\langle V \rangle_T}{T} .

    Between potentials A and B it is V = (1 - lambda) A + lambda B, whose slope is B - A. The fluctuations give the
    derivative of each average as well,

    .. math:: \frac{d^2F}{d\lambda^2} = \Big\langle \frac{\partial^2 V}{\partial \lambda^2} \Big\rangle
        - \frac{1}{T} \mathrm{var} \frac{\partial V}{\partial \lambda} , \qquad
        \frac{d \langle V \rangle}{dT} = \frac{\mathrm{var}\, V}{T^2} ,

    and the integral is that of the cubic with these values and derivatives on each interval, in the parameter or,
    where its values have one sign, in its logarithm.

    Parameters
    ----------
    potential : Potential, or a pair of them
    parameter : str, or None for a pair
        A parameter of an Expression, or "temperature".
    values : array
        Of the parameter, ascending or descending; of lambda for a pair, such as 0 to 1.
    temperature : float
        Not given over temperatures.
    chains, steps, every : int
        Per value; of the steps recorded, after a quarter as many for equilibration, every `every`-th counts.
    start : array ``(dim,)``, optional
        The potential's default.
    reference : float
        Free energy at the first value.

    Returns
    -------
    xarray.Dataset
        On the values: ``free_energy`` with `reference` at the first, and ``slope``, what was averaged;
        ``integration_error``, what the spacing of the values may cost, which is part of the standard error;
        ``acceptance``, ``resolved``, ``correlation_times``, ``chains_agree``. Over temperature also ``energy`` = <V>,
        ``entropy`` = (<V> - F)/T and ``heat_capacity`` = var(V)/T^2. Each with its standard error.

    Notes
    -----
    Steps are those of MALA, so the step size leaves no error. Errors come from the scatter between chains; NaN below 50
    correlation times. What happens between two values is judged by what the neighbors do not explain: a step that is
    much narrower than the spacing, and leaves no trace in the averages, can hide. Costs one gradient per step, chain
    and value.

    Examples
    --------
    F of a spring of stiffness k is (T/2) ln k + const.

    >>> from landscape import potentials
    >>> spring = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})
    >>> found = thermodynamic_integration(spring, "k", [1.0, 2.0, 3.0, 4.0], 0.1, steps=800)
    >>> off = found.free_energy - 0.05 * np.log(found.k)
    >>> bool((abs(off) <= 4.5 * found.free_energy_stderr).all())
    True
    """
    needs_energy("thermodynamic_integration", *one_or_two(potential))
    at = chosen_values("values", values, falling=True)
    whole_number("chains", chains, least=8)
    whole_number("every", every, most=whole_number("steps", steps))
    if parameter == "temperature":
        if temperature is not None or not isinstance(potential, Potential) or (at <= 0).any():
            raise ConfigError("over temperature give one potential and positive values, and no other temperature")
        return _over_temperature(potential, at, chains, steps, every, dt, start, seed, reference)
    t = finite_number("temperature", temperature, above=0)
    slopes, seconds, acceptance = [], [], []
    for number, value in enumerate(at):
        here = varied(potential, parameter, float(value))
        slope, second = slope_of(potential, parameter, float(value)), slope_of(potential, parameter, float(value), 2)
        origin = plain_array(here.default_start() if start is None else start, "start").astype(float)
        own_seed = (seed + 7919 * number) % 2**64
        rule = tuned(here, t, np.tile(origin, (chains, 1)), dt=dt, seed=own_seed)
        run = observed(
            here, rule, t, steps=steps, every=every, seed=own_seed,
            observables={
                name: lambda _, x, field=field: field.energy(x)
                for name, field in (("slope", slope), ("second", second)) if field is not None
            },
        )  # fmt: skip
        dt = float(rule.dt[0])
        slopes.append(run.slope.to_numpy())
        seconds.append(run.second.to_numpy() if second is not None else np.zeros_like(slopes[-1]))
        acceptance.append(float(run.acceptance.mean()))
    each = np.stack(slopes)
    found = averages(each)
    whole = integrate(at, each.mean(axis=2), bends(each, np.stack(seconds), t), found.known)
    dataset = curve(
        at,
        parameter or "lambda",
        {
            "free_energy": (whole.value + reference, "energy"),
            "free_energy_stderr": (whole.stderr, "energy"),
            "slope": found.mean,
            "slope_stderr": found.stderr,
            "integration_error": (whole.spacing, "energy"),
            "acceptance": np.array(acceptance),
            "resolved": found.resolved & found.agree,
            "correlation_times": found.correlation_times,
            "chains_agree": found.agree,
        },
        {"temperature": t, "method": "thermodynamic integration", "zero": "first value", "seed": seed},
    )
    return with_steps_needed(dataset, Length(steps), chains)


def _over_temperature(
    potential: Potential, at: FloatArray, chains: int, steps: int, every: int, dt: float, start: Any, seed: int,
    reference: float,
) -> xr.Dataset:  # fmt: skip
    """All temperatures as one batch of chains."""
    origin = plain_array(potential.default_start() if start is None else start, "start").astype(float)
    each = np.repeat(at, chains)
    rule = tuned(potential, each, np.tile(origin, (len(each), 1)), groups=len(at), dt=dt, seed=seed)
    run = observed(potential, rule, each, steps=steps, every=every, observables=["energy"], seed=seed)
    energies = run.energy.to_numpy().reshape(len(at), chains, -1)
    found = averages(energies)
    column = at[:, None]
    slope = -energies.mean(axis=2) / column**2
    # d<V>/dT = var(V)/T^2, which is that of V' = V and V'' = 0 at a temperature of -T^2
    whole = integrate(at, slope, -2.0 * slope / column - bends(energies, 0.0, -(at**2)) / column**2, found.known)
    free_energy, stderr = at * (whole.value + reference / at[0]), at * whole.stderr
    # F and <V> at one temperature share samples: their errors are added, which is on the safe side
    entropy, entropy_error = (found.mean - free_energy) / at, (found.stderr + stderr) / at
    deviations = (energies - found.mean[:, None, None]) ** 2
    spread = averages(deviations)
    dataset = curve(
        at,
        "temperature",
        {
            "free_energy": (free_energy, "energy"),
            "free_energy_stderr": (stderr, "energy"),
            "energy": (found.mean, "energy"),
            "energy_stderr": (found.stderr, "energy"),
            "entropy": entropy,
            "entropy_stderr": entropy_error,
            "heat_capacity": spread.mean / at**2,
            "heat_capacity_stderr": spread.stderr / at**2,
            "integration_error": (at * whole.spacing, "energy"),
            "acceptance": run.acceptance.to_numpy().reshape(len(at), chains).mean(axis=1),
            "resolved": found.resolved & found.agree,
            "correlation_times": found.correlation_times,
            "chains_agree": found.agree,
        },
        {"method": "thermodynamic integration over temperature", "reference": reference, "seed": seed},
    )
    return with_steps_needed(dataset, Length(steps), chains)


class Mixture(Potential):
    """(1 - share) A + share B."""

    def __init__(self, first: Potential, second: Potential, share: float) -> None:
        if first.dim != second.dim or first.bounds != second.bounds:
            raise ConfigError("two potentials must have the same dimension and the same walls to be mixed")
        if (first.dtype, first.device) != (second.dtype, second.device):
            raise ConfigError(
                f"two potentials must have one dtype and device to be mixed, got {first.dtype} on {first.device} and "
                f"{second.dtype} on {second.device}"
            )
        self.first, self.second, self.share = first, second, share
        self.dim, self.coordinates, self.bounds = first.dim, first.coordinates, first.bounds
        self.dtype, self.device = first.dtype, first.device
        self.placed = first.placed  # type: ignore[misc]

    def _tensor(self, position: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        return self.first._tensor(position)

    def _energy(self, position: Tensor) -> Tensor:
        return torch.lerp(self.first._energy(position), self.second._energy(position), self.share)

    def _gradient(self, position: Tensor) -> Tensor:
        return torch.lerp(self.first._gradient(position), self.second._gradient(position), self.share)

    def default_start(self) -> Tensor:
        """That of the first."""
        return self.first.default_start()


class _Difference(Potential):
    """B - A."""

    def __init__(self, first: Potential, second: Potential) -> None:
        self.first, self.second = first, second
        self.dim, self.coordinates, self.bounds = first.dim, first.coordinates, first.bounds
        self.dtype, self.device = first.dtype, first.device
        self.placed = first.placed  # type: ignore[misc]

    def _tensor(self, position: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        return self.first._tensor(position)

    def _energy(self, position: Tensor) -> Tensor:
        return self.second._energy(position) - self.first._energy(position)


def one_or_two(potential: Potential | Sequence[Potential]) -> Sequence[Potential]:
    """The landscape, or the two between which one goes, in a list."""
    if isinstance(potential, Potential):
        return [potential]
    if not isinstance(potential, Sequence) or [isinstance(one, Potential) for one in potential] != [True, True]:
        raise ConfigError("expected a potential with a parameter, or a pair of potentials [A, B] to go between")
    return potential


def varied(potential: Potential | Sequence[Potential], parameter: str | None, value: float) -> Potential:
    """The landscape at a value of its parameter, or so far on the way from one to another."""
    if isinstance(potential, Potential):
        if parameter is None:
            raise ConfigError("one potential needs the name of a parameter")
        return with_parameter(potential, parameter, value)
    first, second = potential
    ends: Any = first, second
    if {first.loops, second.loops} == {"formula"} and first.coordinates == second.coordinates:
        return Expression(
            (1 - sympy.Float(value)) * _numbers_in(ends[0]) + sympy.Float(value) * _numbers_in(ends[1]),
            first.coordinates or (),
            bounds=first.bounds,
        )
    return Mixture(first, second, value)


def slope_of(
    potential: Potential | Sequence[Potential], parameter: str | None, value: float, order: int = 1
) -> Potential | None:
    """A derivative of V with respect to the parameter as a function of position; None for a second one that is 0."""
    if isinstance(potential, Potential):
        here = with_parameter(potential, str(parameter), value)
        formula = here.expression  # type: ignore[attr-defined]
        slope = sympy.diff(formula, sympy.Symbol(str(parameter), real=True), order)
        if order > 1 and slope == 0:
            return None
        return Expression(slope, here.coordinates or (), here.parameters)  # type: ignore[attr-defined]
    first, second = potential
    return _Difference(first, second) if order == 1 else None


def _numbers_in(formula: Expression) -> sympy.Expr:
    """The formula with its parameters as numbers."""
    return formula.expression.subs({sympy.Symbol(k, real=True): sympy.Float(v) for k, v in formula.parameters.items()})
