"""`Drift`: forces that are no gradient, in the dynamics of both backends; what relies on an energy refuses them."""

import json

import numpy as np
import pytest
import scipy.linalg
import torch

import landscape as ls
from landscape import potentials, probes
from landscape.cli.app import run as run_command
from landscape.errors import ConfigError, FormulaError, ShapeError

T = 0.5
MATRIX = np.array([[-1.0, 2.0], [-1.0, -2.0]])
LINEAR = ls.Drift("-x + a*y", "-y - 2*y/2 - x", coordinates=["x", "y"], parameters={"a": 2.0})
CALLABLE = ls.Drift(lambda x: x @ torch.as_tensor(MATRIX).T, coordinates=["x", "y"])
SPLIT = ls.Drift("3*y/2", "-3*x/2", coordinates=["x", "y"], potential="x**2/2 + y**2 - x*y/2")


def discrete_covariance(matrix, temperature, dt):
    """S of x' = (1 + A dt) x + sqrt(2 T dt) xi."""
    step = np.eye(len(matrix)) + dt * matrix
    return scipy.linalg.solve_discrete_lyapunov(step, 2 * temperature * dt * np.eye(len(matrix)))


def last(potential, backend, *, chains=8000, steps=40, dt=0.15, **settings):
    options = {"temperature": T, "seed": 3, "record": ls.Record(steps)} | settings
    return ls.simulate(potential, ls.EulerMaruyama(dt), chains=chains, steps=steps, backend=backend, **options)


def z_of_covariance(samples, covariance):
    products = np.einsum("ni,nj->nij", samples, samples)
    return (products.mean(0) - covariance) / (products.std(0) / np.sqrt(len(samples)))


@pytest.mark.parametrize(
    ("drift", "backend"),
    [(LINEAR, "compiled"), (LINEAR, "batched"), (CALLABLE, "batched"), (SPLIT, "compiled"), (SPLIT, "batched")],
)
def test_the_linear_drift_has_the_law_of_its_discrete_lyapunov_equation(drift, backend):
    samples = last(drift, backend).last_position.to_numpy()
    assert abs(z_of_covariance(samples, discrete_covariance(MATRIX, T, 0.15))).max() < 4.5
    symmetric = discrete_covariance((MATRIX + MATRIX.T) / 2, T, 0.15)
    assert abs(z_of_covariance(samples, symmetric)).max() > 6  # without its rotation
    assert abs(z_of_covariance(samples, discrete_covariance(MATRIX, T, 1e-9))).max() > 6  # at the limit of small steps


def test_every_form_of_one_drift_has_the_same_trajectories():
    runs = [
        last(drift, backend, chains=40)
        for drift, backend in ((LINEAR, "compiled"), (LINEAR, "batched"), (CALLABLE, "auto"), (SPLIT, "compiled"))
    ]
    for run in runs[1:]:
        assert np.allclose(run.last_position, runs[0].last_position, rtol=1e-9, atol=1e-12)
    energy = runs[3].energy.to_numpy()
    assert np.allclose(energy, SPLIT.energy(runs[3].position.to_numpy()))
    assert "energy" not in runs[0] and "energy" not in runs[2]


