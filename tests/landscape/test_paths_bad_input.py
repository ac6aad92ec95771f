"""What `landscape.paths` refuses, what it warns of, and how it is asked from specifications and the command line."""

import json
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.cli import app
from landscape.errors import ConfigError, LandscapeError, NonFiniteError, ShapeError
from landscape.paths import Path, auto_neb, bezier, neb, polychain, straight_line, string

A, B = [-1.0, 0.0], [1.0, 0.0]


@pytest.fixture
def well():
    return ls.potentials.Expression("(x**2 - 1)**2 + y**2", ["x", "y"])


# -- ends and pivots --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ends", "error", "match"), [
    ((A, [1.0]), ShapeError, "different shapes"),
    ((A, A), ConfigError, "coincide"),
    (([np.nan, 0.0], B), NonFiniteError, "coordinate 0 of the start is nan"),
    ((A, [1.0, np.inf]), NonFiniteError, "coordinate 1 of the end is inf"),
    (([A, A], B), ShapeError, "one position"),
    ((A, 3.0), ShapeError, "one position"),
    ((["a", "b"], B), ShapeError, "real numbers"),
    ((np.array(A) * 1j, B), ShapeError, "real numbers"),
    ((xr.Dataset(), B), ConfigError, "no last_position"),
    ((xr.Dataset({"last_position": (("chain", "coordinate"), np.zeros((3, 2)))}), B), ShapeError, "3 chains"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["straight_line", "string", "neb", "auto_neb", "bezier", "polychain"])
def test_ends(well, method, ends, error, match):
    calls = {
        "straight_line": lambda: straight_line(*ends, 5),
        "string": lambda: string(well, *ends, pivots=5, steps=1, lr=0.1),
        "neb": lambda: neb(well, *ends, pivots=5, steps=1, lr=0.1),
        "auto_neb": lambda: auto_neb(well, *ends, cycles=[(0.1, 1)]),
        "bezier": lambda: bezier(well, *ends, steps=1, lr=0.1),
        "polychain": lambda: polychain(well, *ends, steps=1, lr=0.1),
    }
    with pytest.raises(error, match=match):
        calls[method]()


@pytest.mark.parametrize(("pivots", "error", "match"), [
    ([A], ConfigError, "2 pivots or more"),
    ([A, B, B], ConfigError, "pivots 1 and 2 coincide"),
    ([A, [np.nan, 0.0]], NonFiniteError, "pivot 1"),
    (A, ShapeError, "pivot, coordinate"),
    ([[], []], ShapeError, "pivot, coordinate"),
    ([[0.0, 1.0], [0.0]], ShapeError, "equal length"),
    (torch.zeros(2, 2, dtype=torch.complex64), ShapeError, "real"),
])  # fmt: skip
def test_pivots(pivots, error, match):
    with pytest.raises(error, match=match):
        Path(pivots)


@pytest.mark.parametrize(("arguments", "match"), [
    ({"interpolation": "cubic"}, "interpolation"),
    ({"energies": [1.0]}, "one per pivot"),
    ({"names": ["x"]}, "names"),
    ({"buffers": {"mean": torch.zeros(3)}}, "one per pivot"),
])  # fmt: skip
def test_what_belongs_to_a_path(arguments, match):
    with pytest.raises(LandscapeError, match=match):
        Path([A, B], **arguments)


