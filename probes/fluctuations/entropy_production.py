"""Rate at which a driven run gives entropy to its heat bath."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from landscape.probes.estimation.describe import annotate, describe
from landscape.probes.estimation.series import as_series, finite_chains, first_kept, grouping
from landscape.probes.fluctuations.displacements import FEW_CHAINS, Displacements, halves_agree, pieces
from landscape.probes.registry import Reading, probe

__all__ = ["entropy_production"]

LAGS = 2 ** np.arange(20)  # over which the growth of the variance is looked at, of few chains


@probe(
    "fluctuations.entropy_production",
    Reading(
        'a run that recorded its entropy production, record.observables = ["entropy_production"], under forces that do '
        "not come from an energy (Drift)",
        ("entropy_production",),
    ),
    pictures=(),
)
def entropy_production(
    run: Any, *, temperature: ArrayLike | None = None, by: str = "temperature", discard: float | int = 0.1
) -> xr.Dataset:
    r"""Rate of entropy production of the heat bath, from the observable ``"entropy_production"`` of a run,

    .. math:: \Sigma = \frac1T \int f \circ dx = \frac1T \sum_k
              \tfrac12 [f(x_k) + f(x_{k+1})] \cdot (x_{k+1} - x_k), \qquad \sigma = \frac{\langle \Sigma(t) \rangle}{t},

    over every step of the run. In a steady state it is the total rate of entropy production, zero in equilibrium. Of
    Euler-Maruyama the sum is the logarithm of the probabilities of the path and of its reverse, up to
    (dt/4T) [|f(x_n)|^2 - |f(x_0)|^2], so that sigma is exactly that of the chain at its step size. Of f = A x it is
    sigma = tr[A (1 + B) S A^T]/(2 T) + tr A with B = 1 + A dt and the covariance S = B S B^T + 2 T dt.

    Parameters
    ----------
    run : Dataset or DataArray ``(chain, draw)``
        A run that recorded ``"entropy_production"``, at any cadence.
    temperature : float or array, shape ``(chain,)``, optional
        Overrides the coordinate `temperature`, by which chains are grouped.

    Returns
    -------
    xarray.Dataset
        On `temperature` or `chain`: ``rate`` with ``rate_stderr``, per time; ``stationary``, whether the halves agree;
        ``chains_used`` and ``chains_dropped`` (not finite).

    Notes
    -----
    Errors come from the scatter between chains, taken as independent; with fewer than 8 from that between 20 pieces of
    them, and NaN where the pieces are too short for the variance of Sigma to grow linearly. No gradients.

    References
    ----------
    Seifert, "Stochastic thermodynamics, fluctuation theorems and molecular machines", Rep. Prog. Phys. 75, 126001
    (2012), section 2. Lebowitz, Spohn, J. Stat. Phys. 95, 333 (1999).

    Examples
    --------
    A particle that is driven round a ring by f: sigma = f^2/T.

    >>> import landscape as ls
    >>> ring = ls.Drift("2", coordinates=["phi"])
    >>> run = ls.simulate(ring, ls.EulerMaruyama(dt=0.1), temperature=0.5, chains=200, steps=100, seed=0,
    ...                   constraint=ls.Periodic({"phi": (0.0, 6.283185307179586)}),
    ...                   record=ls.Record(10, ["entropy_production"]))
    >>> found = entropy_production(run, discard=0.0)
    >>> bool(abs(found.rate - 8.0) < 4.5 * found.rate_stderr)
    True
    """
    series = as_series(run, temperature, variable="entropy_production", shortest=9)
    groups, start = grouping(series, by), first_kept(discard, series.draws, 9)
    found: dict[str, Any] = {name: np.full(groups.count, np.nan) for name in ("rate", "rate_stderr")}
    found["stationary"] = np.zeros(groups.count, bool)
    found |= {name: np.zeros(groups.count, np.int64) for name in ("chains_used", "chains_dropped")}
    for g, chains, dropped in finite_chains(series, groups):
        found["chains_used"][g], found["chains_dropped"][g] = len(chains), dropped
        if not len(chains):
            continue
        values, spacing = series.read(chains)[:, start:], float(groups.spacing[g])
        parts = pieces(values)
        moves = Displacements.of(parts, LAGS[parts.shape[1] > LAGS], spacing)
        found["rate"][g], error = moves.velocity()
        if len(chains) >= FEW_CHAINS or moves.window(None) is not None:
            found["rate_stderr"][g] = error
        found["stationary"][g] = halves_agree(values, None, spacing)
    dataset = describe(
        found,
        groups,
        series,
        title="Entropy production",
        conventions="entropy that the bath takes up, sum of f o dx / T over every step; k_B = 1",
        cost="no gradients beyond those of the run",
    )
    units = f"1/{series.time_units}"
    for name in ("rate", "rate_stderr"):
        dataset[name].attrs.clear()
    return annotate(dataset, names={"rate": ("rate of entropy production", units)})
