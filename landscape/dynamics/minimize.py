"""`minimize`: from a start to a minimum, to a gradient tolerance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import scipy.optimize
import torch
import xarray as xr
from torch import Tensor

from landscape.boundaries.domain import Domain
from landscape.checks import finite_number, one_of, whole_number
from landscape.common.arguments import guarded
from landscape.common.notices import warn
from landscape.common.provenance import global_attributes
from landscape.dynamics.objective import Objective, newton
from landscape.engine.base import Plan, State
from landscape.engine.choice import make_engine
from landscape.engine.progress import progress_bar
from landscape.errors import ConfigError, ShapeError
from landscape.integrators.adam import Adam
from landscape.integrators.sgd import SGD
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.storage.buffers import stored_buffers
from landscape.storage.interruption import keeping

__all__ = ["minimize"]

Method = Literal["adam", "lbfgs", "gd", "newton"]
DEFAULT_STEPS = {"adam": 20_000, "gd": 20_000, "lbfgs": 5_000, "newton": 500}
# Rates by tenths of the run: for Adam the full one for six, then a tenth of it reached in four steps of 10^(-1/4).
_STAGES = {"adam": [1.0] * 6 + [10 ** (-k / 4) for k in range(1, 5)], "gd": [1.0] * 10}
HISTORY = 200  # points of history that are kept
SECOND_ORDER = 10  # one in so many iterations of "lbfgs", at the end, are Newton's


@guarded
def minimize(
    potential: Potential,
    start: Any = None,
    *,
    method: Method = "adam",
    tolerance: float = 1e-6,
    steps: int | None = None,
    lr: float | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Descend to a local minimum until the Euclidean norm of the gradient is at most `tolerance`.

    Full-batch always, inside the potential's bounds. "adam" lowers its rate tenfold in the last two fifths of the
    steps, in four equal stages, so that it settles.

    Parameters
    ----------
    potential : Potential
    start : optional
        As for `simulate`, one position.
    method : {"adam", "lbfgs", "gd", "newton"}
        Adam; limited-memory BFGS (SciPy's L-BFGS-B, in float64), which without boundaries goes on as "newton" where its
        line search fails, and in the last tenth of `steps`; plain gradient descent; Newton's method in a trust region
        by Hessian products (SciPy's trust-ncg), which has no boundaries.
    tolerance : float
        On the gradient norm, in units of energy. At a boundary what pushes into it does not count.
    steps : int, optional
        Iterations at most: 20,000 for "adam" and "gd", 5,000 for "lbfgs", 500 for "newton".
    lr : float, optional
        Rate of "adam" (3e-3) and "gd" (1e-2).
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.

    Returns
    -------
    xarray.Dataset
        ``position (coordinate)``, ``energy``, ``gradient_norm``, ``converged``; ``history_energy`` and
        ``history_gradient_norm`` on ``iteration``; buffers of batch normalisation. A `start` for `simulate`. An
        interruption comes with what was reached as its attribute `dataset`, from which another call can start.

    Raises
    ------
    ConfigError, ShapeError

    Warns
    -----
    UserWarning
        If the gradient is longer than `tolerance` in the end, with its norm and what to try.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2", ["x"])
    >>> minimum = ls.minimize(well, [0.5], method="lbfgs")
    >>> bool(minimum.converged), round(float(minimum.position[0]), 6)
    (True, 1.0)
    """
    from landscape.engine.prepare import prepare

    one_of("method", method, DEFAULT_STEPS)
    finite_number("tolerance", tolerance, above=0)
    needs_energy("minimize", potential)
    limit = whole_number("steps", DEFAULT_STEPS[method] if steps is None else steps)
    rate = (3e-3 if method == "adam" else 1e-2) if lr is None else lr
    integrator = SGD(lr=rate) if method == "gd" else Adam(lr=rate)
    whole = potential.full_batch()
    plan, state, described = prepare(whole, integrator, steps=limit, start=start)
    if len(state.position) != 1:
        raise ShapeError(f"minimize takes one start, got {len(state.position)}")
    if method == "newton" and plan.walls.folds:
        raise ConfigError('method="newton" knows no walls, and this potential has bounds: use "lbfgs"')
    spec: dict[str, Any] = {"task": "minimize", "method": method, "tolerance": tolerance, "steps": limit, "lr": rate}
    spec |= {key: value for key, value in described.items() if key in ("potential", "start")}
    with progress_bar(limit, f"minimum by {method}", show=progress) as report:
        begin = state.position[0]
        trail: _Trail | Objective
        if method in _STAGES:
            trail = steps_taken = _Trail(begin.clone(), [(0, *_energy_and_norm(plan, begin))])
            search = partial(_first_order, plan, state, _STAGES[method], steps_taken, limit, tolerance, report)
        else:
            trail = objective = Objective(
                plan.potential, begin, tolerance, lambda at, slope: _norm(plan, at, slope), report
            )
            search = partial(_second_order, plan, objective, limit, tolerance, first=method == "lbfgs")

        def result(position: Tensor) -> xr.Dataset:
            return _dataset(plan, potential, position, trail.history, tolerance, spec)

        with keeping(
            lambda: result(trail.position),
            lambda: f"interrupted at iteration {trail.history[-1][0]} of {limit} of the minimum",
        ):
            position = search()
    _warn(plan, method, lr, trail.history, tolerance, limit)
    return result(position)


