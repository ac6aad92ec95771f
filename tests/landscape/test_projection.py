"""Projected dynamics: the closed form of the drift, the rules at a projection, records, restarts, bad input."""

import json

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError, NonFiniteError, ShapeError
from landscape.paths import Path, straight_line
from landscape.potentials import NetworkLoss, architectures
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX

CORNER = Path([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
ONCE = ls.Record(10**9)


def block_drift(k, dt, temperature, g, slope):
    """Drift velocity of k free steps from the axis of the valley g(y) x^2 / 2, y frozen within them."""
    rho = 1 - dt * g
    variance = 2 * dt * temperature / (1 - rho**2)
    return -(slope / 2) * variance * (1 - (1 - rho ** (2 * k)) / (k * (1 - rho**2)))


def one_block(g, k, *, y, dt, temperature, chains, seed, **settings):
    """Velocity of every chain in a first block of k steps."""
    axis = straight_line([0.0, y - 5.0], [0.0, y + 5.0])
    valley = ls.potentials.Expression(f"({g})*x**2/2", ["x", "y"])
    run = ls.simulate(
        valley, ls.EulerMaruyama(dt=dt), temperature=temperature, start=[0.0, y], chains=chains, steps=k, record=ONCE,
        constraint=ls.ProjectOntoPath(axis, every=k), seed=seed, **settings,
    )  # fmt: skip
    assert run.sizes["projection"] == 2
    return run.arc_length.diff("projection").to_numpy()[:, 0] / (k * dt)


def z_score(values, expected):
    return (values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


BLOCKS = {1: 400_000, 2: 300_000, 5: 200_000, 15: 150_000, 100: 60_000}


@pytest.mark.parametrize("k", BLOCKS)
@pytest.mark.always
def test_drift_of_k_steps(k):
    velocity = one_block("1 + y**2", k, y=2.0, dt=0.01, temperature=0.1, chains=BLOCKS[k], seed=k)
    expected = block_drift(k, 0.01, 0.1, 5.0, 4.0)
    if k == 1:
        assert expected == 0
    if k in (15, 100):  # values of a closed form evaluated elsewhere
        assert expected == pytest.approx({15: -0.018995, 100: -0.036818}[k], abs=5e-7)
    assert abs(z_score(velocity, expected)) < Z_MAX


@pytest.mark.parametrize(
    ("g", "at", "slope", "y", "dt", "temperature", "k"),
    [
        ("16*exp(3*y)", 16.0, 48.0, 0.0, 0.02, 0.01, 10),
        ("4*exp(-4*y)", 4.0, -16.0, 0.0, 0.05, 0.005, 15),
        ("20*exp(6*y)", 20.0, 120.0, 0.0, 0.05, 0.001, 3),  # rho = 0: one step forgets all
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_symbol_of_the_drift(g, at, slope, y, dt, temperature, k, backend):
    velocity = one_block(g, k, y=y, dt=dt, temperature=temperature, chains=80_000, seed=3, backend=backend)
    expected = block_drift(k, dt, temperature, at, slope)
    assert abs(z_score(velocity, expected)) < Z_MAX
    assert abs(z_score(velocity, 2 * expected)) > Z_MAX  # control: the law without its factor 1/2


def test_the_law_without_its_factor_is_rejected():
    """Controls: one step is no limit of many, and T g'/g is not (T/2) g'/g."""
    one = one_block("1 + y**2", 1, y=2.0, dt=0.01, temperature=0.1, chains=500_000, seed=1)
    assert abs(z_score(one, -0.1 * 4.0 / 5.0)) > Z_CONTROL
    many = one_block("1 + y**2", 100, y=2.0, dt=0.01, temperature=0.1, chains=60_000, seed=100)
    assert abs(z_score(many, 2 * block_drift(100, 0.01, 0.1, 5.0, 4.0))) > Z_CONTROL


# -- rules ------------------------------------------------------------------------------------------------------------


def moved(move, *, start=(0.5, 0.0), path=CORNER, steps=1, **rule):
    """A run in which the free step is a given displacement: descent on a plane."""
    plane = ls.potentials.Expression("a*x + b*y", ["x", "y"], {"a": -move[0], "b": -move[1]})
    return ls.simulate(
        plane, ls.SGD(lr=1.0), start=list(start), steps=steps, constraint=ls.ProjectOntoPath(path, every=1, **rule)
    )


def test_nearest_point_of_the_polyline():
    run = moved((0.2, 0.3), spline=False)
    np.testing.assert_allclose(run.arc_length, [[0.5, 0.7]])
    np.testing.assert_allclose(run.path_distance, [[0.0, 0.3]], atol=1e-15)
    np.testing.assert_allclose(run.last_position, [[0.7, 0.0]])
    np.testing.assert_allclose(run.position[0, 0], [0.7, 0.3])  # what is recorded at draws is the free position
    np.testing.assert_array_equal(run.segment, [[0, 0]])


def test_the_spline_is_that_of_the_path():
    run = moved((0.2, 0.3), start=(0.5, 0.2))
    s, distance = CORNER.spline.project(np.array([[0.5, 0.2]]))
    np.testing.assert_allclose(run.arc_length[:, 0], s)
    np.testing.assert_allclose(run.path_distance[:, 0], distance)
    free = CORNER.spline.at(s) + np.array([0.2, 0.3])
    s, distance = CORNER.spline.project(free)
    np.testing.assert_allclose(run.arc_length[:, 1], s)
    np.testing.assert_allclose(run.path_distance[:, 1], distance)
    np.testing.assert_allclose(run.last_position, CORNER.spline.at(s))


def test_the_tangent_rule_follows_the_displacement_along_the_path():
    run = moved((0.2, 0.3), spline=False, update="tangent")
    np.testing.assert_allclose(run.arc_length, [[0.5, 0.7]])
    spline = moved((0.1, 0.15), update="tangent", steps=3)
    s = 0.0 + float(CORNER.spline.project(np.array([0.5, 0.0]))[0])
    for n in range(3):
        s += float(np.array([0.1, 0.15]) @ CORNER.spline.tangent(s))
        assert float(spline.arc_length[0, n + 1]) == pytest.approx(s, abs=1e-12)


@pytest.mark.parametrize(("ends", "expected"), [("clamp", 0.0), ("reflect", 0.2)])
def test_ends(ends, expected):
    run = moved((-0.7, 0.0), spline=False, update="tangent", ends=ends)
    np.testing.assert_allclose(run.arc_length[0, 1], expected, atol=1e-15)
    assert float(run.at_end[0]) == (ends == "clamp")
    beyond = moved((0.0, 0.7), start=(1.0, 0.8), spline=False, update="tangent", ends=ends)
    np.testing.assert_allclose(beyond.arc_length[0, 1], 2.0 - (0.5 if ends == "reflect" else 0.0))


def test_a_polyline_holds_at_its_vertices_and_a_spline_does_not():
    """Below the outer corner every nearest point is the vertex itself."""
    move = (0.3, -0.2)
    stuck = moved(move, start=(1.0, 0.0), spline=False, steps=4)
    np.testing.assert_array_equal(stuck.arc_length, [[1.0] * 5])
    assert stuck.at_vertex.item() == 1.0
    for rule in ({"spline": True}, {"spline": False, "update": "tangent"}):
        free = moved((0.05, 0.1), start=(1.0, 0.0), steps=4, **rule)
        assert free.at_vertex.item() == 0.0
        assert np.ptp(free.arc_length.to_numpy()) > 0.1


def test_a_jump_of_the_global_search():
    """A hairpin: the other arm is nearer, which only the global search sees."""
    hairpin = Path([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    far = {"start": (0.5, 0.0), "path": hairpin, "spline": False}
    whole, local = moved((0.0, 0.7), **far), moved((0.0, 0.7), **far, nearest="local")
    assert float(whole.arc_length[0, 1]) == pytest.approx(4.5)
    assert float(local.arc_length[0, 1]) == pytest.approx(0.5)
    assert (whole.jumps.item(), local.jumps.item()) == (1, 0)
    np.testing.assert_array_equal(whole.segment, [[0, 4]])


@pytest.mark.parametrize("optimizer_state", ["keep", "reset", "project"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("integrator", "memory"),
    [
        (ls.SGD(lr=0.1, momentum=0.9), "last_momentum"),
        (ls.SGD(lr=0.1, momentum=0.5, nesterov=True), "last_momentum"),
        (ls.Adam(lr=0.1), "last_first_moment"),
    ],
)
def test_momenta_at_a_projection(optimizer_state, backend, integrator, memory):
    plane = ls.potentials.Expression("x + 2*y", ["x", "y"])
    settings = {"start": [0.0, 5.0], "steps": 3, "backend": backend}
    rule = ls.ProjectOntoPath(straight_line([0.0, -9.0], [0.0, 9.0]), every=3, optimizer_state=optimizer_state)
    run = ls.simulate(plane, integrator, constraint=rule, **settings)
    free = ls.simulate(plane, integrator, **settings)[memory]
    expected = {"keep": free, "reset": 0 * free, "project": free * [0.0, 1.0]}[optimizer_state]
    np.testing.assert_allclose(run[memory], expected, atol=1e-15)
    if memory == "last_first_moment":
        assert (run.last_second_moment > 0).all()


# -- every integrator, both backends, networks ------------------------------------------------------------------------


def small_loss(**settings):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(24, 3, generator=generator), torch.randint(2, (24,), generator=generator)
    return NetworkLoss(architectures.mlp([3, 4, 2], seed=0), inputs, targets, batch_size=6, **settings)


def network_path(loss, pivots=4):
    generator = torch.Generator().manual_seed(1)
    start = loss.position().detach().double()
    return Path(start + torch.randn(pivots, loss.dim, generator=generator, dtype=torch.float64).cumsum(0) / 4)


INTEGRATORS = [
    ls.EulerMaruyama(dt=0.01), ls.LeimkuhlerMatthews(dt=0.01), ls.Heun(dt=0.01), ls.MALA(dt=0.01),
    ls.BAOAB(dt=0.1, friction=1.0), ls.HMC(dt=0.1, leapfrog_steps=3), ls.Diffusion(dt=0.01), ls.SGLD(lr=0.01),
    ls.SGHMC(lr=0.01, friction=0.5), ls.SGD(lr=0.01, momentum=0.9), ls.SGD(lr=0.01, momentum=0.9, nesterov=True),
    ls.Adam(lr=0.01), ls.AdamW(lr=0.01),
]  # fmt: skip


@pytest.mark.parametrize("integrator", INTEGRATORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_integrator_ends_on_the_path(integrator, backend):
    surface = ls.potentials.MullerBrown()
    path = Path([[-0.55, 1.44], [-0.82, 0.62], [-0.05, 0.47], [0.62, 0.03]])
    run = ls.simulate(
        ls.potentials.Quadratic([1.0, 2.0]) if integrator.gradients_per_step else surface, integrator, backend=backend,
        temperature=0.1 if integrator.thermal else 0.0, chains=3, start=[0.3, 0.3], steps=25,
        constraint=ls.ProjectOntoPath(path, every=5), record=ONCE,
    )  # fmt: skip
    assert run.sizes["projection"] == 6
    np.testing.assert_array_equal(run.projection_step, np.arange(6) * 5)
    np.testing.assert_allclose(path.spline.at(run.last_arc_length.to_numpy()), run.last_position, atol=1e-12)
    np.testing.assert_array_equal(run.last_arc_length, run.arc_length[:, -1])
    assert np.ptp(run.arc_length.to_numpy()) > 0


@pytest.mark.parametrize("integrator", [ls.SGD(lr=0.05, momentum=0.5, nesterov=True), ls.Adam(lr=0.01)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_networks(integrator, backend):
    loss = small_loss()
    path = network_path(loss)
    run = ls.simulate(
        loss, integrator, start=path.at(0.3 * path.length).astype(np.float32), chains=2, steps=12, backend=backend,
        constraint=ls.ProjectOntoPath(path, every=4, optimizer_state="project"), data_seed=[1, 2],
    )  # fmt: skip
    assert run.arc_length.shape == (2, 4)
    on_path = path.spline.at(run.last_arc_length.to_numpy())
    np.testing.assert_allclose(run.last_position, on_path, atol=1e-6)
    assert float(run.arc_length[0, -1]) != float(run.arc_length[1, -1])  # their minibatches differ
    assert (run.path_distance[:, 1:] > 0).all()


def test_a_torch_optimizer_keeps_its_state():
    bowl = ls.potentials.Quadratic([1.0, 2.0])
    rule = ls.ProjectOntoPath(straight_line([0.0, 1.0], [2.0, 1.0]), every=5)
    ours = ls.simulate(bowl, ls.Adam(lr=0.1), start=[1.0, 1.0], steps=20, constraint=rule)
    theirs = ls.simulate(bowl, ls.Optimizer(torch.optim.Adam, lr=0.1), start=[1.0, 1.0], steps=20, constraint=rule)
    np.testing.assert_allclose(theirs.arc_length, ours.arc_length, atol=1e-12)
    reset = ls.ProjectOntoPath(straight_line([0.0, 1.0], [2.0, 1.0]), every=5, optimizer_state="reset")
    with pytest.raises(ConfigError, match="torch optimizer"):
        ls.simulate(bowl, ls.Optimizer(torch.optim.Adam, lr=0.1), start=[1.0, 1.0], steps=20, constraint=reset)


# -- records and restarts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("update", ["nearest", "tangent"])
def test_two_parts_are_the_whole(backend, update):
    valley = ls.potentials.Valley("1 + y**2")
    rule = ls.ProjectOntoPath(Path([[0.0, -3.0], [0.4, 0.0], [0.0, 3.0]]), every=7, update=update)
    settings = {
        "temperature": 0.2, "seed": 5, "constraint": rule, "record": ls.Record(5, ["position"]), "backend": backend,
    }  # fmt: skip
    rule_of_motion = ls.BAOAB(dt=0.05, friction=1.0)
    whole = ls.simulate(valley, rule_of_motion, chains=4, steps=60, **settings)
    first = ls.simulate(valley, rule_of_motion, chains=4, steps=25, **settings)  # ends inside a block
    second = ls.simulate(valley, rule_of_motion, start=first, state="keep", steps=35, **settings)
    np.testing.assert_array_equal(whole.last_position, second.last_position)
    np.testing.assert_array_equal(whole.position[:, 5:], second.position)
    np.testing.assert_array_equal(whole.arc_length[:, 4:], second.arc_length[:, 1:])
    np.testing.assert_array_equal(whole.projection_step[4:], second.projection_step[1:])
    np.testing.assert_allclose(whole.projection_time[4:], second.projection_time[1:])


def test_thinned_records():
    valley = ls.potentials.Valley("1 + y**2")
    axis = straight_line([0.0, -3.0], [0.0, 3.0])
    settings = {"temperature": 0.2, "chains": 3, "steps": 60, "seed": 2}
    every, third = (
        ls.simulate(
            valley, ls.EulerMaruyama(dt=0.01), constraint=ls.ProjectOntoPath(axis, every=5, record_every=m), **settings
        )
        for m in (1, 3)
    )
    np.testing.assert_array_equal(third.arc_length, every.arc_length[:, ::3])
    np.testing.assert_array_equal(third.projection_step, every.projection_step[::3])
    np.testing.assert_array_equal(third.jumps, every.jumps)  # counted at all of them


def test_times_that_differ_by_chain_or_in_time():
    axis = straight_line([0.0, -3.0], [0.0, 3.0])
    valley, rule = ls.potentials.Valley("1 + y**2"), ls.ProjectOntoPath(axis, every=10)
    apart = ls.simulate(valley, ls.EulerMaruyama(dt=[0.01, 0.02]), temperature=0.1, steps=30, constraint=rule)
    np.testing.assert_allclose(apart.projection_time, np.outer([0.01, 0.02], [0, 10, 20, 30]))
    scheduled = ls.simulate(
        valley, ls.EulerMaruyama(dt=ls.piecewise({0.0: 0.01, 0.095: 0.02})), temperature=0.1, steps=30, constraint=rule
    )
    np.testing.assert_allclose(scheduled.projection_time, [0.0, 0.1, 0.3, 0.5])


@pytest.mark.filterwarnings("ignore:a step goes")  # long against the way between the walls
def test_walls_and_a_path_together():
    flat = ls.potentials.Expression("0*x + 0*y", ["x", "y"])
    line = straight_line([0.0, 0.0], [1.0, 0.0])
    run = ls.simulate(
        flat, ls.EulerMaruyama(dt=0.01), temperature=1.0, start=[0.5, 0.0], chains=50, steps=300,
        constraint=[ls.Reflect({"x": (0.2, None)}), ls.ProjectOntoPath(Path([[0.2, 0.0], [1.0, 0.0]]), every=3)],
    )  # fmt: skip
    assert float(run.position[..., 0].min()) >= 0.2
    assert [one["kind"] for one in json.loads(run.attrs["spec"])["constraint"]] == ["Reflect", "ProjectOntoPath"]
    left = ls.simulate(
        flat, ls.EulerMaruyama(dt=0.01), temperature=1.0, start=[0.5, 0.0], chains=50, steps=300,
        constraint=[ls.Absorb({"y": (-0.2, 0.2)}), ls.ProjectOntoPath(line, every=3)],
    )  # fmt: skip
    gone = np.isfinite(left.exit_time)
    assert int(gone.sum()) > 0
    np.testing.assert_allclose(abs(left.last_position[gone.to_numpy(), 1]), 0.2)  # where they left, not on the path


@pytest.mark.parametrize("as_file", [False, True])
def test_a_specification_reproduces_the_run(tmp_path, as_file):
    path = Path([[0.0, -3.0], [0.3, 0.0], [0.0, 3.0]])
    path.save(tmp_path / "path.nc")
    rule = ls.ProjectOntoPath(
        tmp_path / "path.nc" if as_file else path, every=4, update="tangent", ends="reflect", record_every=2
    )
    run = ls.simulate(
        ls.potentials.Valley("1 + y**2"), ls.EulerMaruyama(dt=0.01), temperature=0.1, steps=40, chains=3,
        constraint=rule, seed=3,
    )  # fmt: skip
    again = ls.run(json.loads(run.attrs["spec"]))
    np.testing.assert_array_equal(run.arc_length, again.arc_length)
    ls.save(run, tmp_path / "run.nc")
    with ls.open(tmp_path / "run.nc") as stored:
        np.testing.assert_array_equal(run.arc_length, stored.arc_length)


def test_a_large_path_is_named_only():
    loss = small_loss()
    path = network_path(loss, pivots=200)
    spec = ls.ProjectOntoPath(path, every=2).spec()
    assert spec["path"] == {"kind": "given"}
    with pytest.raises(ConfigError, match="given from Python"):
        ls.ProjectOntoPath(spec["path"], every=2)


def test_chains_that_diverge():
    cliff = ls.potentials.Expression("x - exp(exp(y))", ["x", "y"])
    rule = ls.ProjectOntoPath(straight_line([0.0, -20.0], [0.0, 1e6]), every=3)
    settings = {"start": [[0.0, 0.5], [0.0, -9.0]], "steps": 12, "constraint": rule}
    with pytest.raises(NonFiniteError) as caught:
        ls.simulate(cliff, ls.SGD(lr=0.5), **settings)
    assert caught.value.dataset.sizes["projection"] == 1 + (caught.value.step - 1) // 3
    masked = ls.simulate(cliff, ls.SGD(lr=0.5), **settings, on_nonfinite="drop")
    assert np.isnan(masked.arc_length[0, -1])
    assert np.isfinite(masked.arc_length[1]).all()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every"),
        ({"every": -3}, "every"),
        ({"every": 2.5}, "every"),
        ({"every": True}, "every"),
        ({"every": 1, "record_every": 0}, "record_every"),
        ({"every": 1, "nearest": "nowhere"}, "nearest"),
        ({"every": 1, "spline": "yes"}, "spline"),
        ({"every": 1, "update": "newton"}, "update"),
        ({"every": 1, "ends": "open"}, "ends"),
        ({"every": 1, "ends": "reflect"}, "tangent"),
        ({"every": 1, "optimizer_state": "forget"}, "optimizer_state"),
        ({"every": 1, "path": 3.0}, "path must be"),
        ({"every": 1, "path": {"pivots": [[0.0, 0.0], [0.0, 0.0]]}}, "coincide"),
    ],
)
def test_arguments_that_make_no_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        ls.ProjectOntoPath(**{"path": CORNER} | settings)


def test_paths_that_do_not_fit():
    valley, rule = ls.potentials.Valley("1 + y**2", bounds={"y": (-1, 1)}), ls.EulerMaruyama(dt=0.01)
    for path, error, message in (
        (straight_line([0.0] * 3, [1.0] * 3), ShapeError, "3 coordinates"),
        (straight_line([0.0, 0.0], [0.0, 2.0]), ConfigError, "beyond the wall"),
        (Path([[0.0, 0.9], [1.0, 1.0], [1.5, 0.9], [2.0, 1.0]]), ConfigError, "spline=False"),  # overshoots
    ):
        with pytest.raises(error, match=message):
            ls.simulate(valley, rule, steps=1, constraint=ls.ProjectOntoPath(path, every=1))
    pendulum = ls.potentials.Expression("cos(a) + x**2", ["a", "x"])
    one = ls.ProjectOntoPath(straight_line([0.0, 0.0], [1.0, 0.0]), every=1)
    with pytest.raises(ConfigError, match="periodic"):
        ls.simulate(pendulum, rule, steps=1, constraint=[ls.Periodic({"a": (-4, 4)}), one])
    with pytest.raises(ConfigError, match="two projections"):
        ls.simulate(pendulum, rule, steps=1, constraint=[one, one])
    with pytest.raises(ConfigError, match="certify"):
        ls.simulate(pendulum, rule, steps=10, temperature=0.1, constraint=one, certify=True)
    with pytest.raises(ConfigError, match="ProjectOntoPath"):
        ls.replica_exchange(pendulum, rule, [0.1, 0.2], steps=10, swap_every=5, constraint=one)
