"""Local learning coefficient: how much energy thermal noise holds at a minimum, in units of T."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.boundaries.restraints import Restrain
from landscape.checks import finite_number, whole_number
from landscape.common.positions import one_position
from landscape.dynamics.simulate import simulate
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator
from landscape.integrators.euler_maruyama import EulerMaruyama
from landscape.integrators.mala import MALA
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.probes.estimation.describe import about
from landscape.probes.estimation.estimates import longer_needed
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.estimation.series import BoolArray, FloatArray
from landscape.probes.free_energy.averages import averages
from landscape.probes.registry import MINIMUM, probe
from landscape.recording.record import Record
from landscape.statistics import error_of_mean, pseudo_values, widen

__all__ = ["local_learning_coefficient"]

NOTABLE = 0.1  # share of the coefficient by which a change of a setting by a factor e must move it to be mentioned
FEWEST_DRAWS = 400  # 2 errors of x^4 hold the truth in 83 % with 100 independent draws, 91 % with 400
MOST_LEFT = 0.1  # share of the chains beyond which what is left is no average over one basin
SIGNIFICANT = 3.0  # standard errors that it must be beyond as well


@probe("free_energy.local_learning_coefficient", MINIMUM)
def local_learning_coefficient(
    potential: Potential, position: Any, *, temperature: float, dt: float, steps: int, chains: int,
    localization: float = 0.0, every: int | None = None, discard: float = 0.25, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    r"""Local learning coefficient at a minimum w,

    .. math:: \hat\lambda = \frac{\langle V \rangle - V(w)}{T} , \qquad T = \frac{1}{n \beta} ,

    the average over the law exp(-(V + gamma |x - w|^2 / 2)/T), where V is the mean loss of n samples. It is N/2 for N
    stiff directions of a quadratic. The spring acts on the dynamics, and is not part of V.

    Parameters
    ----------
    position : array ``(dim,)``, or a minimum
    temperature : float
        T = 1/(n beta); Lau et al. take beta = 1/ln n.
    dt : float
        Step size.
    steps : int
    chains : int
        8 at least; all start at `position`.
    localization : float
        gamma, in units of energy; T times the gamma of Lau et al. and of devinterp.
    every : int, optional
        Steps between draws; a 500th of the run by default.
    discard : float
        Share of the run left out at its start.

    Returns
    -------
    xarray.Dataset
        ``local_learning_coefficient`` with its standard error; ``chain_coefficient (chain)``; ``trace (chain, draw)``,
        (V - V(w))/T on the way, and ``distance (chain, draw)`` from w; ``temperature_sensitivity`` and
        ``localization_sensitivity``, d lambda / d ln T and d lambda / d ln gamma, with errors; ``left (chain)``, chains
        that went elsewhere; ``below``, share of draws below V(w); ``resolved``, also against the time in
        which the spring brings the distance back; attribute `warnings`, in words. Where that time, or the basin that
        more than a tenth of the chains left, makes the run no average over it, the error is NaN.

    Notes
    -----
    With all data at every step, steps are those of MALA and the step size leaves no error; with minibatches they are
    those of Euler and Maruyama (SGLD), and a warning says that neither the step size nor the noise of the batches is
    corrected: compare with half the step size. The sensitivities are fluctuations of the same run: C - lambda with
    C = cov(V, U)/T^2 and U = V + gamma |x - w|^2/2, and -cov(V, gamma |x - w|^2/2)/T^2. A chain has left if its second
    half lies more than 6 deviations (of the chains, by their quartiles) from the median, if its energy stays below
    V(w), or if it moved away all the time. Costs one gradient per step and chain.

    References
    ----------
    E. Lau, Z. Furman, G. Wang, D. Murfet, S. Wei, "The local learning coefficient: a singularity-aware complexity
    measure" (2023), arXiv:2308.12108, eq. (12).

    Examples
    --------
    >>> from landscape import potentials
    >>> found = local_learning_coefficient(potentials.Quadratic([1.0, 2.0, 4.0]), [0.0, 0.0, 0.0], temperature=0.1,
    ...                                    dt=0.3, steps=1000, chains=100, every=5)
    >>> z = (found.local_learning_coefficient - 1.5) / found.local_learning_coefficient_stderr
    >>> bool(abs(z) < 4.5), found.attrs["warnings"]
    (True, 'none')
    """
    needs_energy("local_learning_coefficient", potential)
    t = finite_number("temperature", temperature, above=0)
    whole_number("chains", chains, least=8)
    whole_number("steps", steps, least=16)
    if not 0 <= localization < np.inf or not 0 <= discard < 1:
        raise ConfigError(f"localization must not be negative, discard in [0, 1): got {localization!r}, {discard!r}")
    origin = one_position(position, potential.coordinates, potential.dim)
    minibatches = potential.sampler is not None
    rule: Integrator = EulerMaruyama(dt=dt) if minibatches else MALA(dt=dt)
    every = max(1, steps // 500) if every is None else whole_number("every", every, most=steps)
    run = simulate(
        potential, rule, steps=steps, start=np.tile(origin, (chains, 1)), temperature=t, seed=seed, progress=False,
        record=Record(every, observables=["energy", "distance"]), constraint=_springs(potential, origin, localization),
    )  # fmt: skip
    lowest = float(potential.energy(torch.as_tensor(origin).to(potential.device, potential.dtype)))
    trace, distance = (run.energy.to_numpy() - lowest) / t, run.distance.to_numpy().astype(float)
    kept = slice(int(discard * trace.shape[1]), None)
    found = averages(trace[None, :, kept])
    spring = 0.5 * localization / t * distance[:, kept] ** 2
    sensitivities = _sensitivities(trace[:, kept], spring)
    left = _left(trace[:, kept], distance)
    below = float((trace[:, kept] < -1e-9).mean())
    # Along directions that V leaves free the spring is slow, and V may change with them: the distance knows.
    far = averages(distance[None, :, kept] ** 2)
    settled = not localization or bool(far.resolved[0])
    times = float(found.correlation_times[0])
    resolved = bool(found.resolved[0]) and settled and left.mean() <= MOST_LEFT
    value, error = float(found.mean[0]), float(found.stderr[0])
    if not settled or left.mean() > MOST_LEFT:
        error = float("nan")
    short = "" if found.resolved[0] else _needed(float(found.correlation_times[0]), chains, steps)
    notes = _notes(value, error, sensitivities, left, below, bool(found.resolved[0]), short, minibatches)
    if not settled:
        notes.append(
            "the distance from the start is shorter than 20 of its correlation times in each chain, or 50 in all"
            + _needed(float(far.correlation_times[0]), chains, steps)
        )
    dataset = xr.Dataset(
        {"trace": (("chain", "draw"), trace), "distance": (("chain", "draw"), distance)}
        | {"chain_coefficient": ("chain", trace[:, kept].mean(axis=1)), "left": ("chain", left), "below": ((), below)}
        | {"resolved": ((), resolved and bool(found.agree[0])), "chains_agree": ((), bool(found.agree[0]))}
        | {"correlation_times": ((), times if settled else min(times, float(far.correlation_times[0])))}
        | {"local_learning_coefficient": ((), value), "local_learning_coefficient_stderr": ((), error)},
        {"step": ("draw", every * np.arange(1, trace.shape[1] + 1))},
        {"temperature": t, "localization": localization, "dt": dt, "steps": steps, "seed": seed,
         "energy_at_start": lowest, "method": type(rule).__name__, "discard": discard,
         "warnings": "; ".join(notes) or "none"},
    )  # fmt: skip
    dataset = with_steps_needed(dataset, Length(steps), chains)
    units = str(dataset.steps_needed.attrs["units"])
    for name, (change, change_error) in sensitivities.items():
        dataset = dataset.assign({name: ((), change), f"{name}_stderr": ((), change_error)})
    for name in map(str, dataset.data_vars):
        dataset[name].attrs = about(name, "length" if name == "distance" else "1")
    dataset.steps_needed.attrs["units"] = units
    return dataset


def _springs(potential: Potential, origin: FloatArray, stiffness: float) -> Any:
    """A spring to the origin: one for each coordinate of a formula, or one on the distance."""
    if not stiffness:
        return None
    if potential.loops == "formula":
        return [Restrain(d, float(centre), stiffness) for d, centre in enumerate(origin)]
    centre = torch.as_tensor(origin)

    def distance(position: Tensor) -> Tensor:
        # torch takes 0 for its slope at the centre
        length: Tensor = torch.linalg.vector_norm(position - centre.to(position), dim=-1)
        return length

    return Restrain(distance, 0.0, stiffness)


def _sensitivities(trace: FloatArray, spring: FloatArray) -> dict[str, tuple[float, float]]:
    """Derivatives by ln T and ln gamma from fluctuations, all in units of T: the jackknife over chains.

    A covariance that comes out low comes out with a low error: lengthened as for a scale. From few draws the largest
    of which have not been seen, nothing would be long enough.
    """
    heat, pulled = _covariances(trace, trace + spring), _covariances(trace, spring)
    values = {
        "temperature_sensitivity": (heat, heat - trace.mean(axis=1)),
        "localization_sensitivity": (pulled, -pulled),
    }
    enough = trace.size >= FEWEST_DRAWS
    return {
        name: (float(change.mean()), float(widen(np.abs(scale.mean()), error_of_mean(change))) if enough else np.nan)
        for name, (scale, change) in values.items()
    }


def _covariances(one: FloatArray, other: FloatArray) -> FloatArray:
    """Jackknife's pseudo-values, one per chain, of the covariance over all draws of all chains."""
    count = len(one)
    sums = np.stack([(one * other).mean(axis=1), one.mean(axis=1), other.mean(axis=1)])
    whole, others = sums.mean(axis=1), (sums.sum(axis=1)[:, None] - sums) / (count - 1.0)
    return pseudo_values(whole[0] - whole[1] * whole[2], others[0] - others[1] * others[2])


