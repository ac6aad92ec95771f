"""Rates between states, in ways that survive recrossing."""

from __future__ import annotations

from landscape.probes.rates.counts import core_sets
from landscape.probes.rates.escape import escape_rate

__all__ = ["core_sets", "escape_rate"]
