"""Runs that blow up: the exact step, chain and coordinate, known from a loop written out here."""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import NonFiniteError
from landscape.potentials import Expression, Function, NetworkLoss, architectures
from tests.cases import BACKENDS

CHAINS, BAD, DT = 64, 17, 0.1


def hill():
    """Bound in x, falling ever faster in y: dy/dt = y^3 reaches infinity in finite time."""
    return Expression("x**2/2 - y**4/4", ["x", "y"])


def starts(y_bad=1.5, x=0.3):
    """Chain 17 alone has far to fall: the others stand on the ridge, y = 0."""
    start = np.tile([x, 0.0], (CHAINS, 1))
    start[BAD, 1] = y_bad
    return start


def blow_up_step(y, dt=DT):
    """First step after which y' = y + dt y^3 is not finite."""
    step = 0
    with np.errstate(over="ignore"):
        while np.isfinite(y):
            y, step = np.float64(y + dt * y**3), step + 1
    return step


def positions(every=1, snapshots=None):
    """Positions alone: the energy -y^4/4 overflows a step before y does, see `test_energies_that_go_first`."""
    return ls.Record(every=every, observables=["position"], snapshots=snapshots)


def caught(potential=None, integrator=None, **settings):
    settings = {"steps": 100, "start": starts(), "record": positions(), **settings}
    with pytest.raises(NonFiniteError) as error:
        ls.simulate(potential or hill(), integrator or ls.SGD(lr=DT), **settings)
    return error.value


def all_finite(dataset):
    """Whether every draw is finite; for the final state see `test_the_final_state_is_the_last_good_one`."""
    draws = [v for v in dataset.variables.values() if "draw" in v.dims and v.dtype.kind == "f"]
    return all(bool(np.isfinite(variable).all()) for variable in draws)


def test_the_reference_loop_itself():
    assert [blow_up_step(y) for y in (0.8, 1.5, -2.0, 3.0)] == [17, 10, 9, 8]


