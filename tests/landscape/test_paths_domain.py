"""Walls, periods and rest: paths stay where runs stay, take the short way round, and say when they are not done."""

import math
import warnings

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.boundaries.domain import domain_of
from landscape.errors import ConfigError
from landscape.paths import Path, auto_neb, bezier, neb, polychain, straight_line, string
from landscape.paths.automated_band import CYCLES, FULL_BATCH_CYCLES, cycles_of
from landscape.paths.convergence import remaining_fall
from landscape.potentials import Expression, Function, NetworkLoss, architectures

# the floor y = x^2 of a bent valley leads below the wall: within it the highest point is (0, 0.4), where V = 1.8
BENT = "(x**2 - 1)**2 + 5*(y - x**2)**2"
LEFT, RIGHT, WALL = [-1.0, 1.0], [1.0, 1.0], 0.4
SEARCHES = {
    "string": lambda *given, steps=150, **more: string(*given, pivots=9, steps=steps, lr=0.06, **more),
    "neb": lambda *given, steps=200, **more: neb(*given, pivots=9, steps=steps, lr=0.03, **more),
    "auto_neb": lambda *given, steps=150, **more: auto_neb(*given, cycles=[(0.06, steps)] * 2, **more),
    "bezier": lambda *given, steps=300, **more: bezier(*given, steps=steps, lr=0.2, points=8, pivots=17, **more),
    "polychain": lambda *given, steps=300, **more: polychain(*given, steps=steps, lr=0.2, points=8, bends=5, **more),
}


@pytest.mark.parametrize(("method", "given"), [*((method, "bounds") for method in SEARCHES), ("string", "Reflect")])
def test_paths_stay_within_walls(method, given):
    walls = {"y": (WALL, 3.0)}
    well = Expression(BENT, ["x", "y"], bounds=walls if given == "bounds" else None)
    more = {} if given == "bounds" else {"constraint": ls.Reflect(walls)}
    path = SEARCHES[method](well, LEFT, RIGHT, **more)
    assert float(path.pivots[:, 1].min()) == WALL
    assert path.highest(well)[1] == pytest.approx(1.8, abs=0.05 if method == "polychain" else 5e-3)
    assert ("constraint" in path.attributes["spec"]) == (given == "Reflect")
    if (method, given) == ("string", "bounds"):  # control: without walls the way leads below them
        free = SEARCHES[method](Expression(BENT, ["x", "y"]), LEFT, RIGHT)
        assert float(free.pivots[:, 1].min()) < 0.05
        assert free.highest(well)[1] == pytest.approx(1.0, abs=1e-2)


def test_the_gradient_at_a_wall_has_no_part_into_it():
    """The foot of a slope at a wall is a place of rest, and a search ends there by its tolerance."""
    slope = Expression("(x**2 - 1)**2 + y", ["x", "y"], bounds={"y": (0.0, 2.0)})
    with warnings.catch_warnings():  # the ends are minima within the walls: no warning
        warnings.simplefilter("error")
        path = string(slope, [-1.0, 0.0], [1.0, 0.0], pivots=5, steps=50, lr=0.01, tolerance=1e-9)
    assert int(path.history.cycle_steps[0]) == 0
    with pytest.warns(UserWarning, match="not a minimum"):  # control: without walls they are on a slope of 1
        string(slope, [-1.0, 0.0], [1.0, 0.0], pivots=5, steps=1, lr=0.01, constraint=ls.Reflect({"y": (None, None)}))


def test_a_given_path_begins_within_the_walls():
    well = Expression(BENT, ["x", "y"], bounds={"y": (WALL, 3.0)})
    path = string(well, Path([LEFT, [0.0, -1.0], RIGHT]), steps=1, lr=1e-9)
    assert path.pivots[1].tolist() == [0.0, WALL]


@pytest.mark.parametrize("method", SEARCHES)
def test_ends_beyond_a_wall_are_refused(method):
    well = Expression(BENT, ["x", "y"], bounds={"y": (WALL, 3.0)})
    with pytest.raises(ConfigError, match=r"the end of the path has y = 0.3, beyond the wall \(0.4, 3\)"):
        SEARCHES[method](well, LEFT, [1.0, 0.3])
    with pytest.raises(ConfigError, match="absorb"):
        SEARCHES[method](well, LEFT, RIGHT, constraint=ls.Absorb({"x": (-2, 2)}))


# -- periods ----------------------------------------------------------------------------------------------------------

TURN = ls.Periodic({"phi": (-math.pi, math.pi)})


@pytest.mark.parametrize("method", SEARCHES)
def test_periodic_coordinates_take_the_short_way(method):
    """Between phi = 2.2 and -2.2 the short way leads over the seam: 2 pi - 4.4, and not over the hill at 0."""
    well = Expression("(1 + cos(phi))**2/4 + r**2/2", ["phi", "r"])
    short, long = (
        SEARCHES[method](well, [2.2, 0.0], [-2.2, 0.0], end_tolerance=1.0, constraint=constraint, steps=3)
        for constraint in (TURN, None)
    )
    assert short.length == pytest.approx(2 * math.pi - 4.4, abs=1e-9)
    assert long.length == pytest.approx(4.4, abs=1e-9)  # control
    assert short.highest(well)[1] < 0.05 < 0.9 < long.highest(well)[1]
    assert float(short.pivots[-1, 0]) == pytest.approx(2 * math.pi - 2.2)


