"""Rates between states, in ways that survive recrossing.

`core_sets` counts transitions between cores, `escape_rate` compares dwell times with the slowest decay of correlations,
`reactive_flux` shoots from a dividing surface, `committor` from anywhere, and `committor_test` says what a coordinate
is worth; `forward_flux` needs no event to happen by itself. They agree where there are rates: between two states a
barrier of some T apart.

Conventions: k_B = 1; overdamped dx = -grad V dt + sqrt(2 T) dW; inertial dynamics have unit mass unless told. Rates
come with their standard errors, and where events are counted with the ends of the 95 % interval, which cover for few
events too.
"""

from __future__ import annotations

from landscape.probes.plotting.rate_plots import (
    plot_committor,
    plot_committor_test,
    plot_core_sets,
    plot_escape_rate,
    plot_forward_flux,
    plot_reactive_flux,
)
from landscape.probes.rates.committor import committor, committor_test
from landscape.probes.rates.counts import core_sets
from landscape.probes.rates.escape import escape_rate
from landscape.probes.rates.flux import reactive_flux
from landscape.probes.rates.forward_flux import forward_flux

__all__ = [
    "committor",
    "committor_test",
    "core_sets",
    "escape_rate",
    "forward_flux",
    "plot_committor",
    "plot_committor_test",
    "plot_core_sets",
    "plot_escape_rate",
    "plot_forward_flux",
    "plot_reactive_flux",
    "reactive_flux",
]
