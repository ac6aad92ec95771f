"""Free energies: one quantity measured in several ways that agree.

Conventions: k_B = 1, F(q) = -T ln P(q) along a coordinate q(x), F = -T ln of the integral of exp(-V/T) for a whole
landscape. Every estimate has a standard error; where a run is too short for one it is NaN, and `resolved` says so. All
runs made here are corrected by a Metropolis test, so that no result depends on a step size.

`profile` reads histograms, `mean_force` integrates the force at a frozen coordinate, `umbrella` runs and combines
windows, `mbar` combines runs of your own and takes averages at states that were not simulated,
`thermodynamic_integration` and `nonequilibrium_work` change a parameter, `work_average` takes works of your own,
`effective_potential` and `harmonic` need curvature alone; `entropy` and `local_learning_coefficient` are made from
energies.
"""

from __future__ import annotations

from landscape.probes.free_energy.effective import effective_potential
from landscape.probes.free_energy.forces import mean_force
from landscape.probes.free_energy.histograms import profile
from landscape.probes.free_energy.integration import thermodynamic_integration
from landscape.probes.free_energy.laplace import entropy, harmonic
from landscape.probes.free_energy.learning import local_learning_coefficient
from landscape.probes.free_energy.metadynamics import metadynamics
from landscape.probes.free_energy.reweighting import mbar
from landscape.probes.free_energy.windows import umbrella
from landscape.probes.free_energy.work import nonequilibrium_work
from landscape.probes.free_energy.work_averages import work_average
from landscape.probes.plotting.free_energy_plots import (
    plot_effective_potential,
    plot_entropy,
    plot_harmonic,
    plot_local_learning_coefficient,
    plot_mbar,
    plot_mean_force,
    plot_metadynamics,
    plot_nonequilibrium_work,
    plot_overlap,
    plot_profile,
    plot_thermodynamic_integration,
    plot_umbrella,
)

__all__ = [
    "effective_potential",
    "entropy",
    "harmonic",
    "local_learning_coefficient",
    "mbar",
    "mean_force",
    "metadynamics",
    "nonequilibrium_work",
    "plot_effective_potential",
    "plot_entropy",
    "plot_harmonic",
    "plot_local_learning_coefficient",
    "plot_mbar",
    "plot_mean_force",
    "plot_metadynamics",
    "plot_nonequilibrium_work",
    "plot_overlap",
    "plot_profile",
    "plot_thermodynamic_integration",
    "plot_umbrella",
    "profile",
    "thermodynamic_integration",
    "umbrella",
    "work_average",
]
