"""Work of the force and entropy production, and the currents of driven steady states, against exact laws."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import landscape as ls
from landscape import potentials, probes
from landscape.cli.app import run as run_command
from landscape.errors import ConfigError

T, DT = 0.5, 0.05
MATRIX = np.array([[-1.0, 2.0], [-1.0, -2.0]])
STEP = np.eye(2) + DT * MATRIX
COVARIANCE = scipy.linalg.solve_discrete_lyapunov(STEP, 2 * T * DT * np.eye(2))
LINEAR = ls.Drift("-x + 2*y", "-x - 2*y", coordinates=["x", "y"])
RATE = np.trace(MATRIX @ (np.eye(2) + STEP) @ COVARIANCE @ MATRIX.T) / (2 * T) + np.trace(MATRIX)
RING = ls.Periodic({"phi": (0.0, 2 * np.pi)})
SUMS = ["dissipated", "entropy_production"]


def stationary_run(drift=LINEAR, covariance=COVARIANCE, *, chains=64, steps=1000, every=1, seed=3, **settings):
    start = np.random.default_rng(seed).multivariate_normal([0, 0], covariance, chains)
    record = ls.Record(every, ["position", *SUMS])
    return ls.simulate(
        drift, ls.EulerMaruyama(DT), temperature=T, start=start, steps=steps, record=record, seed=seed, **settings
    )


def by_hand(run, force):
    """The sums at every draw of a run with all steps recorded, but for its first step."""
    x = run.position.to_numpy()
    f = force(x)
    return np.cumsum((0.5 * (f[:, 1:] + f[:, :-1]) * np.diff(x, axis=1)).sum(-1), axis=1)


RULES = [ls.EulerMaruyama(0.05), ls.Heun(0.05), ls.EulerMaruyama(0.02, mobility=ls.Mobility({"x": "1 + y**2", "y": 1}))]


@pytest.mark.parametrize("backend", ["compiled", "batched"])
@pytest.mark.parametrize("rule", RULES, ids=["Euler", "Heun", "mobility"])
def test_sums_are_those_of_every_step_whatever_is_recorded(rule, backend):
    settings = {"temperature": ls.ramp(0.5, 1.0, duration=2.0), "chains": 40, "steps": 24, "backend": backend}
    spring = ls.Restrain("x", 0.5, 2.0)
    dense, sparse = (
        ls.simulate(LINEAR, rule, record=ls.Record(every, ["position", *SUMS]), constraint=spring, **settings)
        for every in (1, 8)
    )
    total = by_hand(dense, lambda x: LINEAR.force(x) - 2.0 * (x - [0.5, 0]) * [1, 0])
    sums = dense.dissipated.to_numpy()
    np.testing.assert_allclose(sums[:, 1:] - sums[:, :1], total, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(sums[:, 7::8], sparse.dissipated)
    steps = np.diff(sums, axis=1)
    temperature = dense.temperature.to_numpy()[:, :-1]  # of the start of a step
    entropy = np.diff(dense.entropy_production.to_numpy(), axis=1)
    np.testing.assert_allclose(entropy, steps / temperature, rtol=1e-9, atol=1e-12)


def test_backends_agree_and_runs_go_on():
    runs = [stationary_run(steps=40, every=8, backend=backend) for backend in ("compiled", "batched")]
    np.testing.assert_allclose(runs[0].entropy_production, runs[1].entropy_production, rtol=1e-9, atol=1e-11)
    start = np.random.default_rng(3).multivariate_normal([0, 0], COVARIANCE, 64)
    options = {"temperature": T, "seed": 3, "record": ls.Record(8, SUMS)}
    first = ls.simulate(LINEAR, ls.EulerMaruyama(DT), start=start, steps=16, **options)
    rest = ls.simulate(LINEAR, ls.EulerMaruyama(DT), start=first, state="keep", steps=24, **options)
    np.testing.assert_allclose(rest.dissipated[:, -1], runs[0].dissipated[:, -1], rtol=1e-12)
    np.testing.assert_array_equal(rest.last_entropy_production, rest.entropy_production[:, -1])


def test_a_run_is_resumed_with_its_sums(tmp_path):
    specification = {
        "potential": LINEAR.spec(), "integrator": {"kind": "EulerMaruyama", "dt": DT}, "steps": 30, "chains": 40,
        "temperature": T, "seed": 1, "record": {"every": 5, "observables": SUMS},
    }  # fmt: skip
    whole = ls.run(specification)
    ls.run(specification | {"steps": 13}, output=tmp_path / "part")
    resumed = ls.resume(tmp_path / "part", steps=30)
    np.testing.assert_array_equal(resumed.entropy_production, whole.entropy_production)
    probe = {"task": "probe", "probe": "fluctuations.entropy_production", "run": {"file": str(tmp_path / "part")}}
    with pytest.raises(ls.errors.ShapeError, match="9"):
        ls.run(probe)


def test_probes_of_a_stored_run_from_the_command_line(tmp_path, capsys):
    stored = tmp_path / "run.nc"
    ls.save(stationary_run(), stored)
    assert run_command(["probe", "fluctuations", str(stored), "--quantity", "entropy_production"]) == 0
    assert "rate" in capsys.readouterr().out
    assert run_command(["probe", "fluctuations", str(stored), "-q", "current", "-c", "x"]) == 0
    with ls.open(tmp_path / "run.current.nc") as found:
        assert found.current.dims == ("x",)
    table = {"task": "probe", "probe": "fluctuations.entropy_production", "run": {"file": str(stored)}}
    assert abs(ls.run(table).rate.item() - RATE) < 1.0


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_the_linear_drift_produces_entropy_at_its_exact_rate(backend):
    run = stationary_run(every=50, backend=backend)
    found = probes.fluctuations.entropy_production(run, discard=0.0)
    z = (found.rate.item() - RATE) / found.rate_stderr.item()
    assert abs(z) < 4.5 and bool(found.stationary)
    limit = scipy.linalg.solve_continuous_lyapunov(MATRIX, -2 * T * np.eye(2))
    continuous = np.trace(MATRIX @ limit @ MATRIX.T) / T + np.trace(MATRIX)
    assert abs(RATE / continuous - 1) < 0.1  # the same up to the step size
    assert abs(found.rate.item()) / found.rate_stderr.item() > 20  # far from equilibrium


def test_errors_of_rates_cover():
    """200 repeats of 12 chains each, in one batch."""
    run = stationary_run(chains=2400, steps=160, every=16, seed=7)
    covered = []
    for group in range(200):
        some = run.isel(chain=slice(12 * group, 12 * group + 12))
        found = probes.fluctuations.entropy_production(some, discard=0.0)
        covered.append(abs(found.rate.item() - RATE) < 1.96 * found.rate_stderr.item())
    assert 0.90 <= np.mean(covered) <= 0.985


GRADIENT = potentials.Expression("x**2/2 + y**2 + x*y/2", ["x", "y"])


def test_in_equilibrium_nothing_is_produced_and_nothing_flows():
    """A quadratic is reversible at every step size."""
    hessian = np.array([[1.0, 0.5], [0.5, 2.0]])
    covariance = scipy.linalg.solve_discrete_lyapunov(np.eye(2) - DT * hessian, 2 * T * DT * np.eye(2))
    for drift in (GRADIENT, ls.Drift("-x - y/2", "-2*y - x/2", coordinates=["x", "y"])):
        run = stationary_run(drift, covariance)
        found = probes.fluctuations.entropy_production(run, discard=0.0)
        assert abs(found.rate.item() / found.rate_stderr.item()) < 4.5
        assert abs(found.rate.item()) < 0.01 * RATE
        flow = probes.fluctuations.current(run, bins=6, range=[(-1.2, 1.2)] * 2, discard=0.0)
        assert abs(flow.current / flow.current_stderr).max() < 4.5


def exact_current(edges):
    """Averages over bins of (1/2)[A - S A^T S^-1] x p(x)."""
    matrix = (MATRIX - COVARIANCE @ MATRIX.T @ np.linalg.inv(COVARIANCE)) / 2
    law, (t, w) = scipy.stats.multivariate_normal([0, 0], COVARIANCE), np.polynomial.legendre.leggauss(6)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    x = (middle[:, None] + half[:, None] * t).ravel()
    points = np.stack(np.meshgrid(x, x, indexing="ij"), -1)
    flow = (points @ matrix.T) * law.pdf(points)[..., None]
    return np.einsum("iajbc,a,b->cij", flow.reshape(len(middle), 6, len(middle), 6, 2), w / 2, w / 2)


def test_the_current_of_the_linear_drift():
    run = stationary_run(steps=2000)
    edges = np.linspace(-1.2, 1.2, 7)
    found = probes.fluctuations.current(run, bins=6, range=[(-1.2, 1.2)] * 2, discard=0.0)
    exact = exact_current(edges)
    z = (found.current.to_numpy() - exact) / found.current_stderr.to_numpy()
    assert abs(z).max() < 4.5 and 0.6 < (z**2).mean() < 1.5
    assert bool(found.fine) and bool(found.resolved) and bool(found.chains_agree)
    wrong = (found.current.to_numpy() + exact) / found.current_stderr.to_numpy()
    assert abs(wrong).max() > 20  # the other way round
    density = found.current / found.velocity
    np.testing.assert_allclose(density.isel(component=0), found.density)
    few = probes.fluctuations.current(run.isel(chain=slice(0, 4)), bins=6, range=[(-1.2, 1.2)] * 2, discard=0.0)
    z = (few.current.to_numpy() - exact) / few.current_stderr.to_numpy()
    assert abs(z).max() < 4.5
    coarse = probes.fluctuations.current(run.isel(draw=slice(None, None, 10)), bins=6, range=[(-1.2, 1.2)] * 2)
    assert not bool(coarse.fine)  # half a rotation between draws


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_the_integral_fluctuation_theorem_on_a_ring(backend):
    """<exp(-Sigma)> = 1 at every step size: a uniform start, f constant."""
    ring = ls.Drift("f", coordinates=["phi"], parameters={"f": 0.4})
    run = ls.simulate(
        ring, ls.EulerMaruyama(0.2), temperature=1.0, chains=20_000, steps=10, backend=backend, constraint=RING, seed=6,
        record=ls.Record(10, ["entropy_production", "unwrapped"]),
    )  # fmt: skip
    produced = run.entropy_production.to_numpy()[:, 0]
    np.testing.assert_allclose(produced, 0.4 * run.unwrapped.to_numpy()[:, 0, 0], rtol=1e-9, atol=1e-9)
    weights = np.exp(-produced)
    assert abs(weights.mean() - 1) < 4.5 * weights.std() / np.sqrt(len(weights))
    assert abs(produced.mean() - 0.16 * 2) < 4.5 * produced.std() / np.sqrt(len(produced))
    wrong = np.exp(-1.3 * produced)
    assert abs(wrong.mean() - 1) > 6 * wrong.std() / np.sqrt(len(wrong))


def test_the_current_on_a_tilted_ring_is_the_same_everywhere():
    """f + sin phi: j is constant and 2 pi j the mean velocity; its quadrature as in Stratonovich's formula."""
    drift = ls.Drift("1 + sin(phi)/2", coordinates=["phi"])
    run = ls.simulate(
        drift, ls.EulerMaruyama(0.01), temperature=1.0, chains=64, steps=6000, start=[1.0], seed=2, constraint=RING,
        record=ls.Record(3, ["unwrapped"]),
    )  # fmt: skip
    found = probes.fluctuations.current(run, bins=8)
    phi = np.linspace(0, 2 * np.pi, 2001)

    def energy(x):
        return -x + np.cos(x) / 2

    inner = [np.trapezoid(np.exp(energy(x + phi) - energy(x)), phi) for x in phi]
    flow = (1 - np.exp(-2 * np.pi)) / np.trapezoid(inner, phi)
    assert abs((found.current - flow) / found.current_stderr).max() < 4.5
    assert abs(found.current / found.current_stderr).min() > 6


