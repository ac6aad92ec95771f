"""The certificate of a run: equipartition, configurational temperature and step bias against closed forms.

Euler-Maruyama on springs k_i: <x_i dV/dx_i>/T = 1/(1 - dt k_i/2), <|grad V|^2>/<lap V> = sum_i T k_i/(1 - dt k_i/2) /
sum_i k_i, and <V>_dt - <V>_{dt/2} = sum_i (T/2) [1/(1 - dt k_i/2) - 1/(1 - dt k_i/4)].
"""

import numpy as np
import pytest

import landscape as ls
from landscape.potentials import Expression, toys
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX

VARIABLES = ("equipartition", "configurational_temperature", "dt_bias")


def springs(stiffness):
    names = ["x", "y", "z"][: len(stiffness)]
    text = " + ".join(f"{k}*{name}**2/2" for k, name in zip(stiffness, names, strict=True))
    return Expression(text, names)


def exact(stiffness, temperature, dt):
    k = np.asarray(stiffness)
    share = 1 / (1 - dt * k / 2)
    return {
        "equipartition": share,
        "configurational_temperature": temperature * np.sum(k * share) / np.sum(k),
        "dt_bias": temperature / 2 * np.sum(share - 1 / (1 - dt * k / 4)),
    }


def certified(potential, rule, *, temperature, chains, steps, **settings):
    return ls.simulate(
        potential, rule, temperature=temperature, chains=chains, steps=steps, certify=True,
        record=settings.pop("record", ls.Record(10)), **settings,
    )  # fmt: skip


def scores(run, values):
    return {name: np.ravel((run[name] - values[name]) / run[f"{name}_stderr"]) for name in VARIABLES}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("stiffness", "temperature", "dt"),
    [((1.0, 3.0), 0.5, 0.2), ((1.0, 3.0), 2.0, 0.2), ((1.0, 3.0), 0.5, 0.5), ((0.7, 2.0, 4.0), 0.5, 0.3)],
)
def test_numbers_of_the_certificate(stiffness, temperature, dt, backend):
    chains, steps = {"compiled": (500, 4000), "batched": (500, 800)}[backend]
    start = np.random.default_rng(0).normal(0, 1, (chains, len(stiffness))) * np.sqrt(
        temperature * exact(stiffness, temperature, dt)["equipartition"] / np.array(stiffness)
    )
    run = certified(
        springs(stiffness), ls.EulerMaruyama(dt), temperature=temperature, chains=chains, steps=steps, start=start,
        seed=111, backend=backend,
    )  # fmt: skip
    assert run.equipartition.dims == ("coordinate",) and run.equipartition_stderr.dims == ("coordinate",)
    for name, z in scores(run, exact(stiffness, temperature, dt)).items():
        assert np.all(np.abs(z) < Z_MAX), name
        assert np.all(run[f"{name}_stderr"] > 0)
    other = exact(stiffness, temperature, 1.5 * dt)
    assert any(np.any(np.abs(z) > Z_CONTROL) for z in scores(run, other).values())
    relative = run.equipartition_stderr / run.equipartition
    assert np.all(relative < 0.03)


@pytest.mark.parametrize("temperature", [0.3, 1.2])
def test_hot_noise_is_seen_in_the_numbers(temperature):
    """At a tiny step the shares are those of the temperature asked for; five percent more noise is not."""
    settings = {"chains": 1000, "steps": 8000, "seed": 112, "record": ls.Record(20)}
    run = certified(springs((1.0, 2.0)), ls.EulerMaruyama(0.01), temperature=temperature, **settings)
    z = (run.equipartition - 1.05**2 * np.array(exact((1.0, 2.0), temperature, 0.01)["equipartition"])).values
    assert np.all(np.abs(z / run.equipartition_stderr.values) > Z_CONTROL)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_good_step_passes(backend):
    chains, steps = {"compiled": (2000, 4000), "batched": (2000, 1000)}[backend]
    for potential, rule in (
        (springs((1.0, 3.0)), ls.EulerMaruyama(0.005)),
        (springs((1.0, 3.0)), ls.LeimkuhlerMatthews(0.1)),
        (toys.DoubleWell(), ls.BAOAB(0.05, 1.0)),
    ):
        run = certified(potential, rule, temperature=0.5, chains=chains, steps=steps, seed=113, backend=backend)
        assert all(name in run and f"{name}_stderr" in run for name in VARIABLES)
        if backend == "compiled" or not isinstance(rule, ls.EulerMaruyama):  # 5 units of time resolve little
            assert run.attrs["certificate"] == "passed"


def test_too_short_a_run_certifies_nothing():
    run = certified(
        springs((1.0, 3.0)), ls.EulerMaruyama(0.01), temperature=0.5, chains=2, steps=40, seed=117, record=ls.Record(1)
    )
    assert run.attrs["certificate"] != "passed"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_too_large_is_flagged(backend):
    """Twice too hot at dt k = 1; a double well whose energy is 16 % too high at dt = 0.04."""
    chains, steps = {"compiled": (1000, 4000), "batched": (1000, 1000)}[backend]
    for potential, dt in ((springs((1.0, 3.0)), 0.33), (toys.DoubleWell(), 0.04)):
        run = certified(
            potential, ls.EulerMaruyama(dt), temperature=0.5, chains=chains, steps=steps, seed=114, backend=backend
        )
        assert run.attrs["certificate"] != "passed"
        assert any(name in run.attrs["certificate"] for name in (*VARIABLES, "equipartition", "temperature", "dt"))


def test_without_the_request_there_is_none():
    run = ls.simulate(springs((1.0,)), ls.EulerMaruyama(0.1), temperature=0.5, steps=100, seed=115)
    assert "certificate" not in run.attrs
    assert not any(name in run for name in VARIABLES)


def test_asking_changes_no_bit_of_the_run():
    settings = {"temperature": 0.5, "chains": 20, "steps": 200, "seed": 116}
    plain = ls.simulate(springs((1.0, 3.0)), ls.EulerMaruyama(0.1), **settings)
    asked = ls.simulate(springs((1.0, 3.0)), ls.EulerMaruyama(0.1), certify=True, **settings)
    assert plain.position.values.tobytes() == asked.position.values.tobytes()
    assert plain.energy.values.tobytes() == asked.energy.values.tobytes()


def test_errors_of_the_certificate_cover():
    """Over many seeds the deviations from the closed forms have unit scatter."""
    stiffness, temperature, dt, seeds = (1.0, 3.0), 0.5, 0.2, 60
    values, found = exact(stiffness, temperature, dt), []
    for seed in range(seeds):
        start = np.random.default_rng(seed).normal(0, 1, (40, 2)) * np.sqrt(
            temperature * values["equipartition"] / np.array(stiffness)
        )
        run = certified(
            springs(stiffness), ls.EulerMaruyama(dt), temperature=temperature, chains=40, steps=400, start=start,
            seed=1000 + seed, backend="compiled",
        )  # fmt: skip
        found.append(np.concatenate(list(scores(run, values).values())))
    scatter = np.sqrt(np.mean(np.square(found), axis=0))
    assert np.all(scatter > 0.7) and np.all(scatter < 1.4)
    inside = np.mean(np.abs(found) < 1.96)
    assert 0.88 < inside < 0.99
