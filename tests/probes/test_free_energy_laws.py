"""Free energies against quadrature: rings, barriers, wells, walls and quadratics."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import landscape as ls
from landscape import potentials, random
from landscape.probes import free_energy
from landscape.probes.free_energy.averages import averages
from tests.cases import LONG_ONLY

RING = potentials.Ring()


def off(found, theory):
    """Differences to theory in standard errors, from the first value on."""
    theory = np.asarray(theory) - theory[0]
    return abs(found.free_energy.to_numpy() - theory)[1:] / found.free_energy_stderr.to_numpy()[1:]


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_ring_around(temperature):
    """The angular law, at T where the Jacobian of the radius is a few parts in a thousand."""
    at = np.linspace(0.0, 3.0, 13)
    found = free_energy.mean_force(RING, "atan2(y, x)", at, temperature, chains=60, steps=150)
    assert (off(found, RING.effective_potential(at, temperature)) < 4.5).all()
    constant = np.zeros(13)
    assert off(found, constant).max() > 8


@pytest.mark.parametrize("temperature", [0.5, *(pytest.param(t, marks=LONG_ONLY) for t in (0.1, 1.0))])
def test_ring_outwards(temperature):
    """The radial law with its Jacobian -T ln r, and not without it."""
    at = np.linspace(0.7, 1.3, 7)
    found = free_energy.mean_force(RING, "sqrt(x**2 + y**2)", at, temperature, chains=40, steps=800)
    theory = -temperature * np.log(RING.radial_marginal(at, temperature))
    assert (off(found, theory) < 4.5).all()
    assert off(found, theory + temperature * np.log(at)).max() > 8


def test_coordinates_of_every_kind_are_one():
    """A name, a number, a vector, a formula and a callable that mean the same give the same numbers."""
    valley, at = potentials.Valley("1 + y**2"), [0.0, 0.5, 1.0]
    kinds = ["y", 1, [0.0, 1.0], "0*x + y", lambda x: x[..., 1]]
    runs = [free_energy.mean_force(valley, kind, at, 0.1, chains=8, steps=60, seed=4) for kind in kinds]
    for run in runs[1:]:
        assert np.allclose(run.mean_force.to_numpy(), runs[0].mean_force.to_numpy(), rtol=1e-9)
    scaled = free_energy.mean_force(valley, [0.0, 2.0], [0.0, 1.0, 2.0], 0.1, chains=8, steps=60, seed=4)
    assert np.allclose(scaled.mean_force.to_numpy(), 0.5 * runs[0].mean_force.to_numpy(), rtol=1e-6)


@pytest.mark.parametrize("stiff", [1, 4, 10])
def test_entropic_barrier(stiff):
    barrier = potentials.EntropicBarrier(stiff=stiff)
    at, t = np.linspace(-1.2, 1.2, 17), 0.1
    sampled = free_energy.mean_force(barrier, "y", at, t, chains=80, steps=200)
    exact = barrier.effective_potential(at, t)
    assert (off(sampled, exact) < 4.5).all()
    assert off(sampled, 2.0 * exact).max() > 8
    bent = free_energy.effective_potential(barrier, "y", at, t)
    assert np.allclose(bent.free_energy, exact - exact[0], atol=1e-12)


@pytest.mark.always
def test_umbrella_agrees_on_the_channel():
    """(T/2) ln g through the gorge of one stiff direction, with the same law as all the others."""
    channel, at, t = potentials.EntropicBarrier(stiff=1), np.linspace(0.0, 1.2, 13), 0.1
    found = free_energy.umbrella(channel, "y", at, t, chains=16, steps=4000, width=0.15)
    exact = channel.effective_potential(at, t)
    assert bool(found.resolved.all())
    assert (off(found, exact) < 4.5).all()
    assert off(found, 2.0 * exact).max() > 8


@pytest.mark.parametrize(
    ("stiff", "exact", "chains"),
    [(1, 5.3999782, 1000), (4, 45.641502, 300), pytest.param(10, 22677.793, 100, marks=LONG_ONLY)],
)
def test_first_passage_of_the_reduced_law_by_sampling(stiff, exact, chains):
    """A particle in (n T/2) ln g alone, at T = 1: reflected at -1.5, absorbed at 1.5."""
    reduced = potentials.Expression(f"{stiff}/2*log(1 + 9*exp(-y**2/0.18))", ["y"])
    run = ls.simulate(
        reduced, ls.EulerMaruyama(dt=5e-4), temperature=1.0, start=[-1.5], chains=chains,
        steps=int(12 * exact / 5e-4), record=ls.Record(int(12 * exact / 5e-4)), seed=7,
        constraint=[ls.Reflect({"y": (-1.5, None)}), ls.Absorb({"y": (None, 1.5)})],
    )  # fmt: skip
    times = run.exit_time.to_numpy()
    assert np.isfinite(times).all()
    error = times.std(ddof=1) / chains**0.5
    assert abs(times.mean() - exact) < 4.5 * error
    assert abs(times.mean() - exact * 10 ** (stiff / 2)) > 8 * error  # the barrier as printed, twice as high


def test_double_well():
    well = potentials.DoubleWell()
    start = np.random.default_rng(0).choice([-1.0, 1.0], (64, 1))
    run = ls.simulate(
        well, ls.MALA(dt=0.05), temperature=0.25, start=start, steps=40_000,
        record=ls.Record(40_000, observables=["energy", ls.Histogram("x", bins=30, range=(-1.5, 1.5), every=5)]),
    )  # fmt: skip
    found = free_energy.profile(run.x_count, 0.25, zero="mean")
    edges = np.linspace(-1.5, 1.5, 31)
    theory = binned(lambda x: (x**2 - 1) ** 2, edges, 0.25)
    z = (found.free_energy - theory) / found.free_energy_stderr
    assert bool(found.resolved)
    assert float(abs(z).max()) < 4.5
    assert float(abs((found.free_energy - 1.2 * theory) / found.free_energy_stderr).max()) > 8


def binned(energy, edges, temperature):
    """-T ln of the mass of each bin, of mean 0."""
    masses = [quad(lambda x: np.exp(-energy(x) / temperature), *pair)[0] for pair in pairwise(edges)]
    free = -temperature * np.log(masses)
    return free - free.mean()


def test_muller_brown():
    """Mean force along x through the deepest basin, where one channel is open, against quadrature over y."""
    surface, t = potentials.MullerBrown(), 10.0
    at = np.linspace(-0.8, -0.3, 13)
    found = free_energy.mean_force(surface, "x", at, t, chains=40, steps=800, start=surface.minima()[0])

    def weight(x):
        return quad(lambda y: np.exp(-(float(surface.energy([x, y])) + 146.7) / t), 0.3, 2.4, limit=200, points=[1.45])[
            0
        ]

    def floor(x):
        return min(float(surface.energy([x, y])) for y in np.linspace(0.3, 2.4, 1000))

    theory = -t * np.log([weight(x) for x in at])
    assert bool(found.resolved.all())
    assert (off(found, theory) < 4.5).all()
    assert off(found, [floor(x) for x in at]).max() > 8  # the energy of the floor alone, without the room across it
    assert off(found, 1.05 * theory).max() > 8


def test_exponential_wall_over_five_decades():
    """F, S and heat capacity of the exponential wall against its exact forms."""
    wall = potentials.ExponentialWall(form="exponential")
    at = np.geomspace(1e-4, 10.0, 31)
    found = free_energy.thermodynamic_integration(
        wall, "temperature", at, chains=32, steps=30_000, every=60, dt=1.0, reference=float(wall.free_energy(at[0]))
    )
    assert bool(found.resolved.all())
    for name in ("free_energy", "entropy", "heat_capacity"):
        exact = getattr(wall, name)(at)
        z = (abs(found[name] - exact) / found[f"{name}_stderr"])[1:]
        assert float(z.max()) < 4.5, name
    assert float(abs((found.free_energy - 1.1 * wall.free_energy(at)) / found.free_energy_stderr)[1:].max()) > 8


@pytest.mark.parametrize("dim", [1, 2, 10, 200])
def test_quadratics(dim):
    stiffness = np.geomspace(1.0, 4.0, dim)
    spring = potentials.Quadratic(stiffness)
    t = np.array([0.1, 0.3])
    found = free_energy.harmonic(spring, np.zeros(dim), t)
    assert int(found.stiff) == dim and int(found.flat) == 0
    for name, exact in (
        ("free_energy", spring.free_energy(t)),
        ("entropy", spring.entropy(t)),
        ("energy", spring.mean_energy(t)),
    ):
        assert (abs(found[name] - exact) <= 4.5 * found[f"{name}_stderr"] + 1e-13 * abs(exact)).all()


def test_quadratic_in_many_dimensions_by_integration():
    """Between two quadratics of 200 dimensions the difference is (T/2) sum ln(k_B / k_A)."""
    soft, hard = (potentials.Function(lambda x, k=k: 0.5 * k * (x**2).sum(-1), 200) for k in (1.0, 2.0))
    found = free_energy.thermodynamic_integration(
        (soft, hard), None, np.linspace(0, 1, 6), 0.1, chains=16, steps=1000, every=5, dt=0.2
    )
    last = found.isel({"lambda": -1})
    assert abs(float(last.free_energy) - 10.0 * np.log(2.0)) < 4.5 * float(last.free_energy_stderr)


def test_flat_directions_are_counted_not_summed():
    trough = potentials.Expression("k*x**2/2 + 0*y - h*z**2/2", ["x", "y", "z"], {"k": 4.0, "h": 1.0})
    found = free_energy.harmonic(trough, [0.0, 0.0, 0.0], 0.1)
    assert [int(found[name]) for name in ("stiff", "flat", "negative")] == [1, 1, 1]
    assert float(found.free_energy) == pytest.approx(0.05 * np.log(4.0 / (0.2 * np.pi)))
    assert found.attrs["cutoff"] == pytest.approx(4e-6)
    assert int(free_energy.harmonic(trough, [0.0, 0.0, 0.0], 0.1, cutoff=5.0).stiff) == 0


def test_first_passage_of_the_reduced_barrier():
    for stiff, exact in ((1, 5.3999782), (4, 45.641502), (10, 22677.793)):
        barrier = potentials.EntropicBarrier(stiff=stiff)
        assert barrier.mean_first_passage_time(-1.5, 1.5, 0.1) * 0.1 == pytest.approx(exact, rel=1e-6)


def test_constrained_walks_draw_counted_numbers(monkeypatch):
    """Noise and tests of acceptance are functions of (seed, stream, walker, step) alone: torch is not asked for any."""

    def refuse(*_, **__):
        raise AssertionError("a draw from torch's generator")

    for name in ("randn", "rand", "Generator"):
        monkeypatch.setattr(torch, name, refuse)
    drawn = []
    normals = random.normals
    monkeypatch.setattr(random, "normals", lambda *a, **k: drawn.append((*a, k["stream"])) or normals(*a, **k))
    at, settings = [0.4, 1.0], {"chains": 8, "steps": 30}
    first = free_energy.mean_force(potentials.Valley("1 + y**2"), "y", at, 0.1, seed=7, **settings)
    assert [draw[2] for draw in drawn] == list(range(len(drawn)))  # one step after the other
    assert {(draw[0], draw[4]) for draw in drawn} == {(7, random.NOISE)}
    assert all(torch.equal(draw[1], torch.arange(16)) for draw in drawn)
    same, other = (
        free_energy.mean_force(potentials.Valley("1 + y**2"), "y", at, 0.1, seed=seed, **settings) for seed in (7, 8)
    )
    assert np.array_equal(first.mean_force, same.mean_force) and not np.array_equal(first.mean_force, other.mean_force)


@pytest.mark.parametrize(
    ("energy", "coordinate", "at", "start", "exact"),
    [
        ("x**4/4 - x**2 + 7*sin(3*y)", "y", [-1.0, 0.0, 1.0], None, lambda z: 21.0 * np.cos(3.0 * z)),
        ("(x**2 + y**2)/2", "sqrt(x**2 + y**2)", [0.5, 1.0, 2.0], [1.0, 0.0], lambda z: z - 0.1 / z),
        ("100*((x + y)/2)**4 + (x - y)**2/4", "(x + y)/2", [0.5, 1.0, 2.0], None, lambda z: 400.0 * z**3),
    ],
    ids=["separate", "radius", "oblique"],
)
def test_forces_that_are_all_the_same(energy, coordinate, at, start, exact):
    """Where q separates every force is F'(q) to rounding, which no correlation time is needed for."""
    surface, at = potentials.Expression(energy, ["x", "y"]), np.array(at)
    found = free_energy.mean_force(surface, coordinate, at, 0.1, chains=8, steps=20, start=start)
    assert found.resolved.all() and found.chains_agree.all() and np.isfinite(found.free_energy_stderr).all()
    assert np.allclose(found.mean_force, exact(at), rtol=1e-9)
    assert (found.mean_force_stderr <= 1e-9 * abs(found.mean_force) + 1e-12).all()
    coupled = potentials.Expression(f"{energy} + 0.01*x*y**2", ["x", "y"])  # the control
    if coordinate == "y":
        other = free_energy.mean_force(coupled, coordinate, at, 0.1, chains=8, steps=20, start=start)
        assert not (other.mean_force_stderr[at != 0] < 1e-6).any()


def test_what_counts_as_all_the_same():
    noise = np.random.default_rng(0).normal(size=(1, 8, 20)).cumsum(axis=2)
    constant = averages(3.0 + 1e-16 * noise)
    assert constant.resolved[0] and 0 <= constant.stderr[0] < 1e-14
    assert not averages(3.0 + 1e-12 * noise).resolved[0] and np.isnan(averages(3.0 + 1e-12 * noise).stderr[0])
    assert averages(3.0 + 1e-12 * noise, 1e-10).resolved[0]