REFUSED = {
    "BAOAB": (LINEAR, ls.BAOAB(0.1, 1.0), SUMS, "overdamped"),
    "Diffusion": (LINEAR, ls.Diffusion(0.1), SUMS, "overdamped"),
    "colored": (LINEAR, ls.EulerMaruyama(0.1, ls.ColoredNoise(0.5)), SUMS, "overdamped"),
    "shaped": (LINEAR, ls.EulerMaruyama(0.1, ls.CovarianceNoise(2 * np.eye(2))), SUMS, "one heat bath"),
    "ito": (LINEAR, ls.EulerMaruyama(0.1, mobility=ls.Mobility("1 + x**2", "ito")), SUMS, "one heat bath"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_sums_of_other_paths_are_refused(name):
    drift, rule, observables, said = REFUSED[name]
    with pytest.raises(ConfigError, match=said):
        ls.simulate(drift, rule, temperature=1.0, steps=3, record=ls.Record(1, observables))


def test_what_cannot_be_told_is_refused():
    with pytest.raises(ConfigError, match="above 0"):
        ls.simulate(LINEAR, ls.EulerMaruyama(0.1), steps=3, record=ls.Record(1, SUMS))
    run = stationary_run(steps=40)
    with pytest.raises(ConfigError, match="one or two coordinates"):
        probes.fluctuations.current(run, [])
    with pytest.raises(ConfigError, match="no coordinate 'z'"):
        probes.fluctuations.current(run, "z")
    with pytest.raises(ConfigError, match="no positions"):
        probes.fluctuations.current(run.drop_vars("position"))
    with pytest.raises(ConfigError, match="several temperatures"):
        probes.fluctuations.current(run.assign_coords(temperature=("chain", np.arange(64.0))))
    with pytest.raises(ConfigError, match="no variable"):
        probes.fluctuations.entropy_production(run.drop_vars("entropy_production"))
    for probe in (probes.free_energy.profile,):
        with pytest.raises(ConfigError, match="gradient of no energy"):
            probe(run.position.sel(coordinate="x"), T)
