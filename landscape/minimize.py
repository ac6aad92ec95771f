"""`minimize`: from a start to a minimum, to a gradient tolerance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import scipy.optimize
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.engines.base import Plan, State
from landscape.engines.choice import make_engine
from landscape.errors import ConfigError, ShapeError
from landscape.integrators.adam import Adam
from landscape.integrators.sgd import SGD
from landscape.potentials.base import Potential
from landscape.potentials.checks import needs_energy
from landscape.potentials.network import NetworkLoss
from landscape.progress import progress_bar
from landscape.results import global_attributes

__all__ = ["minimize"]

Method = Literal["adam", "lbfgs", "gd"]
DEFAULT_STEPS = {"adam": 20_000, "gd": 20_000, "lbfgs": 5_000}
HISTORY = 200  # points of history that are kept


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
    method : {"adam", "lbfgs", "gd"}
        Adam; limited-memory BFGS (scipy's L-BFGS-B, in float64); plain gradient descent.
    tolerance : float
        On the gradient norm, in units of energy.
    steps : int, optional
        Iterations at most: 20,000 for "adam" and "gd", 5,000 for "lbfgs".
    lr : float, optional
        Rate of "adam" (3e-3) and "gd" (1e-2).
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.

    Returns
    -------
    xarray.Dataset
        ``position (coordinate)``, ``energy``, ``gradient_norm``, ``converged``; ``history_energy`` and
        ``history_gradient_norm`` on ``iteration``; buffers of batch normalisation. A `start` for `simulate`.

    Raises
    ------
    ConfigError, ShapeError

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2", ["x"])
    >>> minimum = ls.minimize(well, [0.5], method="lbfgs")
    >>> bool(minimum.converged), round(float(minimum.position[0]), 6)
    (True, 1.0)
    """
    from landscape.prepare import prepare

    if method not in DEFAULT_STEPS:
        raise ConfigError(f'method must be "adam", "lbfgs" or "gd", got {method!r}')
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance > 0:
        raise ConfigError(f"tolerance must be positive, got {tolerance!r}")
    needs_energy("minimize", potential)
    limit = DEFAULT_STEPS[method] if steps is None else steps
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"steps must be a positive integer, got {steps!r}")
    rate = (3e-3 if method == "adam" else 1e-2) if lr is None else lr
    integrator = SGD(lr=rate) if method == "gd" else Adam(lr=rate)
    whole = potential.full_batch() if isinstance(potential, NetworkLoss) else potential
    plan, state, described = prepare(whole, integrator, steps=limit, start=start)
    if len(state.position) != 1:
        raise ShapeError(f"minimize takes one start, got {len(state.position)}")
    with progress_bar(limit, f"minimum by {method}", show=progress) as report:
        run = _lbfgs if method == "lbfgs" else _first_order
        position, history = run(plan, state, limit, tolerance, report)
    spec: dict[str, Any] = {"task": "minimize", "method": method, "tolerance": tolerance, "steps": limit, "lr": rate}
    spec |= {key: value for key, value in described.items() if key in ("potential", "start")}
    return _dataset(potential, position, history, tolerance, spec)


def _first_order(
    plan: Plan, state: State, limit: int, tolerance: float, report: Any
) -> tuple[Tensor, list[tuple[int, float, float]]]:
    # Rate by stages of the run: the full one for three fifths, then a tenth of it reached in four steps of 10^(-1/4).
    factors = [1.0] * 6 + [10 ** (-k / 4) for k in range(1, 5)] if isinstance(plan.integrator, Adam) else [1.0] * 10
    history = [(0, *_energy_and_norm(plan.potential, state.position[0]))]
    every = max(1, limit // HISTORY)
    while state.step < limit and history[-1][2] > tolerance:
        stage = min(int(10 * state.step / limit), 9)
        engine, _ = make_engine(replace(plan, step_size=np.asarray(plan.step_size) * factors[stage]), state, "auto")
        stop = min(limit, state.step + every, -(-(stage + 1) * limit // 10))
        engine.advance(stop - state.step)
        engine.close()
        history.append((state.step, *_energy_and_norm(plan.potential, state.position[0])))
        report(state.step)
        if not np.isfinite(history[-1][1]):
            break
    return state.position[0], history


def _lbfgs(
    plan: Plan, state: State, limit: int, tolerance: float, report: Any
) -> tuple[Tensor, list[tuple[int, float, float]]]:
    potential, like = plan.potential, state.position[0]
    history: list[tuple[int, float, float]] = [(0, *_energy_and_norm(potential, like))]

    last: tuple[NDArray[np.float64], float, float] = (np.full(len(like), np.nan), np.nan, np.nan)

    def value_and_slope(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal last
        at = torch.from_numpy(x).to(like)
        energy, gradient = float(potential.energy(at)), potential.gradient(at)
        last = x.copy(), energy, float(gradient.norm())
        return energy, gradient.to("cpu", torch.float64).numpy()

    def note(intermediate_result: Any) -> None:
        x = np.array(intermediate_result.x)
        # as a rule the search ends where it looked last, and on a large data set a second look is dear
        seen = last[1:] if np.array_equal(x, last[0]) else _energy_and_norm(potential, torch.from_numpy(x).to(like))
        history.append((history[-1][0] + 1, *seen))
        report(history[-1][0])
        if history[-1][2] <= tolerance:
            raise StopIteration

    lows, highs = plan.walls.lows, plan.walls.highs
    options = {"maxiter": limit, "maxfun": 4 * limit, "ftol": 0.0, "gtol": tolerance / max(1.0, len(like)) ** 0.5}
    found = scipy.optimize.minimize(
        value_and_slope, like.cpu().double().numpy(), jac=True, method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(lows, highs), callback=note, options=options,
    )  # fmt: skip
    return torch.from_numpy(np.array(found.x)).to(like), history


def _energy_and_norm(potential: Potential, position: Tensor) -> tuple[float, float]:
    return float(potential.energy(position).detach()), float(potential.gradient(position).norm())


def _dataset(
    potential: Potential, position: Tensor, history: list[tuple[int, float, float]], tolerance: float, spec: Any
) -> xr.Dataset:
    energy, norm = _energy_and_norm(potential, position)
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
    if isinstance(potential, NetworkLoss) and potential.batchnorm in ("batch", "reestimate"):
        for name, value in potential.buffers_at(position).items():
            dims = tuple(f"{name}_dim_{i}" for i in range(value.ndim))
            attributes = {"long_name": f"buffer {name} re-estimated at the minimum", "units": "1"}
            variables[f"buffer_{name.replace('.', '_')}"] = (dims, value.cpu().numpy(), attributes)
    return xr.Dataset(variables, coordinates, global_attributes("minimum", spec))