def test_positions_that_do_not_fit():
    path = straight_line(A, B, 3)
    with pytest.raises(ShapeError, match="last dimension to be 2"):
        path.project([1.0, 2.0, 3.0])
    for n in (0, 1.5, True):
        with pytest.raises(ConfigError):
            path.refine(n)
    with pytest.raises(ConfigError, match="pivots"):
        straight_line(A, B, 1)
    with pytest.raises(ConfigError, match="stored path"):
        Path.from_dataset(xr.Dataset())


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "match"), [
    ({"lr": 0.0}, "lr"), ({"lr": np.inf}, "lr"), ({"lr": "fast"}, "lr"), ({"lr": True}, "lr"),
    ({"steps": 0}, "steps"), ({"steps": 1.5}, "steps"), ({"pivots": 1}, "pivots"), ({"pivots": None}, "pivots"),
    ({"momentum": 1.0}, "momentum"), ({"momentum": -0.1}, "momentum"), ({"tolerance": -1.0}, "tolerance"),
    ({"tolerance": np.nan}, "tolerance"), ({"seed": -1}, "seed"), ({"pivots_at_once": 0}, "pivots_at_once"),
    ({"own_batches": 1}, "own_batches"),
])  # fmt: skip
@pytest.mark.parametrize("method", [string, neb])
def test_settings(well, method, settings, match):
    with pytest.raises(ConfigError, match=match):
        method(well, A, B, **({"pivots": 5, "steps": 1, "lr": 0.1} | settings))


@pytest.mark.parametrize(("call", "match"), [
    (lambda v: neb(v, A, B, pivots=5, steps=1, lr=0.1, spring=-1.0), "spring"),
    (lambda v: neb(v, A, B, pivots=5, steps=1, lr=0.1, climbing="yes"), "climbing"),
    (lambda v: auto_neb(v, A, B, cycles=[]), "at least one cycle"),
    (lambda v: auto_neb(v, A, B, cycles=[0.1]), "a cycle is"),
    (lambda v: auto_neb(v, A, B, cycles=[(0.1, "5 hours")]), "5 epochs"),
    (lambda v: auto_neb(v, A, B, cycles=[(0.1, 0)]), "steps"),
    (lambda v: auto_neb(v, A, B, cycles=[(0.1, 1)], insert=-1), "insert"),
    (lambda v: auto_neb(v, A, B, cycles=[(0.1, 1)], threshold=-1), "threshold"),
    (lambda v: bezier(v, A, B, steps=1, lr=0.1, bends=0), "bends"),
    (lambda v: bezier(v, A, B, steps=1, lr=0.1, points=0), "points"),
    (lambda v: string(3, A, B, pivots=5, steps=1, lr=0.1), "potential"),
    (lambda v: string(v, A, pivots=5, steps=1, lr=0.1), "two ends"),
    (lambda v: string(v, straight_line(A, B), B, pivots=5, steps=1, lr=0.1), "both ends"),
    (lambda v: string(v, [0.0], [1.0], pivots=5, steps=1, lr=0.1), "the potential has 2"),
])  # fmt: skip
def test_more_settings(well, call, match):
    with pytest.raises(LandscapeError, match=match):
        call(well)


def test_what_was_given_stays_as_it_was(well):
    start, end = np.array(A), torch.tensor(B)
    string(well, start, end, pivots=5, steps=3, lr=0.01)
    assert start.tolist() == A
    assert end.tolist() == B