# -- positions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("y_bad", [0.8, 1.5, -2.0, 3.0])
@pytest.mark.parametrize("every", [1, 3, 1000])
def test_the_exact_step_chain_and_coordinate(every, y_bad, backend):
    step = blow_up_step(y_bad)
    error = caught(start=starts(y_bad), steps=2000, record=positions(every), backend=backend)
    assert (error.step, error.chain, error.coordinate) == (step, BAD, "y")
    message = str(error)
    assert all(word in message for word in (f"step {step}", f"chain {BAD}", "'y'"))
    assert error.dataset.sizes["draw"] == (step - 1) // every
    assert error.dataset.sizes["chain"] == CHAINS
    assert all_finite(error.dataset)
    np.testing.assert_array_equal(error.dataset.step, every * np.arange(1, (step - 1) // every + 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_far_into_a_long_run(backend):
    """x' = x + dt (x^3 - x) from just above the top, x = 1: slow, then all at once."""
    top = Expression("x**2/2 - x**4/4", ["x"])
    x, step = np.float64(1 + 1e-9), 0
    start = np.full((5, 1), 0.9)
    start[3] = x
    with np.errstate(over="ignore"):
        while np.isfinite(x):
            x, step = x - 0.01 * (x - x**3), step + 1
    assert step > 1000
    for steps in (step, 50 * step):
        error = caught(top, ls.SGD(lr=0.01), start=start, steps=steps, record=positions(7), backend=backend)
        assert (error.step, error.chain) == (step, 3)
        assert all_finite(error.dataset)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_recorded_before_is_the_run_up_to_there(backend):
    error = caught(record=positions(2), backend=backend)
    draws = error.dataset.sizes["draw"]
    short = ls.simulate(hill(), ls.SGD(lr=DT), start=starts(), steps=2 * draws, record=positions(2), backend=backend)
    np.testing.assert_array_equal(error.dataset.position, short.position)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_final_state_is_the_last_good_one(backend):
    error = caught(backend=backend)
    assert error.dataset.attrs["last_step"] < error.step
    assert np.isfinite(error.dataset.last_position).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_snapshots_before_are_finite(backend):
    error = caught(steps=40, record=positions(5, snapshots=8), backend=backend)  # at 5, 10, ...; y is infinite at 10
    assert np.isfinite(error.dataset.snapshot).all()
    assert error.dataset.snapshot_step.values.tolist() == [5]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "integrator",
    [
        ls.EulerMaruyama(dt=DT),
        ls.LeimkuhlerMatthews(dt=DT),
        ls.SGD(lr=DT, momentum=0.9),
        ls.SGD(lr=DT, momentum=0.9, nesterov=True),
    ],
    ids=["EulerMaruyama", "LeimkuhlerMatthews", "momentum", "Nesterov"],
)
def test_every_integrator(integrator, backend):
    """At temperature 0 a thermal scheme is gradient descent; momentum by a loop of its own."""
    step, y, m = 0, np.float64(1.5), np.float64(0.0)
    mu, nesterov = getattr(integrator, "momentum", 0.0), getattr(integrator, "nesterov", False)
    with np.errstate(over="ignore", invalid="ignore"):
        while np.isfinite(y):
            gradient = -(y**3)
            m, step = mu * m + gradient, step + 1
            y = y - DT * (gradient + mu * m if nesterov else m)
    error = caught(integrator=integrator, backend=backend)
    assert (error.step, error.chain, error.coordinate) == (step, BAD, "y")
    assert all_finite(error.dataset)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_of_several(backend):
    """Chains 40 and 50 fall before chain 17; the lower number is named."""
    start = starts(1.5)
    start[[40, 50], 1] = 3.0
    error = caught(start=start, backend=backend)
    assert (error.step, error.chain) == (blow_up_step(3.0), 40)


@pytest.mark.parametrize("backend", BACKENDS)
def test_noise_moves_the_step_but_not_the_chain(backend):
    error = caught(
        integrator=ls.EulerMaruyama(dt=DT), temperature=1e-6, backend=backend, steps=20, record=positions(20)
    )
    assert (error.chain, error.coordinate) == (BAD, "y")
    assert abs(error.step - blow_up_step(1.5)) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_counted_from_the_very_first(backend):
    first = ls.simulate(hill(), ls.SGD(lr=DT), start=starts(), steps=4, backend=backend)
    error = caught(start=first, state="keep", backend=backend, record=positions(2))
    assert error.step == blow_up_step(1.5)
    assert error.dataset.step.values.tolist() == [6, 8]


@pytest.mark.parametrize("backend", BACKENDS)
def test_forces_that_are_nan_at_once(backend):
    """2 sqrt(1 - x): beyond x = 1 there is no force, and the next position is NaN."""
    x, step = 0.5, 0
    while x <= 1:
        x, step = x + DT / math.sqrt(1 - x), step + 1
    cliff = Expression("2*sqrt(1 - x)", ["x"])
    error = caught(cliff, start=[[-50.0], [0.5]], backend=backend)
    assert (error.step, error.chain, error.coordinate) == (step + 1, 1, "x")
    assert all_finite(error.dataset)
    assert error.dataset.sizes["draw"] == step


# -- the energy alone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_energy_that_overflows_where_positions_do_not(backend):
    """V = 1e300 x with steps of -1e8: from x = 0 it is finite after one step and not after two."""
    start = np.full((CHAINS, 1), 1.5e8)
    start[BAD] = 0.0
    steep = Expression("1e300*x", ["x"])
    error = caught(steep, ls.SGD(lr=1e-292), start=start, steps=3, record=ls.Record(), backend=backend)
    assert (error.step, error.chain) == (2, BAD)
    assert "energy" in str(error)
    assert error.dataset.sizes["draw"] == 1
    assert all_finite(error.dataset)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_energy_of_a_function_that_is_not_finite_beyond_a_point(value):
    """V = -x, not finite for x > 1, with slope -1 everywhere: x = 0.05 + 0.1 n passes 1 at n = 10."""

    def energy(position):
        x = position[..., 0]
        return torch.where(x > 1, torch.full_like(x, value), -x.detach()) + x.detach() - x

    start = np.full((5, 1), 0.05) - [[9], [9], [9], [0], [9]]
    error = caught(Function(energy, 1), start=start, steps=30, record=ls.Record())
    assert (error.step, error.chain) == (10, 3)
    assert "energy" in str(error)
    assert error.dataset.sizes["draw"] == 9
    assert all_finite(error.dataset)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["raise", "drop"])
def test_energies_that_go_first(how, backend):
    """-y^4/4 is infinite a step before y is: that step is the first at which something recorded is not finite."""
    if how == "raise":
        error = caught(record=ls.Record(), backend=backend)
        assert error.step == blow_up_step(1.5) - 1
        assert all_finite(error.dataset)
    else:
        run = ls.simulate(hill(), ls.SGD(lr=DT), start=starts(), steps=100, on_nonfinite="drop", backend=backend)
        assert not np.isinf(run.energy).any()


