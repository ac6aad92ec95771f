"""Fluctuations of the energy: what they say of temperature, constrained directions and time scales.

Conventions: k_B = 1 and dx = -grad V dt + sqrt(2 T) dW. Every estimate `x` comes with `x_stderr`, made from correlated
draws such that x +- 1.96 x_stderr covers the truth in 95 of 100 runs.

References
----------
Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
Thermal-Like Noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.probes.fluctuations.currents import current

from landscape.probes.fluctuations.autocorrelation import autocorrelation, half_time
from landscape.probes.fluctuations.batch_temperature import batch_temperature
from landscape.probes.fluctuations.diffusion import diffusion
from landscape.probes.fluctuations.distance import distance
from landscape.probes.fluctuations.effective_temperature import effective_temperature
from landscape.probes.fluctuations.entropy_production import entropy_production
from landscape.probes.fluctuations.equilibration import equilibration
from landscape.probes.fluctuations.participation import participation_ratio
from landscape.probes.fluctuations.spikes import spikes
from landscape.probes.fluctuations.summary import summary
from landscape.probes.fluctuations.temperature_scan import temperature_scan
from landscape.probes.plotting.fluctuation_plots import (
    plot_autocorrelation,
    plot_fluctuation_relation,
    plot_half_time,
    plot_participation_ratio,
    plot_summary,
    plot_temperature_scan,
)
from landscape.probes.plotting.series_plots import (
    plot_current,
    plot_diffusion,
    plot_distance,
    plot_effective_temperature,
    plot_energy_distribution,
    plot_energy_trace,
    plot_equilibration,
    plot_spikes,
)

__all__ = [
    "autocorrelation",
    "batch_temperature",
    "current",
    "diffusion",
    "distance",
    "effective_temperature",
    "entropy_production",
    "equilibration",
    "half_time",
    "participation_ratio",
    "plot_autocorrelation",
    "plot_current",
    "plot_diffusion",
    "plot_distance",
    "plot_effective_temperature",
    "plot_energy_distribution",
    "plot_energy_trace",
    "plot_equilibration",
    "plot_fluctuation_relation",
    "plot_half_time",
    "plot_participation_ratio",
    "plot_spikes",
    "plot_summary",
    "plot_temperature_scan",
    "spikes",
    "summary",
    "temperature_scan",
]


def __getattr__(name: str) -> Any:
    """`current` counts in the bins of free energies, which need torch: loaded when it is asked for."""
    if name != "current":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from landscape.probes.fluctuations.currents import current

    return current