def _left(trace: FloatArray, distance: FloatArray) -> BoolArray:
    """Chains that went elsewhere."""
    half = trace.shape[1] // 2
    late = trace[:, half:].mean(axis=1)
    low, middle, high = np.quantile(late, [0.25, 0.5, 0.75])
    apart = np.abs(late - middle) > 6.0 * (high - low) / 1.349 + 1e-12
    fifths = np.stack([part.mean(axis=1) for part in np.array_split(distance, 5, axis=1)])
    spread = distance.std(axis=1) / np.sqrt(12.0)
    away = (np.diff(fifths, axis=0) > 0).all(axis=0) & (fifths[-1] - fifths[0] > 6.0 * spread)
    return np.asarray(apart | away | (trace[:, half:].max(axis=1) < 0.0))


def _needed(times: float, chains: int, steps: int) -> str:
    """How many steps would be enough, at least, as far as the run can tell."""
    longer = float(longer_needed(times, chains))
    return f": {longer * steps:.1g} steps or more are needed" if longer > 1 else ""


def _notes(
    value: float, error: float, sensitivities: dict[str, tuple[float, float]], left: BoolArray, below: float,
    resolved: bool, short: str, minibatches: bool,
) -> list[str]:  # fmt: skip
    notes = []
    for name, (change, change_error) in sensitivities.items():
        if abs(change) > max(NOTABLE * abs(value), SIGNIFICANT * change_error):
            notes.append(f"depends on {name.split('_')[0]}: {change:+.3g} per factor e")
    if left.any():
        notes.append(f"{int(left.sum())} of {len(left)} chains left the basin")
    if below > 0.01:
        notes.append(f"{100 * below:.0f} % of the draws lie below the start, which is no minimum")
    if not resolved:
        notes.append("chains are shorter than 20 correlation times each, or 50 together" + short)
    if value < -SIGNIFICANT * error:
        notes.append("negative")
    if minibatches:
        notes.append("minibatches: step size and noise of the batches are not corrected")
    return notes