# -- on_nonfinite="drop" -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("every", [1, 4, 50])
@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_only_the_chain_that_diverges_is_masked(temperature, every, backend):
    settings = {"steps": 100, "temperature": temperature, "seed": 3, "backend": backend}
    ridge = Expression("x**2/2 + y**2/2 - y**4/4", ["x", "y"])  # bound for |y| < 1; at T = 0.01 chains stay there
    for record in (positions(every), ls.Record(every=every)):
        start = starts(1.8, x=0.1)
        dropped = ls.simulate(
            ridge, ls.EulerMaruyama(dt=DT), start=start, record=record, on_nonfinite="drop", **settings
        )
        start[BAD, 1] = 0.0
        calm = ls.simulate(ridge, ls.EulerMaruyama(dt=DT), start=start, record=record, **settings)
        others = np.arange(CHAINS) != BAD
        for name in calm.data_vars:
            np.testing.assert_array_equal(dropped[name].values[others], calm[name].values[others])
        assert dropped.sizes == calm.sizes
        assert np.isnan(dropped.last_position[BAD]).all()
        bad = np.isnan(dropped.position[BAD].values)
        assert bad[-1].all()
        assert (np.diff(bad.all(axis=-1).astype(int)) >= 0).all()  # once masked it stays masked
        assert np.isfinite(dropped.position[BAD].values[~bad]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_dropped_chain_keeps_what_came_before(backend):
    step = blow_up_step(1.5)
    settings = {"steps": 100, "on_nonfinite": "drop", "backend": backend, "record": positions()}
    run = ls.simulate(hill(), ls.SGD(lr=DT), start=starts(), **settings)
    y, path = np.float64(1.5), []
    for _ in range(step - 1):
        y = y + DT * y**3
        path.append(y)
    np.testing.assert_allclose(run.position[BAD, : step - 1, 1], path, rtol=1e-9)
    assert np.isnan(run.position[BAD, step - 1 :]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropping_nothing_changes_nothing(backend):
    settings = {"steps": 30, "chains": 5, "temperature": 0.1, "seed": 2, "backend": backend}
    bowl = Expression("x**2/2 + y**2", ["x", "y"])
    runs = [ls.simulate(bowl, ls.EulerMaruyama(dt=DT), on_nonfinite=how, **settings) for how in ("raise", "drop")]
    np.testing.assert_array_equal(runs[0].position, runs[1].position)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_chains_may_be_dropped(backend):
    start = np.full((3, 2), 2.0)
    run = ls.simulate(hill(), ls.SGD(lr=DT), start=start, steps=60, on_nonfinite="drop", backend=backend)
    assert np.isnan(run.last_position).all()
    assert run.sizes["draw"] == 60


# -- networks ----------------------------------------------------------------------------------------------------------


def regression(dtype, hidden, batch_size=None):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    targets = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    module = architectures.mlp([3, *hidden, 2], activation="relu", seed=1)
    return NetworkLoss(module, inputs, targets, loss="mse", dtype=dtype, batch_size=batch_size)


def naive_descent(loss, lr, seed):
    """Step after which a position is not finite, and which of its numbers are not, by plain SGD."""
    position, step = loss.position()[None], 0
    keys = loss.batch_keys(1, seed)
    while torch.isfinite(position).all():
        position = position - lr * loss.step_gradient(position, step=step, keys=keys)
        step += 1
    return step, torch.nonzero(~torch.isfinite(position[0])).flatten().tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "mlp"])
@pytest.mark.parametrize("every", [1, 7])
def test_networks_that_blow_up(every, hidden, dtype, backend):
    """One chain of 24 has an absurd rate."""
    loss, bad = regression(dtype, hidden), 11
    rates = np.full(24, 1e-3)
    rates[bad] = 1e3
    step, not_finite = naive_descent(loss, 1e3, 0)
    error = caught(loss, ls.SGD(lr=rates), start=None, steps=500, record=positions(every), backend=backend)
    assert (error.step, error.chain) == (step, bad)
    assert isinstance(error.coordinate, int)
    assert backend == "compiled" or error.coordinate == not_finite[0]
    assert f"chain {bad}" in str(error)
    assert error.dataset.sizes["draw"] == (error.step - 1) // every
    assert all_finite(error.dataset)


@pytest.mark.parametrize("backend", BACKENDS)
def test_minibatch_runs_that_blow_up(backend):
    """Intermediate sums may overflow a step sooner in one engine than in another."""
    loss = regression(torch.float64, (5,), batch_size=5)
    step, _ = naive_descent(loss, 30.0, 3)
    error = caught(loss, ls.SGD(lr=30.0), start=None, seed=3, record=positions(4), backend=backend)
    assert error.chain == 0
    assert abs(error.step - step) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_network_that_diverges_is_masked(backend):
    loss, bad = regression(torch.float64, (5,), batch_size=5), 2
    rates = np.full(6, 1e-2)
    calm = ls.simulate(loss, ls.SGD(lr=rates), steps=40, backend=backend, seed=1)
    rates[bad] = 1e3
    dropped = ls.simulate(loss, ls.SGD(lr=rates), steps=40, backend=backend, seed=1, on_nonfinite="drop")
    others = np.arange(6) != bad
    np.testing.assert_array_equal(dropped.last_position.values[others], calm.last_position.values[others])
    np.testing.assert_array_equal(dropped.energy.values[others], calm.energy.values[others])
    assert np.isnan(dropped.last_position[bad]).all()
    assert np.isnan(dropped.energy[bad, -1])