RULES = [ls.Heun(0.05), ls.LeimkuhlerMatthews(0.05), ls.BAOAB(0.1, 1.0), ls.SGHMC(0.05, 0.3), ls.SGLD(0.05)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("temperature", [T, ls.ramp(0.1, 1.0, duration=2.0)], ids=["constant", "ramp"])
def test_backends_agree_under_every_rule(rule, temperature):
    runs = [
        ls.simulate(LINEAR, rule, temperature=temperature, chains=40, steps=30, backend=backend, start=[0.3, -0.2])
        for backend in ("compiled", "batched")
    ]
    assert np.allclose(runs[0].position, runs[1].position, rtol=1e-9, atol=1e-12)


FORCE = potentials.Expression("(x**2 - 1)**2 + x*y + y**2", ["x", "y"])
SAME = ls.Drift("-4*x*(x**2 - 1) - y", "-x - 2*y", coordinates=["x", "y"])
WALLS = {
    "walls": ls.Reflect({"x": (-0.5, 1.2)}),
    "exit": ls.Absorb({"y": (-0.6, 0.7)}),
    "period": ls.Periodic({"y": (-1.0, 1.0)}),
    "spring": ls.Restrain("x*y", 0.3, 2.0),
}


@pytest.mark.parametrize("backend", ["compiled", "batched"])
@pytest.mark.parametrize("wall", WALLS)
def test_springs_and_boundaries_act_as_on_the_potential_of_the_same_force(wall, backend):
    settings = {"constraint": WALLS[wall], "chains": 40, "steps": 60, "dt": 0.02, "record": ls.Record(1, ["position"])}
    ours, other = (last(one, backend, **settings) for one in (SAME, FORCE))
    assert np.allclose(ours.position, other.position, rtol=1e-9, atol=1e-11)
    if wall == "exit":
        assert np.isfinite(other.exit_time).any()
        np.testing.assert_allclose(ours.exit_time, other.exit_time, rtol=1e-9)


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_a_ring_turns_under_a_constant_force(backend):
    """Winding: mean f t, variance 2 T t, exactly at any step."""
    ring = ls.Drift("f", coordinates=["phi"], parameters={"f": 1.5})
    period = ls.Periodic({"phi": (0.0, 2 * np.pi)})
    run = last(ring, backend, constraint=period, dt=0.5, steps=20, chains=4000, record=ls.Record(20, ["unwrapped"]))
    turned = run.unwrapped.to_numpy()[:, -1, 0]
    assert abs(turned.mean() - 15.0) < 4.5 * np.sqrt(2 * T * 10 / 4000)
    assert abs(turned.var() / (2 * T * 10) - 1) < 4.5 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_numbers_that_change_in_time_and_by_chain(backend):
    """A rotating frame: f = -x + u(t) of constant size has the mean of its discrete recursion."""
    gains = np.repeat([0.5, 1.0, 2.0], 12)
    drift = ls.Drift(
        "-x + g*cos(w*t)", "-y + g*sin(w*t)", coordinates=["x", "y"], parameters={"g": gains.tolist(), "w": 2.0}
    )
    run = ls.simulate(drift, ls.EulerMaruyama(0.1), steps=30, backend=backend, start=[0.0, 0.0])
    x = np.zeros((36, 2))
    for k in range(30):
        x = 0.9 * x + 0.1 * gains[:, None] * [np.cos(0.2 * k), np.sin(0.2 * k)]
    np.testing.assert_allclose(run.last_position, x, rtol=1e-12)
    ramped = ls.Drift("0", coordinates=["x"], parameters={"k": ls.ramp(1.0, 3.0, duration=1.0)}, potential="k*x**2/2")
    np.testing.assert_allclose(ramped.at(0.5).force([2.0]), [-4.0])
    run = ls.simulate(ramped, ls.EulerMaruyama(0.1), steps=10, backend=backend, start=[1.0], chains=40)
    np.testing.assert_allclose(run.energy[0], (1 + 0.2 * np.arange(1, 11)) / 2 * run.position[0, :, 0] ** 2)


def test_derivatives_and_bounds():
    walled = ls.Drift("y**2", "-x", coordinates=["x", "y"], bounds={"x": (-1, 1)})
    assert walled.bounds == {"x": (-1.0, 1.0)}
    run = ls.simulate(walled, ls.EulerMaruyama(0.05), temperature=1.0, chains=50, steps=100)
    assert float(abs(run.position.sel(coordinate="x")).max()) <= 1
    kept = ls.Drift("y", "-x", potential=potentials.Expression("x**2 + y**2", ["x", "y"], bounds={"y": (-2, 2)}))
    assert kept.bounds == {"y": (-2.0, 2.0)} and kept.has_energy and not kept.conservative
    at = [[0.3, -0.7], [1.0, 2.0]]
    np.testing.assert_allclose(walled.jacobian(at), [[[0, -1.4], [-1, 0]], [[0, 4], [-1, 0]]])
    np.testing.assert_allclose(CALLABLE.jacobian(at), np.broadcast_to(MATRIX, (2, 2, 2)))
    np.testing.assert_allclose(SPLIT.jacobian(at), np.broadcast_to(MATRIX, (2, 2, 2)))
    np.testing.assert_allclose(LINEAR.force(at), np.array(at) @ MATRIX.T)


PATH = ls.paths.straight_line([0.0, 0.0], [1.0, 1.0])
ENERGETIC = {
    "MALA": lambda drift: ls.simulate(drift, ls.MALA(0.1), temperature=1.0, steps=2),
    "HMC": lambda drift: ls.simulate(drift, ls.HMC(0.1, 3), temperature=1.0, steps=2),
    "certify": lambda drift: ls.simulate(drift, ls.EulerMaruyama(0.1), temperature=1.0, steps=99, certify=True),
    "replica_exchange": lambda drift: ls.replica_exchange(
        drift, ls.EulerMaruyama(0.1), [1.0, 2.0], steps=4, swap_every=2
    ),
    "minimize": ls.minimize,
    "string": lambda drift: ls.paths.string(drift, [0.0, 0.0], [1.0, 1.0], pivots=4, steps=3, lr=0.1),
    "umbrella": lambda drift: probes.free_energy.umbrella(drift, "x", [0.0, 1.0], 1.0),
    "mean_force": lambda drift: probes.free_energy.mean_force(drift, "x", [0.0, 1.0], 1.0),
    "integration": lambda drift: probes.free_energy.thermodynamic_integration(drift, "a", [1.0, 2.0], 1.0),
    "work": lambda drift: probes.free_energy.nonequilibrium_work(drift, "a", 1.0, 2.0, 1.0),
    "harmonic": lambda drift: probes.free_energy.harmonic(drift, [0.0, 0.0], 1.0),
    "effective": lambda drift: probes.free_energy.effective_potential(drift, "x", [0.0], 1.0),
    "learning": lambda drift: probes.free_energy.local_learning_coefficient(
        drift, [0.0, 0.0], temperature=1.0, dt=0.1, steps=99, chains=9
    ),
    "hessian": lambda drift: drift.hessian([0.0, 0.0]),
    "hvp": lambda drift: drift.hvp([0.0, 0.0], [1.0, 0.0]),
    "eigenvalues": lambda drift: probes.curvature.eigenvalues(drift, [0.0, 0.0]),
    "noise": lambda drift: ls.simulate(drift, ls.EulerMaruyama(0.1, ls.HessianNoise()), temperature=1.0, steps=2),
    "gradient_norm": lambda drift: ls.simulate(
        drift, ls.EulerMaruyama(0.1), steps=2, record=ls.Record(1, ["gradient_norm"])
    ),
}


@pytest.mark.parametrize("drift", [LINEAR, CALLABLE, SPLIT], ids=["formula", "callable", "with energy"])
@pytest.mark.parametrize("name", ENERGETIC)
def test_what_relies_on_an_energy_refuses_by_capability(name, drift):
    with pytest.raises(ConfigError, match=r"gradient|Hessian|energy"):
        ENERGETIC[name](drift)


@pytest.mark.parametrize("drift", [LINEAR, CALLABLE], ids=["formula", "callable"])
def test_without_an_energy_there_is_none(drift):
    with pytest.raises(ConfigError, match="without an energy"):
        drift.energy([0.0, 0.0])
    for observable in ("energy", ls.Moments("energy")):
        with pytest.raises(ConfigError, match="energy"):
            ls.simulate(drift, ls.EulerMaruyama(0.1), steps=2, record=ls.Record(1, [observable]))
    with pytest.raises(ConfigError, match="without an energy"):
        probes.confinement.along_path(drift, PATH)
    with pytest.raises(NotImplementedError):
        drift.mean_energy(1.0)


def test_a_start_without_a_finite_force_is_refused():
    singular = ls.Drift("1/x", coordinates=["x"])
    with pytest.raises(ls.errors.NonFiniteError, match="force at the start"):
        ls.simulate(singular, ls.EulerMaruyama(0.1), steps=2, start=[0.0])


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        (("y",), {"coordinates": ["x", "y"]}, ShapeError, "1 components"),
        (("y", "-x"), {}, ConfigError, "needs names"),
        (("y", "-z"), {"coordinates": ["x", "y"]}, FormulaError, "z"),
        (("y", "-x"), {"coordinates": ["x", "y"], "dim": 3}, ShapeError, "dim = 3"),
        (("y", "-x"), {"coordinates": ["x", "y"], "potential": CALLABLE}, ConfigError, "must be an energy"),
        ((lambda x: x,), {}, ConfigError, "needs dim"),
        ((lambda x: x, "y"), {"dim": 2}, ConfigError, "alone"),
        (("k*y",), {"parameters": {"k": 1.0}, "potential": potentials.Expression("k*y", ["y"], {"k": 2.0})},
         ConfigError, "parameter 'k' is 2.0"),
    ],
)  # fmt: skip
def test_bad_input_is_explained(arguments, settings, error, said):
    with pytest.raises(error, match=said):
        ls.Drift(*arguments, **settings)


