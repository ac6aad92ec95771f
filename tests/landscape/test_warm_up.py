"""Step size and masses found before the run: the acceptance meets its target, what follows samples the exact law."""

import json

import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import Expression, Quadratic
from landscape.probes.free_energy.sampling import with_parameter
from tests.cases import Z_CONTROL, Z_MAX, z_score

STIFFNESS = np.geomspace(1.0, 1e4, 8)  # condition 1e4
STIFF = Quadratic(STIFFNESS.tolist())
RULES = {"MALA": (ls.MALA(1.0), 0.574), "HMC": (ls.HMC(0.3, 8), 0.8), "NUTS": (ls.NUTS(0.02, 4), 0.8)}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.always
def test_an_ill_conditioned_gaussian(name):
    """Acceptance within 0.05 of its target, the exact law afterwards, masses within a factor of two of the best."""
    rule, target = RULES[name]
    steps = 100 if name == "NUTS" else 600
    chains = 30 if name == "NUTS" else 60
    tuned, start, acceptance = ls.warm_up(STIFF, rule, temperature=0.7, chains=chains, steps=steps, seed=3)
    assert abs(acceptance - target) < 0.05
    scale = tuned.mass / STIFFNESS
    assert scale.max() / scale.min() < 3.0
    record = ls.Record(5 if name != "NUTS" else 2)
    run = ls.simulate(STIFF, tuned, start=start, temperature=0.7, steps=10 * record.every, seed=3, record=record)
    assert abs(float(run.acceptance.mean()) - target) < 0.05
    squares = (run.position**2).mean("draw").values * STIFFNESS
    assert (np.abs(z_score(squares, 0.7)) < Z_MAX).all()
    assert abs(z_score(squares.mean(axis=1), 0.7 * 1.3)) > Z_CONTROL


def test_more_draws_for_a_gradient():
    """Fifty times as many effective draws of the softest coordinate as at the best step without masses."""
    settings = {"temperature": 1.0, "seed": 1}
    rates = []
    for mass in (None, "diagonal"):
        tuned, _, acceptance = ls.warm_up(STIFF, ls.MALA(1e-3), chains=40, steps=500, mass=mass, **settings)
        assert abs(acceptance - 0.574) < 0.05
        exact = np.random.default_rng(0).standard_normal((400, 8)) / np.sqrt(STIFFNESS)
        run = ls.simulate(STIFF, tuned, start=exact, steps=50, record=ls.Record(50), **settings)
        rho = float(np.corrcoef(exact[:, 0], run.last_position[:, 0])[0, 1])
        rates.append(-np.log(max(rho, 1e-3)) / 50)
    assert rates[1] > 50 * abs(rates[0])


def test_dense_masses():
    angle = 0.6
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    hessian = turn @ np.diag([1.0, 400.0]) @ turn.T
    tilted = Expression("(a*x**2 + 2*b*x*y + c*y**2)/2", ["x", "y"],
                        {"a": hessian[0, 0], "b": hessian[0, 1], "c": hessian[1, 1]})  # fmt: skip
    tuned, start, acceptance = ls.warm_up(
        tilted, ls.HMC(0.1, 4), temperature=1.0, chains=40, steps=300, mass="dense", seed=2
    )
    assert abs(acceptance - 0.8) < 0.07
    assert np.allclose(np.linalg.eigvals(np.linalg.solve(hessian, tuned.mass)).real, 1.0, atol=0.5)
    run = ls.simulate(tilted, tuned, start=start, temperature=1.0, steps=20, seed=2, record=ls.Record(20))
    x = run.last_position.values
    assert abs(z_score(np.einsum("ni,ij,nj->n", x, hessian, x), 2.0)) < Z_MAX


def test_temperatures_have_step_sizes_of_their_own():
    well = ls.potentials.DoubleWell(height=4.0)
    heat = np.repeat([0.1, 2.0], 30)
    tuned, _, acceptance = ls.warm_up(well, ls.MALA(1.0), temperature=heat, steps=500, mass=None, seed=4)
    assert len(np.unique(tuned.dt)) == 2 and abs(acceptance - 0.574) < 0.05 and tuned.mass is None
    run = ls.simulate(well, tuned, temperature=heat, start=[1.0], steps=300, seed=5, record=ls.Record(300))
    for low in (slice(0, 30), slice(30, 60)):
        assert abs(float(run.acceptance[low].mean()) - 0.574) < 0.06


