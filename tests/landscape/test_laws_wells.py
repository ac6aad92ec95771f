"""Stationary laws in wells: the exact law of discrete time in one dimension, exp(-V_dt/T) in two."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import landscape as ls
from landscape.potentials import toys
from tests.cases import (
    Z_CONTROL,
    Z_MAX,
    euler_law,
    gauss,
    leimkuhler_matthews_law,
    modified_weights,
    plane,
    slope,
    time_average,
    z_score,
)

TABLE = Path(__file__).parents[1] / "reference" / "values.csv"
HEATING = 1.05**2  # noise five percent too strong


def table(potential, temperature):
    """Rows of the reference table, by quantity."""
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["potential"] == potential and row["T"]]
    assert all(isinstance(json.loads(row["parameters"]), dict) for row in rows)
    return {row["quantity"]: float(row["value"]) for row in rows if float(row["T"]) == temperature}


def double_well(height, width):
    """V, force and its slope by hand."""
    return (
        lambda x: height * ((x / width) ** 2 - 1) ** 2,
        lambda x: -4 * height * x / width**2 * ((x / width) ** 2 - 1),
        lambda x: -4 * height / width**2 * (3 * (x / width) ** 2 - 1),
    )


def exact_law(scheme, height, width, temperature, dt):
    nodes, weights = gauss(-2.2 * width, 2.2 * width, 60, 12)
    _, force, slope_of_force = double_well(height, width)
    if scheme == "EulerMaruyama":
        return nodes, euler_law(force, temperature, dt, nodes, weights)
    return nodes, leimkuhler_matthews_law(force, slope_of_force, temperature, dt, nodes, weights)


def test_reference_laws_of_the_double_well():
    """What the runs below are held against: transition matrices, the modified law, and Boltzmann, told apart."""
    energy, _, _ = double_well(1.0, 1.0)
    nodes, weights = gauss(-2.2, 2.2, 60, 12)
    well = toys.DoubleWell()
    boltzmann = modified_weights(well, 0.5, 0.0, nodes[:, None], weights) @ energy(nodes)
    assert abs(boltzmann - table("double_well", 0.5)["mean_V"]) < 1e-9
    assert abs(table("double_well", 0.5)["mean_V"] - well.mean_energy(0.5)) < 1e-9
    _, law = exact_law("EulerMaruyama", 1.0, 1.0, 0.5, 0.02)
    assert round(law @ energy(nodes), 4) == 0.2924
    modified = modified_weights(well, 0.5, 0.02, nodes[:, None], weights)
    assert round(modified @ energy(nodes), 4) == 0.2932
    missing_half = modified_weights(well, 0.5, 0.04, nodes[:, None], weights)  # both terms of V_dt twice too large
    assert abs(missing_half @ energy(nodes) - law @ energy(nodes)) > 20 * abs((modified - law) @ energy(nodes))


def test_orders_of_the_reference_laws():
    """The modified law is right to second order in dt, Euler-Maruyama to first, Leimkuhler-Matthews to second."""
    steps = np.array([0.02, 0.01, 0.005])
    for height, width, temperature in ((1.0, 1.0, 0.25), (0.5, 1.3, 0.2)):
        energy, _, _ = double_well(height, width)
        well = toys.DoubleWell(height, width)
        nodes, weights = gauss(-2.2 * width, 2.2 * width, 60, 12)
        boltzmann = modified_weights(well, temperature, 0.0, nodes[:, None], weights)
        errors = {"EulerMaruyama": [], "LeimkuhlerMatthews": [], "modified": []}
        for dt in steps:
            _, euler = exact_law("EulerMaruyama", height, width, temperature, dt)
            _, averaged = exact_law("LeimkuhlerMatthews", height, width, temperature, dt)
            modified = modified_weights(well, temperature, dt, nodes[:, None], weights)
            errors["EulerMaruyama"].append((euler - boltzmann) @ energy(nodes))
            errors["LeimkuhlerMatthews"].append((averaged - boltzmann) @ energy(nodes))
            errors["modified"].append((euler - modified) @ energy(nodes))
        assert abs(slope(steps, errors["EulerMaruyama"]) - ls.EulerMaruyama.stationary_order) < 0.15
        assert abs(slope(steps, errors["LeimkuhlerMatthews"]) - ls.LeimkuhlerMatthews.stationary_order) < 0.15
        assert slope(steps, errors["modified"]) > 1.8


def stationary(potential, rule, *, warm, steps, every, **settings):
    """Energies and positions after `warm` steps."""
    constraint = {"constraint": settings.pop("constraint")} if "constraint" in settings else {}
    settings |= constraint
    start = ls.simulate(potential, rule, steps=warm, record=ls.Record(warm), **settings)
    run = ls.simulate(
        potential, rule, steps=steps, record=ls.Record(every), **(settings | {"start": start}), state="keep"
    )
    return run.energy.values, run.position.values


SCHEMES = {"EulerMaruyama": ls.EulerMaruyama, "LeimkuhlerMatthews": ls.LeimkuhlerMatthews}
WELLS = [(1.0, 1.0, 0.5, 0.02), (1.0, 1.0, 0.5, 0.01), (0.6, 1.4, 0.4, 0.06)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("backend", "height", "width", "temperature", "dt"),
    [("compiled", *well) for well in WELLS] + [("batched", *WELLS[-1])],
)
@pytest.mark.always
def test_double_well(backend, height, width, temperature, dt, scheme):
    chains, steps = {"compiled": (4000, 4000), "batched": (2000, 1000)}[backend]
    well, rule = toys.DoubleWell(height, width), SCHEMES[scheme](dt)
    energy, _, _ = double_well(height, width)
    nodes, law = exact_law(scheme, height, width, temperature, dt)
    start = width * np.tile([-1.0, 1.0], chains // 2)[:, None]
    settings = {"warm": 300, "steps": steps, "every": 5, "start": start, "seed": 20, "backend": backend}
    found, x = stationary(well, rule, temperature=temperature, **settings)
    x = x[..., 0]
    mean = law @ energy(nodes)
    assert abs(z_score(time_average(found), mean)) < Z_MAX
    assert abs(z_score(time_average(found**2), law @ energy(nodes) ** 2)) < Z_MAX
    for power in (1, 2, 4):
        assert abs(z_score(time_average(x**power), law @ nodes**power)) < Z_MAX
    if scheme == "EulerMaruyama" and (backend == "compiled" or dt == 0.06):
        assert abs(z_score(time_average(found), well.mean_energy(temperature))) > Z_CONTROL
    if scheme == "LeimkuhlerMatthews" and (backend == "compiled" or dt == 0.06):
        _, other = exact_law("EulerMaruyama", height, width, temperature, dt)
        assert abs(z_score(time_average(found), other @ energy(nodes))) > Z_CONTROL
        assert abs(z_score(time_average(found), well.mean_energy(temperature))) < Z_MAX
    if dt != 0.01 and backend == "compiled":
        hot, _ = stationary(well, rule, temperature=HEATING * temperature, **settings)
        assert abs(z_score(time_average(hot), mean)) > Z_CONTROL


def test_the_modified_law_needs_its_half():
    """Runs follow V + (dt T/2) lap V - (dt/4) |V'|^2 and not its terms doubled or dropped."""
    temperature, dt, well = 0.25, 0.01, toys.DoubleWell()
    nodes, weights = gauss(-2.2, 2.2, 60, 12)
    start = np.tile([-1.0, 1.0], 2000)[:, None]
    energy, _ = stationary(
        well, ls.EulerMaruyama(dt), warm=500, steps=6000, every=5, start=start, temperature=temperature, seed=21,
        backend="compiled",
    )  # fmt: skip
    for factor, right in ((1.0, True), (0.0, False), (2.0, False)):
        law = modified_weights(well, temperature, factor * dt, nodes[:, None], weights)
        z = abs(z_score(time_average(energy), law @ well.energy(nodes[:, None])))
        assert z < Z_MAX if right else z > Z_CONTROL