@dataclass
class _Trail:
    """Where a search was last, and iteration, energy and gradient norm on the way."""

    position: Tensor
    history: list[tuple[int, float, float]]


def _first_order(
    plan: Plan, state: State, factors: list[float], trail: _Trail, limit: int, tolerance: float, report: Any
) -> Tensor:
    history = trail.history
    every = max(1, limit // HISTORY)
    while state.step < limit and history[-1][2] > tolerance:
        stage = min(int(10 * state.step / limit), 9)
        engine, _ = make_engine(replace(plan, step_size=np.asarray(plan.step_size) * factors[stage]), state, "auto")
        stop = min(limit, state.step + every, -(-(stage + 1) * limit // 10))
        engine.advance(stop - state.step)
        engine.close()
        trail.position = state.position[0].clone()
        history.append((state.step, *_energy_and_norm(plan, trail.position)))
        report(state.step)
        if not np.isfinite(history[-1][1]):
            break
    return state.position[0]


def _second_order(plan: Plan, objective: Objective, limit: int, tolerance: float, *, first: bool = True) -> Tensor:
    """L-BFGS while its line search gets on, then Newton's method, where there are no boundaries."""
    like = objective.start
    x = like.cpu().double().numpy()
    ends_second = not plan.walls.folds
    if first:
        most = limit - limit // SECOND_ORDER if ends_second else limit
        options = {"maxiter": most, "maxfun": 4 * limit, "ftol": 0.0, "gtol": tolerance / max(1.0, len(like)) ** 0.5}
        bounds = scipy.optimize.Bounds(plan.walls.lows, plan.walls.highs)
        found = scipy.optimize.minimize(
            objective, x, jac=True, method="L-BFGS-B", bounds=bounds, callback=objective.note, options=options
        )
        x = np.array(found.x)
    done, _, norm = objective.history[-1]
    if norm > tolerance and done < limit and ends_second:
        x = newton(objective, x, limit - done)
    return objective.tensor(x)


def _norm(plan: Plan, position: Tensor, gradient: Tensor) -> float:
    """Of the gradient, without what pushes into a boundary at which the position stands."""
    return float(Domain(plan.walls, []).inward(position[None], gradient[None]).norm())


def _energy_and_norm(plan: Plan, position: Tensor) -> tuple[float, float]:
    gradient = plan.potential.gradient(position)
    return float(plan.potential.energy(position).detach()), _norm(plan, position, gradient)


def _warn(
    plan: Plan, method: str, lr: float | None, history: list[tuple[int, float, float]], tolerance: float, limit: int
) -> None:
    """Say so if the minimum was not reached."""
    done, _, norm = history[-1]
    if norm <= tolerance:
        return
    advice = []
    if plan.dtype == torch.float32:
        advice.append("dtype=torch.float64, since gradients in float32 are rounded")
    if done >= limit:
        advice.append(f"more steps than {limit}")
    if method in ("adam", "gd"):
        advice.append(f'another lr than {"the default" if lr is None else lr}, or method="lbfgs"')
    elif method == "lbfgs" and not plan.walls.folds:
        advice.append('method="newton" from here (start=the result)')
    advice.append("weight decay where a loss has no minimum, a smooth activation where it lies at a kink of ReLU")
    warn(
        f"the minimum has not converged: the gradient has norm {norm:.3g} after {done} iterations of {method}, more "
        f"than tolerance = {tolerance:g}. Try {'; '.join(advice)}"
    )


def _dataset(
    plan: Plan, potential: Potential, position: Tensor, history: list[tuple[int, float, float]], tolerance: float,
    spec: Any,
) -> xr.Dataset:  # fmt: skip
    energy, norm = _energy_and_norm(plan, position)
    table = np.array(history)
    about = {"units": "energy"}
    variables: dict[str, Any] = {
        "position": ("coordinate", position.cpu().numpy(), {"long_name": "position of the minimum", "units": "1"}),
        "energy": ((), energy, about | {"long_name": "potential energy at the minimum"}),
        "gradient_norm": ((), norm, about | {"long_name": "Euclidean norm of the gradient at the minimum"}),
        "converged": ((), norm <= tolerance, {"long_name": "gradient norm within the tolerance", "units": "1"}),
        "history_energy": ("iteration", table[:, 1], about | {"long_name": "potential energy"}),
        "history_gradient_norm": ("iteration", table[:, 2], about | {"long_name": "Euclidean norm of the gradient"}),
    }
    coordinates: dict[str, Any] = {
        "iteration": ("iteration", table[:, 0].astype(int), {"long_name": "iteration", "units": "1"})
    }
    if potential.coordinates is not None:
        labels = np.array(potential.coordinates, dtype=np.str_)
        coordinates["coordinate"] = ("coordinate", labels, {"long_name": "coordinate"})
    variables |= stored_buffers(potential.statistics(position), "minimum")
    return xr.Dataset(variables, coordinates, global_attributes("minimum", spec))
