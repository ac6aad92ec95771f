"""Runs on disk: the same to the bit, whole or not at all, and readable by others."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.errors import StorageError
from landscape.potentials import Expression, Function, NetworkLoss, architectures, datasets, toys


def of_a_toy(steps=40):
    valley = toys.Valley("1 + y**2", bounds={"y": (-3, 3)})
    integrator = ls.EulerMaruyama(dt=[1e-2, 2e-2, 1e-2])
    return ls.simulate(valley, integrator, temperature=[0.1, 0.2, 0.3], steps=steps, seed=1)


def of_a_network():
    loss = NetworkLoss(architectures.mlp([10, 4, 3]), datasets.random_labels(30), batch_size=8)
    record = ls.Record(every=4, observables=["energy", "batch_energy", "accuracy", "sample_energies"], snapshots=3)
    return ls.simulate(loss, ls.SGD(lr=0.1, momentum=0.9), steps=12, chains=2, record=record)


def of_batch_norm():
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    module[1].num_batches_tracked = None
    inputs = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    loss = NetworkLoss(module, inputs, torch.arange(9) % 3, batchnorm="batch")
    return ls.simulate(loss, ls.SGD(lr=0.1), steps=3, chains=2)


def of_a_minimum():
    return ls.minimize(toys.DoubleWell(), [0.4], method="lbfgs")


def of_custom_observables():
    bowl = Function(lambda x: (x**2).sum(-1), 2)
    observables = {
        "energy": None,
        "radius": lambda potential, x: x.norm(dim=-1),
        "pair": lambda potential, x: x[:, :2],
        "inside": lambda potential, x: x.norm(dim=-1) < 0.5,
    }
    return ls.simulate(bowl, ls.Diffusion(dt=0.1), temperature=1.0, chains=3, steps=5, record=ls.Record(1, observables))


def of_training():
    loss = NetworkLoss(architectures.mlp([10, 4, 3]), datasets.random_labels(30), batch_size=8)
    return ls.train(loss, ls.Adam(lr=0.01), epochs=3, schedule={0: 1.0, 2: 0.1}, siblings=2, split_epoch=1)


def of_no_steps():
    return ls.simulate(toys.DoubleWell(), ls.SGD(lr=0.1), steps=0)


def of_a_dropped_chain():
    hill = Expression("-x**4/4", ["x"])
    return ls.simulate(hill, ls.SGD(lr=0.1), start=[[0.0], [2.0]], steps=30, on_nonfinite="drop")


MAKERS = [
    of_a_toy,
    of_a_network,
    of_batch_norm,
    of_a_minimum,
    of_custom_observables,
    of_training,
    of_no_steps,
    of_a_dropped_chain,
]


@pytest.mark.parametrize("make", MAKERS)
def test_what_comes_back_is_what_was_saved(make, tmp_path):
    run = make()
    path = ls.save(run, tmp_path / "run.nc")
    assert path == tmp_path / "run.nc"
    assert isinstance(path, Path)
    with ls.open(path) as same:
        assert set(same.variables) == set(run.variables)
        assert same.sizes == run.sizes
        assert set(same.coords) == set(run.coords)
        for name in run.variables:
            stored, original = same[name], run[name]
            assert stored.dtype == original.dtype, name
            assert stored.dims == original.dims, name
            np.testing.assert_array_equal(stored.values, original.values)
            assert stored.attrs == original.attrs, name
        assert same.attrs == run.attrs


@pytest.mark.parametrize("make", [pytest.param(make) if make is of_a_minimum else make for make in MAKERS])
def test_every_variable_has_a_name_and_a_unit(make):
    """CF: `long_name` and `units` on everything but labels, `Conventions` and the specification on the whole."""
    run = make()
    for name, variable in run.variables.items():
        assert variable.attrs.get("long_name"), name
        if variable.dtype.kind in "fiu":
            assert variable.attrs.get("units"), name
    assert run.attrs["Conventions"] == "CF-1.11"
    for attribute in ("title", "source", "history", "references", "spec"):
        assert isinstance(run.attrs[attribute], str), attribute
    assert isinstance(json.loads(run.attrs["spec"]), dict)
    if make is not of_a_minimum:
        assert {"seed", "backend", "dtype"} <= set(run.attrs)


def test_the_file_is_netcdf_4(tmp_path):
    path = ls.save(of_a_toy(), tmp_path / "run.nc")
    assert path.read_bytes()[:4] == b"\x89HDF"
    with xr.open_dataset(path, engine="netcdf4") as same:
        assert same.sizes["draw"] == 40


def test_chain_and_draw_come_first():
    """The order that ArviZ takes as it is."""
    for make in (of_a_toy, of_a_network, of_custom_observables):
        run = make()
        for name, variable in run.data_vars.items():
            if "draw" in variable.dims:
                assert variable.dims[:2] == ("chain", "draw"), name


def test_arviz_reads_a_run():
    run = ls.simulate(
        Expression("x**2/2 + y**2", ["x", "y"]), ls.EulerMaruyama(dt=0.1), temperature=0.1, chains=4, steps=500
    )
    arviz_stats = pytest.importorskip("arviz_stats")
    from arviz_stats.base import array_stats

    by_array = array_stats.ess(run.energy.values)  # chain and draw are its first axes
    assert 50 < by_array < 2000
    if not hasattr(arviz_stats, "ess"):
        pytest.skip("arviz_stats.ess on labelled arrays needs arviz-base and xarray-einstats")
    assert float(arviz_stats.ess(run.energy)) == pytest.approx(by_array)
    assert arviz_stats.ess(run.position).sizes == {"coordinate": 2}
    assert set(arviz_stats.ess(run[["energy", "position"]]).data_vars) == {"energy", "position"}


def test_a_stored_run_is_a_start(tmp_path):
    """A continued run from disk has the bits of one from memory."""
    valley, integrator = toys.Valley("1 + y**2"), ls.SGD(lr=0.01, momentum=0.9)
    first = ls.simulate(valley, integrator, start=[0.3, 1.0], steps=7)
    ls.save(first, tmp_path / "first.nc")
    with ls.open(tmp_path / "first.nc") as stored:
        runs = [ls.simulate(valley, integrator, start=start, state="keep", steps=9) for start in (first, stored)]
    np.testing.assert_array_equal(runs[0].position, runs[1].position)
    assert runs[0].step.values.tolist() == runs[1].step.values.tolist() == list(range(8, 17))


# -- whole or not at all ----------------------------------------------------------------------------------------------


def test_an_older_file_is_replaced(tmp_path):
    path = tmp_path / "run.nc"
    ls.save(of_a_toy(40), path)
    ls.save(of_a_toy(50), path)
    with ls.open(path) as run:
        assert run.sizes["draw"] == 50
    assert os.listdir(tmp_path) == ["run.nc"]


def test_an_open_file_can_be_replaced(tmp_path):
    path = tmp_path / "run.nc"
    old = of_a_toy(40)
    ls.save(old, path)
    with ls.open(path) as opened:
        ls.save(of_a_toy(50), path)
        np.testing.assert_array_equal(opened.energy, old.energy)
        ls.save(opened, path)
    with ls.open(path) as again:
        assert again.sizes["draw"] == 40
        np.testing.assert_array_equal(again.energy, old.energy)


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(step, tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    ls.save(of_a_toy(40), path)
    before = path.read_bytes()

    def fail(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageError) as caught:
        ls.save(of_a_toy(50), path)
    monkeypatch.undo()
    assert str(path) in str(caught.value)
    assert "bytes" in str(caught.value)
    assert "No space left" in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.nc"]


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_full_disk(tmp_path):
    """RLIMIT_FSIZE as a full disk: a clean error in another process, the old file as it was, nothing left over."""
    script = textwrap.dedent(
        """
        import resource, signal, sys
        import landscape as ls
        from landscape.errors import StorageError
        from landscape.potentials import toys

        run = ls.simulate(toys.DoubleWell(), ls.Diffusion(dt=0.1), temperature=1.0, chains=500, steps=20)
        ls.save(run.isel(chain=slice(3)), sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            ls.save(run, sys.argv[1])
        except StorageError as error:
            sys.stdout.write(str(error))
        else:
            sys.stdout.write("no error")
        """
    )
    path = tmp_path / "run.nc"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(ls.__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert "bytes" in done.stdout
    with ls.open(path) as old:
        assert old.sizes["chain"] == 3
    assert os.listdir(tmp_path) == ["run.nc"]


# -- what cannot be written or read -----------------------------------------------------------------------------------


def refused(call, *words):
    with pytest.raises(StorageError) as caught:
        call()
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert isinstance(caught.value, OSError)


def test_missing_files_and_folders(tmp_path):
    refused(lambda: ls.open(tmp_path / "none.nc"), str(tmp_path / "none.nc"), "no file")
    refused(lambda: ls.open(tmp_path), str(tmp_path), "folder")
    refused(lambda: ls.save(of_a_minimum(), tmp_path), str(tmp_path))


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused(lambda: ls.save(of_a_minimum(), tmp_path / "file" / "run.nc"), str(tmp_path / "file" / "run.nc"))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89HDF\r\n\x1a\n" + b"\0" * 500, b"CDF\x01" + b"\xff" * 99])
def test_files_that_are_something_else(content, tmp_path):
    path = tmp_path / "run.nc"
    path.write_bytes(content)
    refused(lambda: ls.open(path), str(path))


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.3, 0.6, 0.8])
def test_truncated_files(fraction, tmp_path):
    path = ls.save(of_a_toy(2000), tmp_path / "run.nc")
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    refused(lambda: ls.open(path).load(), str(path))


@pytest.mark.always
def test_flipped_bits_are_noticed(tmp_path):
    """Each of 60 random flips is either named or falls where nothing is stored."""
    run = of_a_toy(200)
    content, path = ls.save(run, tmp_path / "run.nc").read_bytes(), tmp_path / "flipped.nc"
    rng, messages = np.random.default_rng(0), []
    for place, bit in zip(rng.integers(len(content), size=60), rng.integers(8, size=60), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(bit)
        path.write_bytes(bytes(damaged))
        try:
            with ls.open(path) as same:
                assert same.load().identical(run)
        except StorageError as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert all(str(path) in message for message in messages)


def test_paths_may_be_text_or_folders_that_are_not_there_yet(tmp_path):
    path = ls.save(of_a_minimum(), str(tmp_path / "a" / "b" / "run.nc"))
    with ls.open(str(path)) as run:
        assert bool(run.converged)


@pytest.mark.parametrize("thing", [3, None, xr.DataArray([1.0])])
def test_only_datasets_are_saved(thing, tmp_path):
    with pytest.raises(ls.errors.LandscapeError, match="Dataset"):
        ls.save(thing, tmp_path / "run.nc")


def test_the_users_dataset_is_left_alone(tmp_path):
    run = of_a_network()
    before = run.copy(deep=True)
    ls.save(run, tmp_path / "run.nc")
    assert run.identical(before)
    assert all(run[name].encoding == before[name].encoding for name in run.variables)