# -- Muller-Brown -----------------------------------------------------------------------------------------------------

BASIN = {"x": (-1.2, -0.1), "y": (0.95, 2.0)}  # round the deepest minimum, closed by walls


def muller_brown(x, y):
    """The surface from its published constants."""
    a = np.array([-200.0, -100.0, -170.0, 15.0])
    xx, xy, yy = np.array([-1, -1, -6.5, 0.7]), np.array([0, 0, 11, 0.6]), np.array([-10, -10, -6.5, 0.7])
    dx, dy = x[..., None] - np.array([1, 0, -0.5, -1]), y[..., None] - np.array([0, 0.5, 1.5, 1])
    return (a * np.exp(xx * dx**2 + xy * dx * dy + yy * dy**2)).sum(-1)


@pytest.mark.parametrize(("backend", "temperature"), [("compiled", 10.0), ("compiled", 20.0), ("batched", 20.0)])
def test_a_basin_of_muller_brown(temperature, backend):
    surface, dt = toys.MullerBrown(), 2e-5  # the stiffest direction has curvature 4068: 4 % more variance
    nodes, weights = plane(BASIN["x"], BASIN["y"], 22, 12)
    law = modified_weights(surface, temperature, dt, nodes, weights)
    potential = muller_brown(*nodes.T)
    chains, steps = {"compiled": (2000, 5000), "batched": (2500, 1000)}[backend]
    settings = {"constraint": ls.Reflect(BASIN), "seed": 22, "chains": chains, "backend": backend}
    settings |= {"warm": 500, "steps": steps, "every": 20}
    energy, position = stationary(surface, ls.EulerMaruyama(dt), temperature=temperature, **settings)
    assert np.allclose(energy[:, -1], muller_brown(*position[:, -1].T), rtol=1e-11)
    for values, exact in (
        (energy, law @ potential),
        (energy**2, law @ potential**2),
        (position[..., 0], law @ nodes[:, 0]),
        (position[..., 1], law @ nodes[:, 1]),
        (position[..., 0] * position[..., 1], law @ nodes.prod(axis=1)),
    ):
        assert abs(z_score(time_average(values), exact)) < Z_MAX
    if backend == "compiled":
        hot, _ = stationary(surface, ls.EulerMaruyama(dt), temperature=HEATING * temperature, **settings)
        assert abs(z_score(time_average(hot), law @ potential)) > Z_CONTROL


