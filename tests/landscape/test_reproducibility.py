"""The same bits, however a run is divided over chains, draws, threads, calls and backends."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.potentials import Function
from tests.cases import BACKENDS, INTEGRATORS, LANDSCAPES, OPTIMISERS, REFINED, THERMAL, run_case

ROOT = Path(__file__).parents[2]
CASES = {case.name: case for case in LANDSCAPES}
# One coordinate (several steps share a call to the generator), two with walls, three, five: all ways to use up a call.
DIVIDED = ("spring", "Valley", "springs", "coupled")
DRAWN_BY_EACH = sorted(THERMAL | OPTIMISERS)


def final_state(run):
    return {name: values.values for name, values in run.data_vars.items() if name.startswith("last_")}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].tobytes() == other[name].tobytes(), name


def digest(run):
    order = sorted(name for name in run.data_vars)
    return hashlib.sha256(b"".join(np.ascontiguousarray(run[name].values).tobytes() for name in order)).hexdigest()


# -- chains, draws, threads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_compiled_chains_do_not_know_how_many_they_are(integrator):
    for name in DIVIDED:
        case = CASES[name]
        starts = case.starts(1000)
        runs = [
            run_case(
                case,
                INTEGRATORS[integrator],
                chains=chains,
                steps=60,
                start=starts[:chains],
                record=ls.Record(every=20),
                seed=4,
                backend="compiled",
            )
            for chains in (1, 37, 1000)
        ]
        for few in runs[:2]:
            chains = few.sizes["chain"]
            assert few.position.values.tobytes() == runs[-1].position.values[:chains].tobytes()
            assert few.energy.values.tobytes() == runs[-1].energy.values[:chains].tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("integrator", DRAWN_BY_EACH)
def test_what_is_recorded_does_not_change_the_motion(integrator, backend):
    for name in ("spring", "Valley"):
        rule, case = INTEGRATORS[integrator], CASES[name]
        settings = {"chains": 5, "steps": 120, "seed": 2, "backend": backend}
        every = {n: run_case(case, rule, record=ls.Record(n), **settings) for n in (1, 7, 40)}
        for n in (7, 40):
            kept = every[1].isel(draw=every[n].step.values - 1)
            assert np.array_equal(every[n].step, kept.step)
            assert every[n].position.values.tobytes() == kept.position.values.tobytes()
            assert every[n].energy.values.tobytes() == kept.energy.values.tobytes()
            assert_same_bits(final_state(every[n]), final_state(every[1]))
        only_energy = run_case(case, rule, record=ls.Record(40, ["energy"], snapshots=3), **settings)
        assert only_energy.energy.values.tobytes() == every[40].energy.values.tobytes()
        whole = every[1].position.values[:, only_energy.snapshot_step.values - 1]
        assert only_energy.snapshot.values.tobytes() == whole.tobytes()


THREADED = """
import sys
sys.path.insert(0, {root!r})
from tests.landscape.test_reproducibility import threaded_digests
import json
sys.stdout.write(json.dumps(threaded_digests()))
"""


def threaded_digests():
    """Digests of compiled runs long and wide enough to be shared out among threads."""
    return {
        f"{name}, {integrator}": digest(
            run_case(
                CASES[name],
                INTEGRATORS[integrator],
                chains=1013,
                steps=50,
                record=ls.Record(25),
                seed=9,
                backend="compiled",
            )
        )
        for name in ("Valley", "coupled", "pendulum")
        for integrator in ("EulerMaruyama", "LeimkuhlerMatthews", "EulerMaruyama float64", "AdamW")
    }


def test_compiled_threads_do_not_matter():
    threads = "3" if numba.config.NUMBA_NUM_THREADS == 1 else "1"
    environment = dict(os.environ, NUMBA_NUM_THREADS=threads, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    command = [sys.executable, "-c", THREADED.format(root=str(ROOT))]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == threaded_digests()


# -- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("integrator", DRAWN_BY_EACH)
def test_a_run_in_two_parts_is_the_run(integrator, backend):
    case, rule = CASES["Valley"], INTEGRATORS[integrator]
    settings = {"chains": 6, "seed": 11, "backend": backend, "record": ls.Record(50)}
    whole = run_case(case, rule, steps=1000, **settings)
    first = run_case(case, rule, steps=400, **settings)
    second = run_case(case, rule, steps=600, start=first, state="keep", **settings)
    assert_same_bits(final_state(second), final_state(whole))
    assert second.position.values.tobytes() == whole.position.values[:, 8:].tobytes()
    assert second.energy.values.tobytes() == whole.energy.values[:, 8:].tobytes()
    assert np.array_equal(second.step, whole.step[8:])
    assert np.array_equal(second.time, whole.time[8:])  # time goes on, as steps do


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DIVIDED)
@pytest.mark.always
def test_a_run_may_be_cut_anywhere(name, backend):
    """Cuts of 1, 2, 3, 5 and 39 steps fall inside every group of steps that shares a call to the generator."""
    for integrator in sorted(THERMAL | REFINED | {"Adam": None, "SGD momentum": None}):
        rule, case = INTEGRATORS[integrator], CASES[name]
        settings = {"chains": 3, "seed": 12, "backend": backend}
        whole = run_case(case, rule, steps=50, **settings)
        run, position = None, []
        for steps in (1, 2, 3, 5, 39):
            onward = {} if run is None else {"start": run, "state": "keep"}
            run = run_case(case, rule, steps=steps, **onward, **settings)
            position.append(run.position.values)
        assert_same_bits(final_state(run), final_state(whole))
        assert np.concatenate(position, axis=1).tobytes() == whole.position.values.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.always
def test_a_stored_run_goes_on(backend, tmp_path):
    case = CASES["Valley"]
    for integrator in ("LeimkuhlerMatthews", "SGD momentum", "AdamW"):
        rule, settings = INTEGRATORS[integrator], {"chains": 4, "seed": 3, "backend": backend, "record": ls.Record(20)}
        whole = run_case(case, rule, steps=100, **settings)
        path = tmp_path / f"{integrator}.nc"
        run_case(case, rule, steps=40, **settings).to_netcdf(path)
        with xr.open_dataset(path) as stored:
            second = run_case(case, rule, steps=60, start=stored.load(), state="keep", **settings)
        assert_same_bits(final_state(second), final_state(whole))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("integrator", DRAWN_BY_EACH)
def test_a_fresh_start_from_a_run_forgets_all_but_the_position(integrator, backend):
    case, rule = CASES["springs"], INTEGRATORS[integrator]
    settings = {"chains": 3, "steps": 30, "seed": 5, "backend": backend}
    first = run_case(case, rule, **settings)
    again = run_case(case, rule, start=first, **settings)
    by_position = run_case(case, rule, start=first.last_position.values, **settings)
    assert_same_bits(final_state(again), final_state(by_position))
    assert int(again.step[0]) == 1
    kept = run_case(case, rule, start=first, state="keep", **settings)
    if integrator != "SGD":  # the one rule with neither noise nor memory
        assert not np.array_equal(kept.last_position, again.last_position)


# -- repetition, seeds, neighbours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_repetition_and_seeds(integrator, backend):
    case, rule = CASES["Valley"], INTEGRATORS[integrator]
    settings = {"chains": 7, "steps": 40, "backend": backend}
    run = run_case(case, rule, seed=21, **settings)
    assert digest(run_case(case, rule, seed=21, **settings)) == digest(run)
    for seed in (22, 21 + 2**32, 21 + 2**63):
        other = run_case(case, rule, seed=seed, **settings)
        same = other.position.values == run.position.values
        if integrator == "two-point noise":  # its paths are those of a random walk, which may meet
            assert not same.all()
        elif rule(case.dt).thermal:
            assert not same.any()
        else:
            assert same.all()


@pytest.mark.parametrize("integrator", DRAWN_BY_EACH)
def test_single_precision_states_are_reproducible_too(integrator):
    case, rule = CASES["springs"], INTEGRATORS[integrator]
    settings = {"chains": 5, "seed": 8, "backend": "batched", "dtype": torch.float32}
    whole = run_case(case, rule, steps=30, **settings)
    assert whole.position.dtype == np.float32
    first = run_case(case, rule, steps=13, **settings)
    second = run_case(case, rule, steps=17, start=first, state="keep", **settings)
    assert_same_bits(final_state(second), final_state(whole))
    double = run_case(case, rule, steps=30, chains=5, seed=8, backend="batched")
    assert np.allclose(whole.position, double.position, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_chains_differ_from_each_other(backend):
    run = run_case(CASES["Valley"], ls.EulerMaruyama, chains=50, steps=5, start=[0.1, 0.9], seed=1, backend=backend)
    first_move = run.position.values[:, 0, :].ravel()
    assert np.unique(first_move).size == first_move.size


@pytest.mark.parametrize("integrator", ["EulerMaruyama", "LeimkuhlerMatthews", "Diffusion", "SGD momentum", "AdamW"])
def test_compiled_chains_do_not_feel_their_neighbours_settings(integrator):
    """A chain in a scan is the same chain as in a run of its own temperature and step."""
    case = CASES["Valley"]
    make = {"EulerMaruyama": ls.EulerMaruyama, "LeimkuhlerMatthews": ls.LeimkuhlerMatthews, "Diffusion": ls.Diffusion}
    make |= {"SGD momentum": lambda lr: ls.SGD(lr, momentum=0.8), "AdamW": lambda lr: ls.AdamW(lr, weight_decay=0.2)}
    rule = make[integrator]
    steps, temperatures = np.array([0.01, 0.02, 0.005]), np.array([0.1, 0.5, 1.0])
    if not rule(0.01).thermal:
        temperatures = np.zeros(3)
    settings = {"chains": 3, "steps": 40, "start": case.starts(3), "seed": 6, "backend": "compiled"}
    scan = ls.simulate(case.make(), rule(steps), temperature=temperatures, **settings)
    assert np.allclose(scan.time, steps[:, None] * scan.step.values)
    for chain in range(3):
        alone = ls.simulate(case.make(), rule(steps[chain]), temperature=temperatures[chain], **settings)
        assert alone.position.values[chain].tobytes() == scan.position.values[chain].tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_global_changes(backend):
    case = CASES["Valley"]

    def world():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            torch.get_rng_state().numpy().tobytes(),
            numpy_state[1].tobytes() + bytes(numpy_state[2]),
            random.getstate(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(),
            tuple(sorted(np.geterr().items())),
        )

    torch.manual_seed(1)
    before = world()
    digests = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        digests.append(digest(run_case(case, ls.LeimkuhlerMatthews, chains=4, steps=20, seed=7, backend=backend)))
    assert digests[0] == digests[1]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = world()
    start = case.starts(4)
    kept = start.copy()
    for integrator in DRAWN_BY_EACH:
        run_case(case, INTEGRATORS[integrator], chains=4, steps=20, start=start, seed=7, backend=backend)
    assert world() == before
    assert np.array_equal(start, kept)


# -- two backends, one trajectory -------------------------------------------------------------------------------------


def agree(case, integrator, start=None):
    starts = {} if start is None else {"start": start}
    runs = [
        run_case(case, INTEGRATORS[integrator], chains=3, steps=200, seed=13, backend=backend, **starts)
        for backend in BACKENDS
    ]
    for name in ("position", "energy"):
        one, other = (run[name].values for run in runs)
        scale = np.maximum(1.0, np.abs(other))
        assert np.max(np.abs(one - other) / scale) < 1e-10, (name, integrator)
    return runs


@pytest.mark.parametrize("case", LANDSCAPES, ids=str)
@pytest.mark.always
def test_compiled_and_batched_agree(case):
    for integrator in ("EulerMaruyama", "LeimkuhlerMatthews", "Diffusion", "SGD momentum", "Adam", "AdamW"):
        compiled, batched = agree(case, integrator)
        assert compiled.attrs["backend"] == "compiled"
        assert batched.attrs["backend"] == "batched"
        moved = np.abs(compiled.position.values[:, -1] - case.starts(3)).max()
        assert moved > 10 * case.dt**2


@pytest.mark.parametrize("integrator", sorted(REFINED | {"SGD": None, "SGD nesterov": None}))
def test_compiled_and_batched_agree_whatever_the_noise(integrator):
    for name in DIVIDED:
        agree(CASES[name], integrator)


def test_a_function_moves_like_the_formula():
    """Autograd in place of symbolic derivatives: the same trajectories to rounding."""
    case = CASES["Valley"]
    twin = Function(
        lambda q: 0.5 * (1 + q[..., 1] ** 2) * q[..., 0] ** 2, dim=2, coordinates=["x", "y"], bounds={"y": (-3, 3)}
    )
    for integrator in sorted(THERMAL | OPTIMISERS):
        rule = INTEGRATORS[integrator](case.dt)
        settings = {"start": case.starts(3), "steps": 200, "seed": 13, "temperature": 0.3 if rule.thermal else 0.0}
        formula = ls.simulate(case.make(), rule, backend="batched", **settings)
        function = ls.simulate(twin, rule, **settings)
        assert np.allclose(formula.position, function.position, rtol=0, atol=1e-10)
        assert np.allclose(formula.energy, function.energy, rtol=0, atol=1e-10)
