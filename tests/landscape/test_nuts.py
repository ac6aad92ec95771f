"""The No-U-Turn sampler: its law is exact, whatever the step; weights that are wrong are seen."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError
from landscape.integrators import nuts
from landscape.potentials import Expression, Function
from tests.cases import Z_CONTROL, Z_MAX, z_score

COUPLED = Expression("x**2 + 50*y**2 - 8*x*y", ["x", "y"])  # correlated, condition 73
HESSIAN = np.array([[2.0, -8.0], [-8.0, 100.0]])
BANANA = Expression("x**2/2 + 5*(y - x**2)**2", ["x", "y"])


def run_of(potential, rule, temperature, start, **settings):
    return ls.simulate(
        potential, rule, temperature=temperature, start=start,
        **{"steps": 4, "seed": 1, "record": ls.Record(4, ["position", "tree_depth", "divergent"])} | settings,
    )  # fmt: skip


def gaussian_start(covariance, chains, seed=0):
    return np.random.default_rng(seed).multivariate_normal(np.zeros(len(covariance)), covariance, chains)


def banana_start(temperature, chains):
    """Exact draws: x ~ N(0, T), y - x^2 ~ N(0, T/10)."""
    x, rest = np.random.default_rng(1).standard_normal((2, chains)) * np.sqrt(temperature)
    return np.stack([x, x**2 + rest / np.sqrt(10.0)], axis=1)


@pytest.mark.parametrize(
    ("dt", "mass"), [(0.12, None), (0.17, [1.0, 3.0]), (0.9, HESSIAN.tolist())], ids=["unit", "each", "matrix"]
)
def test_gaussians_stay_what_they_are(dt, mass):
    """Started from the law, the chains keep it: a step that favours what it should not would show."""
    temperature, chains = 1.7, 6000
    covariance = temperature * np.linalg.inv(HESSIAN)
    start = gaussian_start(covariance, chains)
    run = run_of(COUPLED, ls.NUTS(dt, 6, mass=mass), temperature, start)
    x = run.last_position.values
    for value, exact in ((x[:, 0] ** 2, covariance[0, 0]), (x[:, 1] ** 2, covariance[1, 1]), (x[:, 0], 0.0),
                         (x[:, 0] * x[:, 1], covariance[0, 1])):  # fmt: skip
        assert abs(z_score(value, exact)) < Z_MAX
    assert abs(np.corrcoef(x[:, 0], start[:, 0])[0, 1]) < 0.4  # and they have gone far
    energy = COUPLED.energy(x)
    assert abs(z_score(energy, temperature)) < Z_MAX and abs(z_score(energy**2, 2 * temperature**2)) < Z_MAX
    assert 0.4 < float(run.acceptance.mean()) < 0.99 and float(run.divergences.sum()) == 0
    assert float(run.tree_depth.min()) >= 1 and float(run.tree_depth.max()) <= 6
    assert float(run.gradients.min()) >= 4


def test_from_a_point_to_the_law():
    run = run_of(COUPLED, ls.NUTS(0.15), 1.0, [2.0, -1.0], chains=3000, steps=25, record=ls.Record(25))
    x, covariance = run.last_position.values, np.linalg.inv(HESSIAN)
    assert (np.abs(z_score(x**2, np.diag(covariance))) < Z_MAX).all()
    assert (np.abs(z_score(x**2, 1.3 * np.diag(covariance))) > Z_CONTROL).all()


def test_banana():
    """<x^2> = T, <y> = T, <(y - x^2)^2> = T/10, <x^4> = 3 T^2, from exact draws."""
    temperature, chains = 0.8, 6000
    run = run_of(BANANA, ls.NUTS(0.25, 7), temperature, banana_start(temperature, chains))
    x, y = run.last_position.values.T
    for value, exact in ((x**2, temperature), (y, temperature), ((y - x**2) ** 2, temperature / 10),
                         (x**4, 3 * temperature**2), (x, 0.0)):  # fmt: skip
        assert abs(z_score(value, exact)) < Z_MAX
    assert abs(z_score((y - x**2) ** 2, 1.3 * temperature / 10)) > Z_CONTROL
    assert float(run.tree_depth.max()) > float(run.tree_depth.min())


def test_weights_that_are_wrong_are_seen(monkeypatch):
    """All points of a trajectory alike, or half the temperature in the weights: not the law."""
    covariance, chains = np.linalg.inv(HESSIAN), 6000
    start, change = gaussian_start(covariance, chains), nuts._Tree._change
    for wrong in (lambda tree, point: 0.0 * change(tree, point), lambda tree, point: 2.0 * change(tree, point)):
        monkeypatch.setattr(nuts._Tree, "_change", wrong)
        x = run_of(COUPLED, ls.NUTS(0.17, 5), 1.0, start).last_position.values
        z = [abs(z_score(x[:, d] ** 2, covariance[d, d])) for d in range(2)]
        z.append(abs(z_score(COUPLED.energy(x), 1.0)))
        assert max(z) > Z_CONTROL


def test_walls_and_periods():
    """Mirrors and periods inside trajectories: uniform in a box, and windings counted of what was drawn."""
    box = Expression("0*x + cos(y)", ["x", "y"], bounds={"x": (0.0, 1.0)})
    circle = ls.Periodic({"y": (-np.pi, np.pi)})
    run = ls.simulate(
        box, ls.NUTS(0.3, 4), temperature=2.0, start=[0.2, 0.5], chains=2000, steps=12, constraint=circle, seed=3,
        record=ls.Record(1, ["position", "unwrapped"]),
    )  # fmt: skip
    x = run.last_position.values
    assert abs(z_score(x[:, 0], 0.5)) < Z_MAX and abs(z_score((x[:, 0] - 0.5) ** 2, 1 / 12)) < Z_MAX
    assert abs(z_score(np.cos(x[:, 1]), -0.2424996)) < Z_MAX  # -I1(1/2)/I0(1/2)
    turns = (run.unwrapped - run.position).values[..., 1] / (2 * np.pi)
    assert np.allclose(turns, np.round(turns), atol=1e-9) and np.ptp(turns) >= 2
    steps = np.abs(np.diff(run.unwrapped.values[..., 1], axis=1))
    assert steps.max() < 0.3 * 16 * 8  # no way longer than a trajectory


def test_a_step_that_is_too_long_diverges():
    run = run_of(COUPLED, ls.NUTS(5.0), 1.0, [0.5, 0.5], chains=20, steps=2, record=ls.Record(1, ["divergent"]))
    assert bool(run.divergent.all()) and (run.divergences == 2).all() and (run.last_position == 0.5).all()


@pytest.mark.always
def test_bits():
    """The same whatever the chunks and restarts, and for each chain alone."""
    start = gaussian_start(np.linalg.inv(HESSIAN), 6)
    record = {"record": ls.Record(1, ["position", "tree_depth"])}
    whole = run_of(COUPLED, ls.NUTS(0.15), 1.0, start, steps=6, **record)
    first = run_of(COUPLED, ls.NUTS(0.15), 1.0, start, steps=2, **record)
    rest = run_of(COUPLED, ls.NUTS(0.15), 1.0, first, steps=4, state="keep", **record)
    assert np.array_equal(rest.position, whole.position[:, 2:]) and np.array_equal(
        rest.tree_depth, whole.tree_depth[:, 2:]
    )
    alone = run_of(COUPLED, ls.NUTS(0.15), 1.0, start[:1], steps=6, **record)
    assert np.allclose(alone.position[0], whole.position[0], atol=1e-12)
    stored = ls.run(json_like(start), progress=False)
    assert np.allclose(
        stored.position, run_of(COUPLED, ls.NUTS(0.15, mass=2.0), 1.0, start, steps=6, **record).position
    )


def json_like(start):
    return {
        "potential": COUPLED.spec(), "integrator": {"kind": "NUTS", "dt": 0.15, "mass": 2.0}, "temperature": 1.0,
        "steps": 6, "seed": 1, "start": start.tolist(), "record": {"observables": ["position", "divergent"]},
    }  # fmt: skip


def test_what_is_refused():
    for bad in (0, 21, 2.5, True):
        with pytest.raises(ConfigError, match="max_tree_depth"):
            ls.NUTS(0.1, bad)
    with pytest.raises(ConfigError, match="temperature above 0"):
        run_of(COUPLED, ls.NUTS(0.1), 0.0, [0.1, 0.1])
    with pytest.raises(ConfigError, match="absorbing"):
        run_of(COUPLED, ls.NUTS(0.1), 1.0, [0.1, 0.1], constraint=ls.Absorb({"x": (-1, 1)}))
    with pytest.raises(ConfigError, match="seam"):
        run_of(Expression("-x + 0*y", ["x", "y"]), ls.NUTS(0.1), 1.0, [0.1, 0.1],
               constraint=ls.Periodic({"x": (0.0, 1.0)}))  # fmt: skip
    with pytest.raises(ConfigError, match="cannot run this"):
        run_of(COUPLED, ls.NUTS(0.1), 1.0, [0.1, 0.1], backend="compiled")
    with pytest.raises(ConfigError, match="use NUTS"):
        run_of(COUPLED, ls.MALA(0.1), 1.0, [0.1, 0.1])
    bowl = Function(lambda x: (x**2).sum(-1) / 2, 3)
    run = run_of(bowl, ls.NUTS(0.5), 1.0, torch.zeros(3), chains=50)
    assert run.gradients.dims == ("chain",) and np.isfinite(run.last_position).all()