def test_all_of_muller_brown():
    """T = 40: a start drawn from the law stays in it while chains cross between the wells."""
    surface, temperature, dt, chains = toys.MullerBrown(), 40.0, 1e-5, 2500
    known = table("muller_brown", temperature)
    nodes, weights = plane((-3.5, 2.6), (-2.0, 4.0), 60, 10)
    potential = muller_brown(*nodes.T)
    boltzmann = modified_weights(surface, temperature, 0.0, nodes, weights)
    assert np.allclose(boltzmann @ nodes, [known["mean_x"], known["mean_y"]], rtol=0, atol=1e-5)
    assert abs((boltzmann @ potential**2 - (boltzmann @ potential) ** 2) / known["var_V"] - 1) < 1e-4
    law = modified_weights(surface, temperature, dt, nodes, weights)
    start = np.random.default_rng(5).choice(nodes, size=chains, p=law)
    settings = {"start": start, "steps": 12_000, "record": ls.Record(100), "seed": 23, "backend": "compiled"}
    run = ls.simulate(surface, ls.EulerMaruyama(dt), temperature=temperature, **settings)
    energy, position = run.energy.values, run.position.values
    assert np.all(np.abs(z_score(time_average(position), law @ nodes)) < Z_MAX)
    assert abs(z_score(time_average(energy), law @ potential)) < Z_MAX
    assert abs(z_score(time_average(energy**2), law @ potential**2)) < Z_MAX
    hot = ls.simulate(surface, ls.EulerMaruyama(dt), temperature=HEATING * temperature, **settings).energy
    assert abs(z_score(time_average(hot), law @ potential)) > Z_CONTROL
    crossed = np.mean(np.sign(position[:, 0, 1] - 0.7) != np.sign(position[:, -1, 1] - 0.7))
    assert crossed > 0.02