def test_paths_unfold_pivot_by_pivot():
    turns = domain_of(Function(lambda x: torch.cos(x[..., 0]), 1, ["phi"]), TURN)
    folded = torch.tensor([[0.0], [2.0], [-2.2], [-0.2], [1.8]], dtype=torch.float64)  # once round and on
    two = 2 * math.pi
    np.testing.assert_allclose(turns.unfolded(folded)[:, 0], [0.0, 2.0, two - 2.2, two - 0.2, two + 1.8])
    half = torch.tensor([[0.0], [math.pi]], dtype=torch.float64)
    assert turns.unfolded(half).tolist() == half.tolist()


def test_an_energy_without_the_period_is_refused():
    tilted = Expression("cos(phi) - 0.1*phi", ["phi"])
    with pytest.raises(ConfigError, match=r"V rises by 0.628319 in one period of 'phi'"):
        string(tilted, [-3.0], [3.0], pivots=5, steps=1, lr=0.1, constraint=TURN, end_tolerance=9)


def test_specifications_name_walls_and_periods():
    table = {"kind": "Expression", "energy": "1 - cos(3*phi)", "coordinates": ["phi"]}
    settings = {"pivots": 5, "steps": 1, "lr": 0.01, "constraint": TURN.spec()}
    third = 2 * math.pi / 3
    spec = {"task": "connect", "potential": table, "method": "string", "settings": settings}
    path = Path.from_dataset(ls.run(spec | {"start": [third], "end": [-third]}))
    assert path.length == pytest.approx(third)


# -- two pivots, and rest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [
    lambda v: string(v, LEFT, RIGHT, pivots=2, steps=1, lr=0.1),
    lambda v: neb(v, straight_line(LEFT, RIGHT), steps=1, lr=0.1),
    lambda v: bezier(v, LEFT, RIGHT, pivots=2, steps=1, lr=0.1),
])  # fmt: skip
def test_two_pivots_are_refused(call):
    with pytest.raises(ConfigError, match=r"3|pivots"):
        call(Expression(BENT, ["x", "y"]))


def test_a_band_that_did_not_come_to_rest_says_so():
    well = Expression(BENT, ["x", "y"])
    with pytest.warns(UserWarning, match=r"has not converged: pivot \d could still fall by about"):
        short = auto_neb(well, LEFT, RIGHT, cycles=[(0.01, 3)])
    with pytest.warns(UserWarning, match="last cycle still lowered the highest energy"):
        auto_neb(well, LEFT, RIGHT, cycles=[(0.01, 3), (0.01, 30)])
    long = auto_neb(well, LEFT, RIGHT, cycles=[(0.06, 150)] * 2)
    assert [bool(path.to_dataset().converged) for path in (short, long)] == [False, True]
    assert not bool(Path.from_dataset(short.to_dataset()).history.converged)
    assert long.highest(well)[1] == pytest.approx(1.0, abs=1e-2)
    assert short.highest(well)[1] > 3.0


def test_the_remaining_fall_of_a_straight_floor_is_exact():
    """Pivots at a height y above the floor of x^4 + 3 y^2 can fall by 3 y^2; at rest by nothing."""
    well = Expression("(x**2 - 1)**2 + 3*y**2", ["x", "y"])
    for height in (0.2, 0.05, 0.0):
        pivots = torch.tensor([[-1.0, 0.0], [-0.5, height], [0.0, height], [0.5, height], [1.0, 0.0]]).double()
        fall = remaining_fall(well, domain_of(well, None), pivots, None)
        assert float(fall[1]) == pytest.approx(3 * height**2, rel=1e-6, abs=1e-12)


def network(batch_size):
    x = torch.linspace(-1, 1, 32, dtype=torch.float64)[:, None]
    return NetworkLoss(architectures.mlp([1, 2, 1]), x, x**2, loss="mse", batch_size=batch_size, dtype=torch.float64)


def test_default_cycles_are_work():
    """Epochs of minibatches, and steps where an epoch would be one."""
    assert cycles_of(network(8), None) == CYCLES
    assert cycles_of(network(None), None) == cycles_of(Expression(BENT, ["x", "y"]), None) == FULL_BATCH_CYCLES
    assert [steps for _, steps in FULL_BATCH_CYCLES] == [1000, 500, 500, 500]
    loss = network(None)
    ends = [loss.position(), -loss.position()]
    path = auto_neb(loss, *ends, end_tolerance=99.0, tolerance=1e9)
    assert path.history.cycle_lr.values.tolist() == [0.1, 0.05, 0.01, 0.001]
    assert '"cycles": [[0.1, 1000], [0.05, 500]' in path.attributes["spec"]