def test_a_callable_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match="the drift returned shape"):
        ls.Drift(lambda x: x.sum(-1), dim=2).gradient([1.0, 2.0])


SPECIFICATION = {
    "potential": {"kind": "Drift", "drift": ["-x + a*y", "-y - a*x"], "coordinates": ["x", "y"],
                  "parameters": {"a": 2.0}, "bounds": {"x": [-3.0, None]}},
    "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
    "steps": 40, "chains": 40, "temperature": 0.5, "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("potential", [None, "x**2/2 + k*y**2"])
def test_specifications_and_text_give_the_object_back(potential):
    table = dict(SPECIFICATION["potential"])
    if potential is not None:
        table["potential"] = potential
        table["parameters"] = {"a": 2.0, "k": 1.5}
    run = ls.run(SPECIFICATION | {"potential": table})
    again = ls.run(json.loads(run.attrs["spec"]))
    np.testing.assert_array_equal(run.position, again.position)
    made = ls.Drift(**{key: value for key, value in table.items() if key != "kind"})
    rebuilt = eval(repr(made), {"Drift": ls.Drift, "Expression": potentials.Expression})  # noqa: S307
    assert rebuilt.spec() == made.spec() and ("energy" in run) == (potential is not None)
    spec = made.spec()
    if potential is not None:
        assert spec["potential"]["kind"] == "Expression"
    assert ls.run(SPECIFICATION | {"potential": spec}).position.equals(run.position)


def test_a_run_is_resumed_to_the_same_bits_and_runs_from_the_command_line(tmp_path):
    whole = ls.run(SPECIFICATION)
    ls.run(SPECIFICATION | {"steps": 15}, output=tmp_path / "part")
    resumed = ls.resume(tmp_path / "part", steps=40)
    np.testing.assert_array_equal(resumed.position, whole.position)
    config = tmp_path / "run.toml"
    config.write_text(
        'steps = 40\nchains = 40\ntemperature = 0.5\nseed = 1\n[potential]\nkind = "Drift"\n'
        'drift = ["-x + a*y", "-y - a*x"]\ncoordinates = ["x", "y"]\nparameters = {a = 2.0}\n'
        'bounds = {x = [-3.0, inf]}\n[integrator]\nkind = "EulerMaruyama"\ndt = 0.1\n'
    )
    assert run_command(["simulate", str(config), "--output", str(tmp_path / "run.nc")]) == 0
    with ls.open(tmp_path / "run.nc") as stored:
        np.testing.assert_array_equal(stored.position, whole.position)
