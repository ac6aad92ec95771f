"""The picture of a probability current: its sense of rotation, and what is not known to flow is pale."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.quiver import Quiver

import landscape as ls
from landscape.errors import ConfigError
from landscape.probes import fluctuations
from landscape.probes.plotting.marks import ORANGE


def swirl(turn):
    drift = ls.Drift(f"-x + {turn}*y", f"-y - {turn}*x", coordinates=["x", "y"])
    settings = {"temperature": 0.5, "chains": 32, "steps": 800, "seed": 0, "backend": "batched"}
    run = ls.simulate(drift, ls.EulerMaruyama(dt=0.05), **settings)
    return fluctuations.current(run, bins=6, range=[(-1.5, 1.5), (-1.5, 1.5)])


def test_arrows_turn_with_the_current():
    """Clockwise for a positive turn; without one next to no arrow is sure of itself."""
    pytest.importorskip("matplotlib").use("agg")
    sure = {}
    for turn in (3.0, 0.0):
        found = swirl(turn)
        arrows = [one for one in fluctuations.plot_current(found).collections if isinstance(one, Quiver)]
        known = [one for one in arrows if np.allclose(one.get_facecolor()[0], to_rgba(ORANGE))]
        sure[turn] = sum(one.N for one in known)
        assert sum(one.N for one in arrows) == 36
    (one,) = [one for one in [*fluctuations.plot_current(swirl(3.0)).collections] if isinstance(one, Quiver)][1:]
    assert (one.X * one.V - one.Y * one.U).sum() < 0.0
    assert sure[3.0] > 18 > 2 * sure[0.0]


def test_other_results_are_refused():
    with pytest.raises(ConfigError):
        fluctuations.plot_current(swirl(1.0).drop_vars("density"))