def test_the_seed_decides():
    one, two = (ls.warm_up(STIFF, ls.MALA(1.0), temperature=1.0, chains=10, steps=100, seed=7) for _ in range(2))
    assert one.integrator.dt == two.integrator.dt and np.array_equal(one.integrator.mass, two.integrator.mass)
    assert np.array_equal(one.start.last_position, two.start.last_position)
    batched = ls.warm_up(STIFF, ls.MALA(1.0), temperature=1.0, chains=10, steps=100, seed=7, backend="batched")
    assert batched.integrator.dt == pytest.approx(one.integrator.dt, rel=1e-6)


def test_in_a_specification(tmp_path):
    """The numbers that were found are stored: a resume does not warm up again, and goes on to the same bits."""
    spec = {
        "potential": {"kind": "Quadratic", "stiffness": [1.0, 100.0]}, "integrator": {"kind": "MALA", "dt": 1.0},
        "steps": 40, "chains": 8, "temperature": 0.5, "seed": 2, "warm_up": {"steps": 100},
    }  # fmt: skip
    whole = ls.run(spec, progress=False)
    stored = json.loads(whole.attrs["spec"])
    tuned = stored["warm_up"]["tuned"]
    assert tuned["kind"] == "MALA" and tuned["mass"][1] > 20 * tuned["mass"][0] and stored["integrator"]["dt"] == 1.0
    assert float(whole.dt[0]) == tuned["dt"]
    folder = tmp_path / "run"
    ls.run(spec | {"steps": 15}, output=folder, progress=False)
    resumed = ls.resume(folder, steps=40, progress=False)
    assert np.array_equal(resumed.position, whole.position)
    again = ls.run(spec, output=folder, progress=False)  # the same recipe: it is there already
    assert np.array_equal(again.position, whole.position)
    assert np.array_equal(ls.run(stored, progress=False).position, whole.position)
    with pytest.raises(ConfigError, match=r"warm_up\.mas"):
        ls.run(spec | {"warm_up": {"mas": "dense"}})


def test_what_is_refused():
    for rule, settings, match in (
        (ls.BAOAB(0.1, 1.0), {}, "nothing to tune"),
        (ls.MALA(ls.ramp(0.1, 0.2, 1.0)), {}, "schedule"),
        (ls.MALA(0.1), {"temperature": 0.0}, "temperature above 0"),
        (ls.MALA(0.1), {"mass": "full"}, "mass"),
        (ls.MALA(0.1), {"steps": 20}, "100 steps"),
        (ls.MALA(0.1), {"target": 2.0}, "target"),
    ):
        with pytest.raises(ConfigError, match=match):
            ls.warm_up(STIFF, rule, **{"temperature": 1.0, "chains": 2} | settings)


def test_programs_of_copies_are_their_own():
    """What a formula keeps for rules with a Metropolis test is not that of the same formula with another number."""
    trap = Expression("k*x**2/2", ["x"], {"k": ls.ramp(1.0, 9.0, duration=1.0)})
    for k, formula in ((1.0, trap.at(0.0)), (9.0, trap.at(1.0)), (5.0, trap.at(0.5))):
        run = ls.simulate(formula, ls.MALA(0.1), temperature=1.0, chains=2000, steps=60, seed=1, record=ls.Record(60))
        assert abs(z_score(run.last_position.values[:, 0] ** 2, 1.0 / k)) < Z_MAX
        other = with_parameter(formula, "k", 3.0)
        run = ls.simulate(other, ls.MALA(0.1), temperature=1.0, chains=2000, steps=60, seed=1, record=ls.Record(60))
        assert abs(z_score(run.last_position.values[:, 0] ** 2, 1.0 / 3.0)) < Z_MAX
