"""Rates between states, in ways that survive recrossing."""

from __future__ import annotations

from landscape.probes.rates.committor import committor, committor_test
from landscape.probes.rates.counts import core_sets
from landscape.probes.rates.escape import escape_rate
from landscape.probes.rates.flux import reactive_flux

__all__ = ["committor", "committor_test", "core_sets", "escape_rate", "reactive_flux"]
