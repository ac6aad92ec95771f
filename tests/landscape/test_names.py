"""Names that would stand for two things: of coordinates, parameters and buffers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import Expression, Function, NetworkLoss

MICRO, MU, LIGATURE = "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}", "\N{LATIN SMALL LIGATURE FI}t"


def test_two_spellings_of_one_name():
    """Python's parser reads the micro sign as mu: both together would be one symbol for two coordinates."""
    for make in (
        lambda: Expression("x**2", coordinates=[MICRO, MU]),
        lambda: Expression("x**2", ["x"], {LIGATURE: 1.0, "fit": 2.0}),
        lambda: Expression(f"{MU}**2", [MICRO], {MU: 1.0}), lambda: Function(lambda p: p.sum(-1), 2, [MICRO, MU]),
        lambda: ls.Drift("0", "0", coordinates=["fit", LIGATURE]),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="two spellings"):
            make()
    for wall in (MICRO, MU):
        one = Expression(f"{MU}**2/2", [MICRO, "x"], bounds={wall: (-1, 1)})
        assert one.coordinates == (MICRO, "x")  # spelled as given
        assert one.coordinate_index(MU) == one.coordinate_index(MICRO) == 0
        assert one.bounds == {MICRO: (-1.0, 1.0)}
    assert Expression("a*b", ["a", "b"]).coordinates == ("a", "b")  # the control


@pytest.mark.parametrize("name", ["energy", "distance", "time", "work", "temperature", "chain", "last_position"])
def test_coordinates_called_as_what_a_run_holds(name):
    one = Expression(f"{name}**2/2 + q**2", [name, "q"])
    assert one.energy([1.0, 0.0]) == 0.5  # no harm without a run
    with pytest.raises(ConfigError, match=f"coordinate cannot be called '{name}'"):
        ls.simulate(one, ls.EulerMaruyama(dt=0.1), steps=1)
    ls.simulate(Expression("energies**2/2", ["energies"]), ls.EulerMaruyama(dt=0.1), steps=1)  # the control


class Twins(nn.Module):
    """Two layers whose statistics differ in names by where the dot is."""

    def __init__(self):
        super().__init__()
        self.a, self.a_b = nn.Module(), nn.Module()
        self.a.b_norm, self.a_b.norm = nn.BatchNorm1d(2, affine=False), nn.BatchNorm1d(2, affine=False)
        self.out = nn.Linear(2, 1)

    def forward(self, x):
        return self.out(self.a_b.norm(torch.tanh(3.0 * self.a.b_norm(x) + 1.0)))


def test_buffers_whose_names_meet(tmp_path):
    """a.b_norm and a_b.norm were both stored as buffer_a_b_norm: the second was read back for both."""
    torch.manual_seed(0)
    x = torch.randn(32, 2, dtype=torch.float64) + 5.0
    loss = NetworkLoss(Twins().double(), x, torch.randn(32, 1, dtype=torch.float64), loss="mse", batchnorm="reestimate")
    start = loss.position()
    path = ls.paths.neb(loss, start, start + 1.0, pivots=3, steps=1, lr=1e-3, end_tolerance=np.inf)
    assert {name.rpartition(".")[0] for name in path.buffers} == {"a.b_norm", "a_b.norm"}
    path.save(tmp_path / "path.nc")
    back = ls.paths.Path.load(tmp_path / "path.nc")
    assert set(back.buffers) == set(path.buffers)
    for name, values in path.buffers.items():
        assert torch.equal(back.buffers[name], values), name
    apart = path.buffers["a.b_norm.running_mean"] - path.buffers["a_b.norm.running_mean"]
    assert apart.abs().min() > 1.0  # the control: one cannot stand for the other
    run = ls.simulate(loss, ls.SGD(lr=1e-3), steps=1)
    stored = {one.attrs["buffer"] for name, one in run.data_vars.items() if name.startswith("buffer_")}
    assert stored == set(path.buffers)