# -- ends that are no minima ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["start", "end"])
def test_ends_that_are_no_minima_are_warned_of(well, which):
    off = [0.5, 0.0]
    norm = float(np.linalg.norm(well.gradient(off)))
    ends = (off, B) if which == "start" else (A, off)
    with pytest.warns(UserWarning, match=rf"the {which} of the path is not a minimum.*{norm:.3g}") as noted:
        string(well, *ends, pivots=5, steps=1, lr=0.01)
    assert len(noted) == 1
    assert noted[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        string(well, *ends, pivots=5, steps=1, lr=0.01, end_tolerance=2 * norm)  # control
        string(well, A, B, pivots=5, steps=1, lr=0.01)


# -- specifications and the command line ------------------------------------------------------------------------------


def stored_minimum(folder, name, position, potential):
    """A minimum as `minimize` stores it."""
    dataset = xr.Dataset(
        {"position": ("coordinate", np.array(position))}, attrs={"spec": json.dumps({"potential": potential})}
    )
    return ls.save(dataset, folder / name)


WELL = {"kind": "Expression", "energy": "(x**2 - 1)**2 + (y - 1 + x**2)**2", "coordinates": ["x", "y"]}


def test_a_specification_connects(tmp_path):
    spec = {
        "task": "connect", "potential": WELL, "start": A, "end": B, "method": "neb",
        "settings": {"pivots": 7, "steps": 300, "lr": 0.05},
    }  # fmt: skip
    path = ls.run(spec)
    direct = neb(ls.potentials.Expression(WELL["energy"], ["x", "y"]), A, B, pivots=7, steps=300, lr=0.05)
    np.testing.assert_array_equal(path.pivots, direct.pivots)
    assert json.loads(path.attrs["spec"]) == spec
    stored = json.loads(direct.attributes["spec"])
    assert stored["method"] == "neb"
    assert stored["settings"]["lr"] == 0.05
    again = ls.run(stored | {"start": A, "end": B})  # what a path says of its making, makes it
    np.testing.assert_array_equal(again.pivots, direct.pivots)


@pytest.mark.parametrize(("change", "match"), [
    ({"method": "dijkstra"}, "method"),
    ({"settings": {"steps": 3}}, "lr"),
    ({"settings": {"steps": 3, "lr": 0.1, "pivots": 5, "speed": 3}}, "speed"),
    ({"settings": {"steps": 3, "lr": 0.1, "pivots": 5, "progress": True}}, "progress"),
    ({"finish": B}, "finish"),
])  # fmt: skip
def test_specifications_that_make_no_sense(change, match):
    spec = {"task": "connect", "potential": WELL, "start": A, "end": B, "method": "string"}
    with pytest.raises(ConfigError, match=match):
        ls.run({"settings": {"steps": 3, "lr": 0.1, "pivots": 5}} | spec | change)


def test_connect_from_the_command_line(tmp_path, capsys):
    a = stored_minimum(tmp_path, "a.nc", A, WELL)
    b = stored_minimum(tmp_path, "b.nc", B, WELL)
    target = tmp_path / "path.nc"
    settings = ["--set", "cycles=[[0.05, 100], [0.02, 100]]", "-o", str(target)]
    assert app.run(["connect", str(a), str(b), *settings]) == 0
    assert "length" in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nc", "b.nc", "path.nc"]
    path = Path.load(target)
    assert path.pivots[[0, -1]].tolist() == [A, B]
    assert float(path.energies.max()) == pytest.approx(1.0, abs=0.05)
    assert app.run(["connect", str(a), str(b), *settings]) == 2  # there already
    refined = ["--method", "neb", "--set", "steps=200", "--set", "lr=0.05", "-o", str(tmp_path / "on.nc")]
    assert app.run(["connect", str(target), *refined]) == 0  # from a stored path
    assert len(Path.load(tmp_path / "on.nc")) == len(path)
    other = stored_minimum(tmp_path, "c.nc", B, WELL | {"energy": "x**2 + y**2"})
    assert app.run(["connect", str(a), str(other), "-o", str(tmp_path / "no.nc")]) == 2
    assert "different landscapes" in capsys.readouterr().err
    assert app.run(["connect", str(a), str(tmp_path / "none.nc"), "-o", str(tmp_path / "no.nc")]) == 4


def test_minima_of_a_network_from_different_seeds_are_connected(tmp_path):
    data = {"kind": "random_labels", "samples": 20, "features": 4, "classes": 3, "seed": 0}
    files = []
    for seed in (0, 1):
        module = {"kind": "mlp", "sizes": [4, 5, 3], "seed": seed}
        table = {"kind": "NetworkLoss", "module": module, "data": data}
        loss = ls.potentials.NetworkLoss(
            ls.potentials.architectures.from_spec(module), ls.potentials.datasets.from_spec(data)
        )
        files.append(stored_minimum(tmp_path, f"{seed}.nc", loss.position().numpy(), table))
    settings = ["--set", 'cycles=[[0.1, "2 epochs"]]', "--set", "end_tolerance=100", "--set", "potential.batch_size=10"]
    assert app.run(["connect", *map(str, files), *settings, "-o", str(tmp_path / "path.nc")]) == 0
    assert Path.load(tmp_path / "path.nc").history.cycle_steps.values.tolist() == [4]
