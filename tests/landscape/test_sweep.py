"""Sweeps: the table, its seeds and names, what comes back, and what is refused."""

import contextlib
import hashlib
import importlib
import json
import os
import re

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.cli.app import run as command
from landscape.errors import ConfigError, LandscapeError, ShapeError, StorageError
from landscape.workflows import run_costs
from landscape.workflows.points import array
from landscape.workflows.points.results import open_sweep
from landscape.workflows.points.table import make_table, point_seed
from landscape.workflows.points.tasks import is_complete, one_thread, run_point

MODULE = importlib.import_module("landscape.workflows.sweep")

SPEC = {
    "potential": {"kind": "DoubleWell", "height": 1.0},
    "integrator": {"kind": "EulerMaruyama", "dt": 1e-2},
    "steps": 40,
    "chains": 3,
    "temperature": 0.2,
    "record": {"every": 10},
    "seed": 7,
}
OVER = {"temperature": [0.1, 0.2, 0.4], "integrator.dt": [1e-3, 1e-2]}
VALLEY = {"task": "minimize", "potential": {"kind": "Valley", "g": "1 + y**2"}, "tolerance": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    ls.sweep(SPEC, OVER, output=folder)
    return folder


@pytest.fixture
def opened(monkeypatch):
    """Files that the lazy arrays open."""
    seen = []

    def record(file):
        seen.append(file)
        return original(file)

    original = array.open_result
    monkeypatch.setattr(array, "open_result", record)
    return seen


# -- the table --------------------------------------------------------------------------------------------------------


def test_points_are_all_combinations_the_last_key_fastest():
    table = make_table(SPEC, OVER)
    values = [tuple(point.values.values()) for point in table.points]
    assert values == [(0.1, 1e-3), (0.1, 1e-2), (0.2, 1e-3), (0.2, 1e-2), (0.4, 1e-3), (0.4, 1e-2)]
    spec = json.loads(table.points[3].text)
    assert spec["integrator"] == {"kind": "EulerMaruyama", "dt": 1e-2}
    assert spec["temperature"] == 0.2
    assert [point.index for point in table.points] == list(range(6))


def test_a_name_is_the_hash_of_the_specification_whatever_the_order_of_its_keys():
    backwards = {key: SPEC[key] for key in reversed(SPEC)} | {"integrator": {"dt": 1.0, "kind": "EulerMaruyama"}}
    names = [point.file for point in make_table(SPEC, OVER).points]
    assert names == [point.file for point in make_table(backwards, OVER).points]
    nested = {"temperature": (0.1, 0.2, 0.4), "integrator": {"dt": np.array([1e-3, 1e-2])}}
    assert names == [point.file for point in make_table(SPEC, nested).points]
    assert names != [point.file for point in make_table(SPEC | {"steps": 41}, OVER).points]  # control
    text = make_table(SPEC, OVER).points[0].text
    assert names[0] == hashlib.sha256(text.encode()).hexdigest() + ".nc"
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_seeds_derive_from_the_seed_and_the_place_in_the_table():
    seeds = [json.loads(point.text)["seed"] for point in make_table(SPEC, OVER).points]
    assert seeds == [point_seed(7, index) for index in range(6)]
    numpy_says = np.random.SeedSequence(7, spawn_key=(3,)).generate_state(1, np.uint64)[0]
    assert seeds[3] == int(numpy_says) // 2
    assert len(set(seeds)) == 6
    assert len({point_seed(seed, index) for seed in range(30) for index in range(30)}) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    other = [json.loads(point.text)["seed"] for point in make_table(SPEC | {"seed": 8}, OVER).points]
    assert not set(seeds) & set(other)


def test_a_swept_seed_is_used_as_it_is_and_other_seeds_do_not_change():
    network = {
        "potential": {"kind": "NetworkLoss", "module": {"kind": "mlp", "seed": 3}, "data": {"seed": 4}},
        "integrator": {"kind": "SGD", "lr": 0.1},
        "steps": 1,
    }
    specs = [json.loads(p.text) for p in make_table(network, {"seed": [1, 2], "temperature": [0.1, 0.2]}).points]
    assert [spec["seed"] for spec in specs] == [1, 1, 2, 2]
    assert all(spec["potential"] == network["potential"] for spec in specs)
    assert "seed" not in json.loads(make_table(VALLEY, {"method": ["gd"]}).points[0].text)  # that task takes none


def test_keys_may_change_together_and_points_may_be_listed():
    pairs = make_table(SPEC, {"temperature,integrator.dt": [[0.1, 1e-3], [0.2, 5e-4]], "chains": [1, 2]})
    listed = make_table(SPEC, [point.values for point in pairs.points])
    assert [tuple(point.values.values()) for point in pairs.points] == [
        (0.1, 1e-3, 1), (0.1, 1e-3, 2), (0.2, 5e-4, 1), (0.2, 5e-4, 2),
    ]  # fmt: skip
    assert [point.file for point in pairs.points] == [point.file for point in listed.points]


def test_what_is_given_is_left_alone():
    spec, over = json.loads(json.dumps(SPEC)), {"potential.height": [1.0, 2.0]}
    make_table(spec, over)
    assert spec == SPEC
    assert over == {"potential.height": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"temprature": [0.1]}, "unknown key 'temprature'; expected one of .*temperature"),
        ({"integrator.dtt": [0.1]}, "unknown key 'integrator.dtt'; expected one of kind, dt"),
        ({"integrater.dt": [0.1]}, "unknown key 'integrater'; .*Did you mean 'integrator'"),
        ({"potential.kind": ["Nothing", "Something"]}, "unknown kind 'Nothing'"),
        ({"temperature": []}, r"over\['temperature'\] is an empty list"),
        ({"temperature": 0.1}, r"over\['temperature'\] must be a list of values, got 0.1"),
        ({"backend": "auto"}, "must be a list of values, got 'auto'"),
        ({"temperature": {0.1, 0.2}}, "must be a list of values, got {"),
        ({"temperature": np.array(0.1)}, "must be a list of values, got array"),
        ({"temperature": [0.1, 0.2, 0.1]}, "a value twice"),
        ({"steps.more": [1]}, "the specification has the value 40 for 'steps', which is not a table"),
        ({"temperature,chains": [[0.1, 2], [0.2]]}, r"rows of 2 values, got the row \[0.2\]"),
        ({"temperature": [0.1], "temperature,chains": [[0.2, 1]]}, "name each key to sweep once"),
        ({"start": [object()]}, "must be plain data"),
        ({}, "at least one"),
        ([], "over is a table"),
        ("temperature", "over is a table"),
        ([{"temperature": 0.1}, {"chains": 2}], "all points of a sweep name the same keys"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(over, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        ls.sweep(SPEC, over, output=tmp_path / "out")
    assert not list(tmp_path.glob("out/*.nc"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SPEC | {"seed": -1}, "seed must be"),
        (SPEC | {"task": "dance"}, "unknown task 'dance'"),
        (SPEC | {"start": torch.nn.Identity()}, "plain data"),
        ("valley.toml", "a specification"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused(spec, said):
    with pytest.raises(ConfigError, match=said):
        ls.sweep(spec, {"temperature": [0.1]})


# -- results ----------------------------------------------------------------------------------------------------------


def test_swept_keys_are_dimensions_of_what_the_runs_recorded(folder):
    dataset = open_sweep(folder)
    assert dataset.energy.dims == ("temperature", "dt", "chain", "draw")
    assert dataset.temperature.values.tolist() == [0.1, 0.2, 0.4]
    assert dataset.dt.values.tolist() == [1e-3, 1e-2]
    assert dataset.dt.attrs == {"long_name": "dt", "units": "time", "key": "integrator.dt"}
    assert dataset.step.dims == ("draw",)
    assert dataset.time.dims == ("temperature", "dt", "draw")
    assert json.loads(dataset.attrs["spec"]) == SPEC
    for i, point in enumerate(make_table(SPEC, OVER).points):
        direct = ls.run(json.loads(point.text))
        here = dataset.isel(temperature=i // 2, dt=i % 2)
        assert np.array_equal(here.position, direct.position)
        assert np.array_equal(here.time, direct.time)
        with ls.open(folder / point.file) as stored:
            assert json.loads(stored.attrs["spec"])["seed"] == point_seed(7, i)


def test_without_an_output_the_results_are_in_memory(folder):
    dataset = ls.sweep(SPEC, OVER)
    assert np.array_equal(dataset.energy, open_sweep(folder).energy)
    assert np.array_equal(dataset.time, open_sweep(folder).time)


def test_only_files_of_the_points_asked_for_are_read(folder, opened):
    dataset = open_sweep(folder)
    assert dataset.nbytes > 0
    assert dataset.energy.isel(temperature=0).shape == (2, 3, 4)
    assert not opened
    row = dataset.energy.sel(temperature=0.2, dt=1e-3)
    assert row[1].values.shape == (4,)
    assert opened == [str(folder / make_table(SPEC, OVER).points[2].file)]


def test_indexing_is_that_of_the_loaded_array(folder):
    lazy, loaded = open_sweep(folder), open_sweep(folder).load()
    for index in [
        {"temperature": [2, 0], "draw": slice(None, None, -1)},
        {"dt": -1, "chain": [0, 2], "draw": 1},
        {"temperature": slice(1, None), "dt": slice(0, 0)},
        {"temperature": xr.DataArray([0, 2], dims="pair"), "dt": xr.DataArray([1, 0], dims="pair")},
    ]:
        assert lazy.energy.isel(index).identical(loaded.energy.isel(index))


@pytest.mark.always
def test_a_second_call_runs_nothing_and_replaces_what_is_damaged(tmp_path):
    first = ls.sweep(SPEC, OVER, output=tmp_path).load()
    paths = sorted(tmp_path.glob("*.nc"))
    before = [path.stat().st_mtime_ns for path in paths]
    damaged = paths[2].read_bytes()
    paths[2].write_bytes(damaged[:3000])
    os.remove(paths[4])
    assert ls.sweep(SPEC, OVER, output=tmp_path).identical(first)
    after = [path.stat().st_mtime_ns for path in paths]
    assert [i for i in range(6) if before[i] != after[i]] == [2, 4]
    assert paths[2].read_bytes() == damaged


def test_a_task_does_nothing_twice(tmp_path):
    point, target = make_table(SPEC, OVER).points[0], tmp_path / "point.nc"
    assert run_point(point.text, str(target)) is None
    made = target.stat().st_mtime_ns
    assert is_complete(target)
    assert run_point(point.text, str(target)) is None
    assert target.stat().st_mtime_ns == made


def test_a_point_that_fails_is_a_gap_and_is_listed(tmp_path):
    over = {"integrator.dt": [1e-2, -1.0, 1e-3]}
    dataset = ls.sweep(SPEC, over, output=tmp_path)
    assert dataset.failed.values.tolist() == [False, True, False]
    assert dataset.dt.values.tolist() == [1e-2, -1.0, 1e-3]
    assert np.isnan(dataset.energy[1]).all()
    assert np.isfinite(dataset.energy[[0, 2]]).all()
    (failure,) = json.loads(dataset.attrs["failures"])
    assert failure == {
        "index": 1, "values": {"integrator.dt": -1.0}, "error": "ConfigError",
        "message": "dt must be finite and positive, got -1.0",
    }  # fmt: skip
    assert "Traceback" in json.loads((tmp_path / "failures.json").read_text())[0]["traceback"]
    with_whole_numbers = ls.sweep(SPEC | {"integrator": {"kind": "MALA", "dt": 0.1}}, over)
    assert np.isnan(with_whole_numbers.acceptance[1]).all()


def test_a_table_may_grow_in_its_folder_and_nothing_else_may(tmp_path):
    ls.sweep(SPEC, OVER, output=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.nc")}
    longer = ls.sweep(SPEC, OVER | {"temperature": [*OVER["temperature"], 0.8]}, output=tmp_path)
    assert longer.sizes["temperature"] == 4
    assert not longer.failed.any()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for spec, over in [(SPEC | {"steps": 50}, OVER), (SPEC, OVER), (SPEC, {"seed": [1, 2]})]:
        with pytest.raises(ConfigError, match="holds another sweep, of 8 points over temperature, "):
            ls.sweep(spec, over, output=tmp_path)


def test_results_that_differ_in_shape_are_told_and_kept(tmp_path):
    bowls = {"potential": {"kind": "Quadratic", "stiffness": [1.0]}}
    with pytest.raises(ShapeError, match=r"'coordinate' has length 1 at .*=\[1.0\], and 2 at .*=\[1.0, 2.0\]"):
        ls.sweep(SPEC | bowls, {"potential.stiffness": [[1.0], [1.0, 2.0]]}, output=tmp_path)
    assert len(list(tmp_path.glob("*.nc"))) == 2


def test_shorter_results_are_filled_up():
    dataset = ls.sweep(SPEC | {"integrator": {"kind": "MALA", "dt": 0.1}}, {"steps": [40, 80, 20], "seed": [1]})
    assert dataset.energy.sizes["draw"] == 8
    assert dataset.step.values.tolist() == list(range(10, 90, 10))
    assert np.isfinite(dataset.energy).sum(["seed", "chain", "draw"]).values.tolist() == [12, 24, 6]
    assert np.isfinite(dataset.energy[2, 0, :, :2]).all()
    alone = ls.run(SPEC | {"integrator": {"kind": "MALA", "dt": 0.1}, "seed": 1})
    assert np.array_equal(dataset.energy[0, 0, :, :4], alone.energy)
    assert dataset.acceptance.dims == ("steps", "seed", "chain")
    minima = ls.sweep(VALLEY | {"tolerance": 1e-3, "steps": 1000}, {"start": [[1.0, 0.2], [0.5, 0.1], [0.0, 0.0]]})
    lengths = np.isfinite(minima.history_energy).sum("iteration").values.tolist()
    assert len(set(lengths)) == 3
    assert minima.sizes["iteration"] == max(lengths)


def test_names_that_would_collide():
    energies = {"kind": "Expression", "energy": "x**2", "coordinates": ["x"]}
    ramp = {"kind": "ramp", "start": 0.1, "end": 0.2, "duration": 1.0}
    dataset = ls.sweep(
        SPEC | {"potential": energies},
        {
            "potential.energy": ["x**2", "x**4/4 + x**2"],
            "temperature": [ramp, ramp | {"end": 0.3}],
            "start": [[0.0], [1.0]],
        },
    )
    assert dataset.energy.dims == ("potential.energy", "temperature", "start", "chain", "draw")
    assert dataset["potential.energy"].values.tolist() == ["x**2", "x**4/4 + x**2"]
    assert dataset.start.values.tolist() == ["[0.0]", "[1.0]"]
    assert json.loads(dataset.temperature.values[0]) == ramp

    shapes = {"potential.module.seed": [0, 1], "potential.data.seed": [0, 1]}
    network = {"kind": "NetworkLoss", "module": {"kind": "mlp", "sizes": [10, 4, 3]}, "data": {"kind": "random_labels"}}
    network["data"]["samples"] = 20
    seeds = ls.sweep(SPEC | {"potential": network, "steps": 10}, shapes)
    assert seeds.energy.dims == (*shapes, "chain", "draw")

    together = ls.sweep(SPEC, {"temperature,integrator.dt": [[0.1, 1e-3], [0.2, 1e-2]]})
    assert together.energy.dims == ("temperature_dt", "chain", "draw")
    assert together.dt.dims == ("temperature_dt",)
    assert ls.sweep(SPEC, [{"seed": 1}, {"seed": 2}]).energy.dims == ("point", "chain", "draw")


def test_a_coordinate_that_differs_from_point_to_point():
    dataset = ls.sweep(
        SPEC, {"temperature": [{"kind": "ramp", "start": 0.1, "end": end, "duration": 1.0} for end in (1.0, 2.0)]}
    )
    assert dataset.run_temperature.dims == ("temperature", "chain", "draw")
    assert not np.array_equal(dataset.run_temperature[0], dataset.run_temperature[1])
    minima = ls.sweep(VALLEY | {"start": [1.0, 0.1], "steps": 3}, {"potential": [
        {"kind": "Valley", "g": "1 + y**2"}, {"kind": "Expression", "energy": "u**2 + v**2", "coordinates": ["u", "v"]}
    ]})  # fmt: skip
    assert minima.run_coordinate.values.tolist() == [["x", "y"], ["u", "v"]]


NETWORK = {
    "kind": "NetworkLoss",
    "module": {"kind": "mlp", "sizes": [10, 4, 3], "seed": 0},
    "data": {"kind": "random_labels", "samples": 20, "seed": 0},
    "batch_size": 5,
}
TASKS = {
    "minimize": (VALLEY | {"steps": 20}, {"start": [[1.0, 0.2], [0.5, 0.1]]}),
    "train": (
        {"task": "train", "potential": NETWORK, "integrator": {"kind": "SGD", "lr": 0.01}, "epochs": 2},
        {"integrator.lr": [0.1, 0.2]},
    ),
    "replica_exchange": (
        {"task": "replica_exchange", "potential": {"kind": "DoubleWell"}, "integrator": {"kind": "MALA", "dt": 0.05},
         "temperatures": [0.1, 0.2], "steps": 40, "swap_every": 10},
        {"integrator.dt": [0.05, 0.1]},
    ),
    "connect": (
        {"task": "connect", "potential": {"kind": "DoubleWell"}, "start": [-1.0], "end": [1.0], "method": "string",
         "settings": {"pivots": 5, "steps": 20, "lr": 1e-3}},
        {"settings.lr": [1e-3, 1e-2]},
    ),
    "batches": (
        {"potential": NETWORK, "integrator": {"kind": "SGD", "lr": 0.01}, "steps": 20, "backend": "batched"},
        {"potential.data.samples": [20, 30]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_any_task_can_be_swept_and_gives_the_same_bytes_again(task, tmp_path):
    spec, over = TASKS[task]
    for folder in ("a", "b"):
        dataset = ls.sweep(spec, over, output=tmp_path / folder)
        assert not dataset.failed.any()
        assert dataset.sizes[next(iter(over)).rpartition(".")[2]] == 2
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / folder).glob("*.nc")} for folder in ("a", "b"))
    assert first == second
    assert len(first) == 2


# -- folders, threads, progress ---------------------------------------------------------------------------------------


def test_folders_that_hold_no_sweep(tmp_path, folder):
    with pytest.raises(StorageError, match=r"sweep\.json"):
        open_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text("[1, 2]")
    with pytest.raises(StorageError, match="is not the manifest"):
        open_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(StorageError, match="delete it"):
        ls.sweep(SPEC, OVER, output=tmp_path)
    with pytest.raises(StorageError, match="cannot write"):
        ls.sweep(VALLEY, {"steps": [1]}, output=folder / "sweep.json")


def test_a_damaged_result_is_named_when_it_is_read(tmp_path):
    ls.sweep(VALLEY, {"start": [[1.0, 0.2], [0.5, 0.1]], "steps": [3]}, output=tmp_path)
    path = next(tmp_path.glob("*.nc"))
    path.write_bytes(b"nothing")
    with pytest.raises(StorageError, match=path.name):
        open_sweep(tmp_path)


def test_points_run_on_one_thread_and_the_setting_comes_back():
    import numba
    from threadpoolctl import threadpool_info

    def counts():
        return (
            torch.get_num_threads(),
            numba.config.NUMBA_NUM_THREADS,
            [one["num_threads"] for one in threadpool_info()],
        )

    before = counts()
    with contextlib.suppress(KeyError), one_thread():
        assert counts()[:2] == (1, 1)
        assert set(counts()[2]) == {1}
        raise KeyError
    assert counts() == before


def test_progress_goes_over_the_whole_table(tmp_path, monkeypatch):
    shown = []

    @contextlib.contextmanager
    def bar(total, description, *, show):
        shown.append((total, description, show))
        yield shown.append

    monkeypatch.setattr(MODULE, "progress_bar", bar)
    over = {"start": [[1.0, 0.2], [0.5, 0.1], [2.0, 0.1]]}
    ls.sweep(VALLEY | {"steps": 3}, over, output=tmp_path, progress=True)
    os.remove(next(tmp_path.glob("*.nc")))
    ls.sweep(VALLEY | {"steps": 3}, over, output=tmp_path)
    assert [one for one in shown if not isinstance(one, float)] == [
        (3, "sweep", True), 0, 1, 2, 3, (3, "sweep", None), 2, 3,
    ]  # fmt: skip


@pytest.mark.parametrize("executor", [None, 1])
def test_progress_moves_within_a_point(executor, tmp_path, monkeypatch, capfd):
    """Whether this process runs it or a worker; nothing is told, and nothing written, where nobody looks."""
    shown = []

    @contextlib.contextmanager
    def bar(total, description, *, show):
        yield shown.append

    monkeypatch.setattr(MODULE, "progress_bar", bar)
    spec = SPEC | {"steps": 2000, "backend": "batched", "record": {"every": 2000}}
    # not in a worker, which tells of its first step in any case
    monkeypatch.setattr("landscape.engine.progress.SECONDS", 0.0)
    for progress in (True, None) if executor is None else (True,):
        shown.clear()
        ls.sweep(spec, {"seed": [1]}, output=tmp_path / str(progress), progress=progress, executor=executor)
        within = [one for one in shown if isinstance(one, float)]
        assert [one for one in shown if not isinstance(one, float)] == [0, 1]
        if progress:
            assert sorted(set(within)) == within and 0 < within[0] < 0.5 and within[-1] <= 1
            assert executor or len(within) >= 2
        else:  # the control: standard error is no terminal
            assert within == []
    assert capfd.readouterr().err == ""


# -- the command line -------------------------------------------------------------------------------------------------


CONFIG = """
steps = 40
chains = 3
seed = 7
record = { every = 10 }
potential = { kind = "DoubleWell", height = 1.0 }
temperature = 0.2

[integrator]
kind = "EulerMaruyama"
dt = 1e-2

[over]
temperature = [0.1, 0.2, 0.4]
integrator.dt = [1e-3, 1e-2]
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "wells.toml"
    path.write_text(CONFIG)
    return path


def test_the_command_makes_the_same_files(config, folder, capsys):
    assert command(["sweep", str(config)]) == 0
    assert "6 of 6 results" in capsys.readouterr().out
    made = {path.name: path.read_bytes() for path in config.with_suffix("").glob("*.nc")}
    assert made == {path.name: path.read_bytes() for path in folder.glob("*.nc")}


def test_failed_points_are_exit_code_6_and_shown(config, tmp_path, capsys):
    arguments = [
        "sweep",
        str(config),
        "--over",
        "integrator.dt=1e-2,-1",
        "--set",
        "steps=20",
        "-o",
        str(tmp_path / "o"),
    ]
    assert command(arguments) == 6
    shown = capsys.readouterr().out
    assert "3 of 6 results" in shown
    assert shown.count("dt must be finite and positive, got -1") == 3
    assert command(arguments) == 6


def test_a_dry_run_shows_the_table_and_makes_nothing(config, capsys):
    assert command(["sweep", str(config), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert str(point_seed(7, 5)) in shown
    assert "6 points, 6 of them to run" in shown
    assert re.search(r"about \d.* in this process, without .*iB of memory, \S+ MiB on the disk at most", shown)
    assert not config.with_suffix("").exists()


def test_costs_are_those_of_the_points(monkeypatch):
    """One pilot for each kind of point; time with steps, records with chains and steps, workers share the time."""
    timed = []

    def pilot(prepared, settings, chains, backend):
        timed.append(chains)
        return 1e-3 * chains

    monkeypatch.setattr(run_costs, "_pilot", pilot)
    spec = SPEC | {"record": {"every": 10, "observables": ["energy"]}}
    over = {"chains": [1, 4], "steps": [1000, 3000], "temperature": [0.1, 0.2]}
    found, pilots, kinds = run_costs.costs_of_points(point.text for point in make_table(spec, over).points)
    assert (timed, pilots, kinds) == ([1, 4], 2, 2)
    assert [cost.seconds for cost in found] == pytest.approx([1, 1, 3, 3, 4, 4, 12, 12])
    assert [cost.recorded for cost in found] == [800, 800, 2400, 2400, 3200, 3200, 9600, 9600]  # float64 energies
    assert run_costs.on_workers(found, 1)[0] == pytest.approx(40.0)
    assert run_costs.on_workers(found, 2)[0] == pytest.approx(20.0)
    assert run_costs.on_workers(found, 2)[1] == sum(sorted(cost.bytes for cost in found)[-2:])
    assert run_costs.costs_of_points([json.dumps(VALLEY)])[0][0].task == "minimize"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--over", "temprature=1,2"], 2, "Did you mean 'temperature'?"),
        (["--over", "temprature=1,2", "--dry-run"], 2, "Did you mean 'temperature'?"),
        (["--over", "temperature"], 2, "--over takes key=values"),
        (["--over", "temperature="], 2, "is an empty list"),
        (["--set", "over=1"], 2, "unknown key 'over'"),
        (["--workers", "0"], 2, "--workers"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], 2, "give one of them"),
    ],
)
def test_mistakes_on_the_command_line(config, capsys, arguments, code, said):
    assert command(["sweep", str(config), *arguments]) == code
    assert said in capsys.readouterr().err


def test_help_has_an_example(capsys):
    assert command(["sweep", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example:" in shown
    assert "Exit code 6" in shown


def test_errors_are_of_the_family():
    for given in [None, 3, {"temperature": None}]:
        with pytest.raises(LandscapeError):
            ls.sweep(SPEC, given)


@pytest.mark.always
def test_with_checkpoints_the_files_are_the_same_and_an_interrupted_point_goes_on(tmp_path):
    plain, streamed = tmp_path / "plain", tmp_path / "streamed"
    ls.sweep(SPEC, OVER, output=plain)
    point = make_table(SPEC, OVER).points[1]
    begun = json.loads(point.text) | {"steps": json.loads(point.text)["steps"] // 2}
    ls.run(begun, output=streamed / point.file.removesuffix(".nc"))
    ls.sweep(SPEC, OVER, output=streamed, checkpoints=True)
    names = sorted(path.name for path in plain.glob("*.nc"))
    assert [path.read_bytes() for path in sorted(streamed.glob("*.nc"))] == [
        (plain / name).read_bytes() for name in names
    ]
    assert not any(path.is_dir() for path in streamed.iterdir())
