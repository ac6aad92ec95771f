"""Entropic forces: the valley and the ring sit where they are wide, by (T/2) ln g and not by T ln g."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

import landscape as ls
from landscape.potentials import toys
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, gauss, modified_weights, plane, time_average, z_score

TABLE = Path(__file__).parents[1] / "reference" / "values.csv"
HEATING = 1.05**2  # noise five percent too strong
G = "1 + y**2"
SIDE = 3.0


def table(potential, quantity, temperature, **parameters):
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if (
                row["potential"] == potential
                and row["quantity"] == quantity
                and float(row["T"] or "nan") == temperature
            ):
                given = json.loads(row["parameters"])
                if all(given.get(name) == value for name, value in parameters.items()):
                    return float(row["value"])
    raise LookupError((potential, quantity, temperature, parameters))


def stationary(potential, rule, *, warm, steps, every, **settings):
    """Energies and positions after `warm` steps, on the same noise as one long run."""
    start = ls.simulate(potential, rule, steps=warm, record=ls.Record(warm), **settings)
    run = ls.simulate(
        potential, rule, steps=steps, record=ls.Record(every), **(settings | {"start": start}), state="keep"
    )
    return run.energy.values, run.position.values


def score(samples, exact):
    return z_score(time_average(samples), exact)


# -- the valley between walls -----------------------------------------------------------------------------------------


def valley_nodes(temperature, side=SIDE):
    """Nodes with an edge at |y| = 1, wide enough across for the softest place."""
    reach = 7 * math.sqrt(temperature)
    return plane((-reach, reach), (-side, side), 24, 10)


def test_reference_law_of_the_valley():
    valley = toys.Valley(G, bounds={"y": (-SIDE, SIDE)})
    for temperature in (0.1, 1.0):
        nodes, weights = valley_nodes(temperature)
        y = nodes[:, 1]
        law = modified_weights(valley, temperature, 0.0, nodes, weights)
        assert abs(law @ (np.abs(y) < 1) - 0.48468493) < 1e-7
        assert abs(law @ y**2 - 2.1084994) < 1e-6
        assert abs(law @ valley.energy(nodes) - temperature / 2) < 1e-6 * temperature
    peak = table("valley", "P_y(0)", 0.1, box_y=[-3, 3])
    assert abs(peak * 2 * math.asinh(3) - 1) < 1e-9
    assert abs(valley.marginal(0.0, 0.1) - peak) < 1e-9


def printed_law(function):
    """Average over P ~ 1/g, which follows from the printed V_eff = T ln g."""
    y, w = gauss(-SIDE, SIDE, 60, 12)
    return np.sum(w * function(y) / (1 + y**2)) / np.sum(w / (1 + y**2))


# Temperature, step, chains, steps: fast diffusion along y where T is large; the step and its half.
VALLEYS = {
    "compiled": [(0.1, 0.02, 4000, 8000), (1.0, 0.008, 3000, 8000), (1.0, 0.004, 3000, 12_000)],
    "batched": [(1.0, 0.01, 3000, 1500)],
}


@pytest.mark.parametrize(
    ("backend", "temperature", "dt", "chains", "steps"), [(b, *v) for b in BACKENDS for v in VALLEYS[b]]
)
@pytest.mark.always
def test_valley(backend, temperature, dt, chains, steps):
    valley = toys.Valley(G, bounds={"y": (-SIDE, SIDE)})
    nodes, weights = valley_nodes(temperature)
    law = modified_weights(valley, temperature, dt, nodes, weights)
    line, line_weights = gauss(-SIDE, SIDE, 60, 12)
    cumulative = np.cumsum(line_weights * (1 + line**2) ** -0.5)
    spread = np.interp((np.arange(chains) + 0.5) / chains, cumulative / cumulative[-1], line)
    start = np.stack([np.zeros(chains), spread], axis=1)
    settings = {"warm": 400, "steps": steps, "every": 10, "start": start, "seed": 30, "backend": backend}
    energy, position = stationary(valley, ls.EulerMaruyama(dt), temperature=temperature, **settings)
    x, y = np.moveaxis(position, -1, 0)
    assert np.abs(y).max() <= SIDE
    inside, center = np.abs(y) < 1, nodes[:, 1]
    assert abs(score(inside, law @ (np.abs(center) < 1))) < Z_MAX
    assert abs(score(y**2, law @ center**2)) < Z_MAX
    assert abs(score(y, 0.0)) < Z_MAX
    assert abs(score(x**2, law @ nodes[:, 0] ** 2)) < Z_MAX
    assert abs(score(energy, law @ valley.energy(nodes))) < Z_MAX
    assert abs(score((1 + y**2) * x**2, law @ ((1 + center**2) * nodes[:, 0] ** 2))) < Z_MAX

    printed = printed_law(lambda y: np.abs(y) < 1)
    assert round(printed, 3) == 0.629
    assert abs(score(inside, printed)) > Z_CONTROL
    assert abs(score(y**2, printed_law(lambda y: y**2))) > Z_CONTROL
    assert abs(score(inside, 1 / SIDE)) > Z_CONTROL  # no entropic force at all
    if backend == "compiled":
        hot, _ = stationary(valley, ls.EulerMaruyama(dt), temperature=HEATING * temperature, **settings)
        assert abs(score(hot, law @ valley.energy(nodes))) > Z_CONTROL


def test_a_start_at_the_end_finds_the_same_valley():
    """The law of y does not depend on where chains start, which a start drawn from it could hide."""
    valley = toys.Valley(G, bounds={"y": (-SIDE, SIDE)})
    temperature, dt = 1.0, 0.01
    nodes, weights = valley_nodes(temperature)
    law = modified_weights(valley, temperature, dt, nodes, weights)
    settings = {"warm": 4000, "steps": 6000, "every": 20, "start": [0.0, 2.9], "chains": 2000, "seed": 31}
    _, position = stationary(valley, ls.EulerMaruyama(dt), temperature=temperature, backend="compiled", **settings)
    assert abs(score(np.abs(position[..., 1]) < 1, law @ (np.abs(nodes[:, 1]) < 1))) < Z_MAX
    assert abs(score(position[..., 1], 0.0)) < Z_MAX


@pytest.mark.parametrize(("rule", "steps"), [(ls.EulerMaruyama(0.002), 12_000), (ls.LeimkuhlerMatthews(0.01), 5000)])
@pytest.mark.parametrize("profile", ["exp(y)", "2 + 1.5*cos(2*y)"])
def test_other_valleys(profile, rule, steps):
    """P(y) ~ g(y)^(-1/2) for any g, also where it is not even, by both schemes."""
    temperature = 0.5
    valley = toys.Valley(profile, bounds={"y": (-1.5, 1.5)})
    y, w = gauss(-1.5, 1.5, 60, 12)
    g = np.exp(y) if profile.startswith("exp") else 2 + 1.5 * np.cos(2 * y)
    half, full = (w * g**power / np.sum(w * g**power) for power in (-0.5, -1.0))
    start = np.stack([np.zeros(2000), np.linspace(-1.45, 1.45, 2000)], axis=1)
    settings = {"warm": 2000, "steps": steps, "every": 20, "start": start, "seed": 32, "backend": "compiled"}
    _, position = stationary(valley, rule, temperature=temperature, **settings)
    for wave in (np.sin, lambda y: np.cos(2 * y)):
        found, exact = wave(position[..., 1]), half @ wave(y)
        assert abs(score(found, exact)) < Z_MAX
        if abs(full @ wave(y) - exact) > 0.05:
            assert abs(score(found, full @ wave(y))) > Z_CONTROL
            assert abs(score(found, w @ wave(y) / 3.0)) > Z_CONTROL


# -- the confined valley ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "temperature", "dt"),
    [("compiled", 0.5, 0.005), ("compiled", 0.1, 0.02), ("compiled", 0.01, 0.05), ("batched", 0.1, 0.04)],
)
def test_confined_valley(backend, temperature, dt):
    confinement = 0.2
    valley = toys.Valley(G, confinement=confinement)
    far = 7 * math.sqrt(temperature / confinement)
    nodes, weights = plane((-7 * math.sqrt(temperature), 7 * math.sqrt(temperature)), (-far, far), 30, 10)
    center = np.abs(nodes[:, 1]) < 0.2 * far
    boltzmann = modified_weights(valley, temperature, 0.0, nodes, weights)
    if temperature == 0.1:
        assert abs(boltzmann @ nodes[:, 0] ** 2 - table("valley_confined", "mean_x2", 0.1)) < 1e-8
        line, w = gauss(-far, far, 200, 12)
        density = (1 + line**2) ** -0.5 * np.exp(-confinement * line**2 / (2 * temperature))
        assert abs(1 / (w @ density) - table("valley_confined", "P_y(0)", 0.1)) < 1e-8
    else:
        known = table("valley_confined", "mean_V", temperature)
        assert abs(boltzmann @ valley.energy(nodes) - known) < 1e-7 * known
    law = modified_weights(valley, temperature, dt, nodes, weights)
    chains, steps = {"compiled": (3000, 8000), "batched": (3000, 1200)}[backend]
    rng = np.random.default_rng(6)
    start = rng.choice(nodes, size=chains, p=boltzmann)
    settings = {"warm": 300, "steps": steps, "every": 10, "start": start, "seed": 33, "backend": backend}
    energy, position = stationary(valley, ls.EulerMaruyama(dt), temperature=temperature, **settings)
    x, y = np.moveaxis(position, -1, 0)
    assert abs(score(energy, law @ valley.energy(nodes))) < Z_MAX
    assert abs(score(x**2, law @ nodes[:, 0] ** 2)) < Z_MAX
    assert abs(score(y**2, law @ nodes[:, 1] ** 2)) < Z_MAX
    assert abs(score(np.abs(y) < 0.2 * far, law @ center)) < Z_MAX
    if temperature > 0.01:  # colder, y stays where g is 1 and no entropic force is felt
        assert abs(score(y**2, temperature / confinement)) > Z_CONTROL
    hot, _ = stationary(valley, ls.EulerMaruyama(dt), temperature=HEATING * temperature, **settings)
    assert abs(score(hot, law @ valley.energy(nodes))) > Z_CONTROL


# -- the ring ---------------------------------------------------------------------------------------------------------


def ring_law(ring, temperature, dt):
    """Nodes (r, theta) and weights of exp(-V_dt/T) r dr dtheta.

    The correction in dt is left out within 0.3 R of the origin, where the force has no limit and chains hardly go.
    """
    radius = ring.spec().get("radius", 1.0)
    r, wr = gauss(0.0, 3.0 * radius, 30, 12)
    theta, wt = gauss(-math.pi, math.pi, 30, 8)
    polar = np.stack(np.meshgrid(r, theta, indexing="ij"), axis=-1).reshape(-1, 2)
    nodes = polar[:, :1] * np.stack([np.cos(polar[:, 1]), np.sin(polar[:, 1])], axis=1)
    log_weight = -ring.energy(nodes) / temperature
    outer = (polar[:, 0] > 0.3 * radius) & (log_weight > -50)
    laplacian = np.trace(ring.hessian(nodes[outer]), axis1=-2, axis2=-1)
    log_weight[outer] += dt / (4 * temperature) * (ring.gradient(nodes[outer]) ** 2).sum(-1) - dt / 2 * laplacian
    law = np.outer(wr * r, wt).ravel() * np.exp(log_weight)
    return polar, law / law.sum()


RINGS = {  # k0, a, radius, temperature
    "T=0.1": (50, 0.8, 1.0, 0.1),
    "T=0.5": (50, 0.8, 1.0, 0.5),
    "T=1": (50, 0.8, 1.0, 1.0),
    "softer": (20, 0.5, 1.0, 0.5),
    "wider": (12, 0.5, 1.6, 0.5),
}


@pytest.mark.parametrize("name", RINGS)
def test_reference_law_of_the_ring(name):
    k0, a, radius, temperature = RINGS[name]
    ring = toys.Ring(f"{k0}*(1 + {a}*cos(theta))", radius)
    polar, law = ring_law(ring, temperature, 0.0)
    r, theta = polar.T
    assert abs(law @ r - ring.mean_radius(temperature)) < 1e-7
    energy = ring.energy(r[:, None] * np.stack([np.cos(theta), np.sin(theta)], axis=1))
    assert abs(law @ energy / ring.mean_energy(temperature) - 1) < 1e-7
    if name == "T=1":
        assert abs(law @ np.cos(theta) - table("ring", "mean_cos_theta", 1.0, k0=50)) < 1e-8
        s, w = gauss(0.0, 4.0, 60, 12)
        weight = w * s * np.exp(-10 * (s - 1) ** 2 / 2)
        assert round(weight @ s / weight.sum(), 4) == 1.0999
    if name == "softer":
        assert abs(law @ np.cos(theta) - table("ring", "mean_cos_theta", 0.5, k0=20)) < 1e-8


def ring_start(polar, law, chains):
    chosen = np.random.default_rng(7).choice(len(polar), size=chains, p=law)
    r, theta = polar[chosen].T
    return np.stack([r * np.cos(theta), r * np.sin(theta)], axis=1)


@pytest.mark.parametrize(
    ("backend", "name", "dt", "chains", "steps"),
    [
        ("compiled", "T=0.1", 1e-3, 2500, 10_000),
        ("compiled", "T=0.5", 5e-4, 2000, 10_000),
        ("compiled", "T=1", 2e-4, 2500, 12_000),
        ("compiled", "softer", 1e-3, 2000, 6000),
        ("compiled", "wider", 2e-3, 2000, 6000),
        ("batched", "T=0.5", 1e-3, 3000, 800),
    ],
)
@pytest.mark.always
def test_ring(backend, name, dt, chains, steps):
    k0, a, radius, temperature = RINGS[name]
    ring = toys.Ring(f"{k0}*(1 + {a}*cos(theta))", radius)
    polar, law = ring_law(ring, temperature, dt)
    energies = ring.energy(polar[:, :1] * np.stack([np.cos(polar[:, 1]), np.sin(polar[:, 1])], axis=1))
    settings = {"warm": 200, "steps": steps, "every": 10, "seed": 34, "backend": backend}
    settings["start"] = ring_start(polar, law, chains)
    energy, position = stationary(ring, ls.EulerMaruyama(dt), temperature=temperature, **settings)
    r, theta = np.hypot(*np.moveaxis(position, -1, 0)), np.arctan2(position[..., 1], position[..., 0])

    # The angular law.
    exact_r, exact_theta = polar.T
    assert abs(score(np.cos(theta), law @ np.cos(exact_theta))) < Z_MAX
    assert abs(score(np.sin(theta), 0.0)) < Z_MAX
    assert abs(score(np.cos(2 * theta), law @ np.cos(2 * exact_theta))) < Z_MAX
    angle, w = gauss(-math.pi, math.pi, 60, 8)
    printed = w / (1 + a * np.cos(angle))  # V_eff = T ln k
    printed = printed @ np.cos(angle) / printed.sum()
    if backend == "compiled":
        assert abs(score(np.cos(theta), printed)) > Z_CONTROL
        assert abs(score(np.cos(theta), 0.0)) > Z_CONTROL

    # The radial law, over all angles and where the ring is softest. Without the Jacobian r means would be near R.
    assert abs(score(r, law @ exact_r)) < Z_MAX
    assert abs(score(r**2, law @ exact_r**2)) < Z_MAX
    soft, exact_soft = np.cos(theta) < -0.9, np.cos(exact_theta) < -0.9
    exact_mean = law @ (exact_r * exact_soft) / (law @ exact_soft)
    assert abs(score(soft * (r - exact_mean), 0.0)) < Z_MAX
    flat = law / np.where(exact_r > 0, exact_r, 1.0)
    without_jacobian = flat @ (exact_r * exact_soft) / (flat @ exact_soft)
    if backend == "compiled":
        assert abs(score(soft * (r - without_jacobian), 0.0)) > Z_CONTROL
    if name == "T=1":
        assert abs(exact_mean - 1.0999) < 0.02 and abs(without_jacobian - 1.0) < 0.02

    assert abs(score(energy, law @ energies)) < Z_MAX
    if backend == "compiled":
        hot, _ = stationary(ring, ls.EulerMaruyama(dt), temperature=HEATING * temperature, **settings)
        assert abs(score(hot, law @ energies)) > Z_CONTROL
