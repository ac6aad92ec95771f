"""Minimisation: known minima by every method, tolerance kept, walls respected."""

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import Expression, Function, NetworkLoss, architectures, toys

METHODS = ("adam", "lbfgs", "gd")
MULLER_BROWN_A = (-0.55822363, 1.4417258)
MULLER_BROWN_B = (0.62349940, 0.028037759)

# Landscape, start, the minimum below it, and a rate that suits plain gradient descent there.
KNOWN = {
    "double well, left": (toys.DoubleWell(), [-0.4], [-1.0], 0.05),
    "double well, right": (toys.DoubleWell(height=3.0, width=2.0), [0.7], [2.0], 0.05),
    "quadratic": (toys.Quadratic([0.5, 2.0, 30.0]), [1.0, -2.0, 0.5], [0.0, 0.0, 0.0], 0.05),
    "Muller-Brown, A": (toys.MullerBrown(), [-0.7, 1.3], MULLER_BROWN_A, 3e-4),
    "Muller-Brown, B": (toys.MullerBrown(), [0.5, 0.1], MULLER_BROWN_B, 3e-4),
    "Himmelblau": (toys.Himmelblau(), [2.5, 2.5], [3.0, 2.0], 5e-3),
    "shifted bowl": (Expression("k*(x - 2)**2 + (y + 1)**4 + y**2", ["x", "y"], {"k": 1.5}), [0.0, 0.0], None, 0.05),
}


def shifted_bowl_minimum():
    """x = 2 and the root of 4 (y + 1)^3 + 2 y."""
    y = -0.4
    for _ in range(50):
        y -= (4 * (y + 1) ** 3 + 2 * y) / (12 * (y + 1) ** 2 + 2)
    return [2.0, y]


@pytest.mark.parametrize("method", [*METHODS, "newton"])
@pytest.mark.parametrize("case", KNOWN)
def test_known_minima(case, method):
    potential, start, expected, rate = KNOWN[case]
    if method == "newton" and potential.bounds:
        pytest.skip("has walls")
    expected = shifted_bowl_minimum() if expected is None else expected
    lr = {"gd": rate, "adam": 0.02}.get(method)
    found = ls.minimize(potential, start, method=method, lr=lr, steps=6000, tolerance=1e-6)
    assert bool(found.converged)
    assert float(found.gradient_norm) <= 1e-6
    np.testing.assert_allclose(found.position, expected, rtol=0, atol=2e-6)
    assert float(found.energy) == pytest.approx(float(potential.energy(found.position.values)), abs=1e-12)
    gradient = np.linalg.norm(potential.gradient(found.position.values))
    assert float(found.gradient_norm) == pytest.approx(gradient, rel=1e-6, abs=1e-12)
    assert found.position.dims == ("coordinate",)
    assert found.coordinate.values.tolist() == list(potential.coordinates)


def test_a_wrong_minimum_is_noticed():
    """Control: the tolerance above tells the two wells of a landscape whose barrier is 1e-4 apart."""
    found = ls.minimize(toys.DoubleWell(height=1.0, width=1.0), [0.4], method="lbfgs")
    assert abs(float(found.position[0]) + 1.0) > 1.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
def test_the_tolerance_is_met_and_not_far_surpassed(method, tolerance):
    potential = toys.Quadratic([1.0, 3.0])
    found = ls.minimize(potential, [1.0, 1.0], method=method, tolerance=tolerance)
    assert bool(found.converged)
    assert float(found.gradient_norm) <= tolerance
    if method == "gd":  # the gradient falls by at most 0.97 a step, and is looked at every 100 steps
        assert float(found.gradient_norm) > 0.97**101 * tolerance


@pytest.mark.parametrize("method", METHODS)
def test_too_few_steps_say_so(method):
    with pytest.warns(UserWarning, match=r"not converged: the gradient has norm \S+ after 3 iterations.*more steps"):
        found = ls.minimize(toys.Rosenbrock(), [-1.0, 1.0], method=method, steps=3, tolerance=1e-12)
    assert not bool(found.converged)
    assert float(found.gradient_norm) > 1e-12
    assert found.sizes["iteration"] <= 4
    assert np.isfinite(found.position).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_history_begins_at_the_start_and_ends_at_the_minimum(method):
    potential, start = toys.Himmelblau(), [2.5, 2.5]
    found = ls.minimize(potential, start, method=method, lr=None if method == "lbfgs" else 5e-3)
    energies, norms = found.history_energy.values, found.history_gradient_norm.values
    assert energies[0] == pytest.approx(float(potential.energy(start)))
    assert norms[0] == pytest.approx(float(np.linalg.norm(potential.gradient(start))))
    assert norms[-1] == pytest.approx(float(found.gradient_norm), rel=1e-6, abs=1e-12)
    assert energies[-1] == pytest.approx(float(found.energy), rel=1e-6, abs=1e-12)
    assert found.iteration.values[0] == 0
    assert (np.diff(found.iteration) > 0).all()
    tail = energies[-max(2, len(energies) // 5) :]
    assert (np.diff(tail) <= 1e-12 * (1 + np.abs(tail[1:]))).all()
    assert energies[-1] <= energies.min() + 1e-9
    assert norms[-1] < 1e-3 * norms[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("bounds", "start", "expected"),
    [
        ({"x": (1.0, None)}, [2.0, 0.5], [1.0, 0.0]),
        ({"x": (None, -0.5), "y": (0.25, 2.0)}, [-1.0, 1.0], [-0.5, 0.25]),
        ({"x": (-1.0, 1.0)}, [0.5, 0.5], [0.0, 0.0]),
    ],
)
@pytest.mark.always
def test_walls_are_respected(bounds, start, expected, method):
    """The lowest point of a bowl inside its walls; every point on the way lies inside too."""
    seen = []

    def energy(position):
        seen.append(position.detach().reshape(-1, 2).clone())
        return 0.5 * (position**2).sum(-1)

    function = Function(energy, 2, ["x", "y"], bounds=bounds)
    found = ls.minimize(function, start, method=method, steps=2500)
    # Where a wall stops the descent the gradient stays: the methods that bounce end within a step of the wall.
    np.testing.assert_allclose(found.position, expected, rtol=0, atol=2e-2 if expected != [0.0, 0.0] else 1e-5)
    for name, (low, high) in function.bounds.items():
        value = float(found.position.sel(coordinate=name))
        assert low <= value <= high
        on_the_way = torch.cat(seen)[:, function.coordinate_index(name)]
        assert low <= float(on_the_way.min())
        assert float(on_the_way.max()) <= high


def test_what_pushes_into_a_wall_does_not_count():
    """At the foot of a slope the gradient is 1 and a minimum is reached; control: without the wall it is none."""
    slope = Expression("x + y**2", ["x", "y"], bounds={"x": (0.0, 2.0)})
    found = ls.minimize(slope, [1.0, 0.5], method="lbfgs")
    assert bool(found.converged)
    np.testing.assert_allclose(found.position, [0.0, 0.0], atol=1e-6)
    assert float(found.gradient_norm) <= 1e-6 < 1.0 == float(slope.gradient([0.0, 0.0])[0])
    with pytest.raises(ConfigError, match="no walls"):
        ls.minimize(slope, [1.0, 0.5], method="newton")


def test_newton_leaves_a_saddle():
    well = Expression("(x**2 - 1)**2 + y**2", ["x", "y"])
    found = ls.minimize(well, [1e-3, 0.3], method="newton")
    np.testing.assert_allclose(found.position, [1.0, 0.0], atol=1e-7)
    assert found.sizes["iteration"] < 20


def test_a_small_convolutional_network_reaches_its_minimum():
    """Newton's steps at the end get where as many of L-BFGS alone do not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)]
        module = nn.Sequential(*layers).double()
        x, y = torch.randn(30, 1, 6, 6, dtype=torch.float64), torch.randint(0, 3, (30,))
    loss = NetworkLoss(module, x, y, weight_decay=1e-3)
    found = ls.minimize(loss, method="lbfgs", steps=150)
    assert bool(found.converged) and float(found.gradient_norm) <= 1e-6
    used = int(found.iteration[-1])
    assert 135 < used < 150

    def both(point):
        return float(loss.energy(point)), loss.gradient(point)

    start = loss.position().numpy()
    alone = scipy.optimize.minimize(both, start, jac=True, method="L-BFGS-B", options={"maxiter": used, "ftol": 0.0})
    assert np.linalg.norm(alone.jac) > 1e-6  # control
    assert float(found.energy) <= alone.fun + 1e-6
    assert np.linalg.eigvalsh(loss.hessian(found.position.values)).min() > 0
    again = ls.minimize(loss, found, method="newton")
    assert again.sizes["iteration"] == 1


def test_default_starts():
    assert ls.minimize(toys.DoubleWell(), method="lbfgs").position.values.tolist() == pytest.approx([-1.0])
    module = architectures.mlp([3, 2])
    loss = NetworkLoss(module, torch.eye(3), torch.tensor([0, 1, 1]), weight_decay=0.1, dtype=torch.float64)
    found = ls.minimize(loss, steps=1, lr=1e-9)
    np.testing.assert_allclose(found.position, loss.position(), atol=1e-8)


def test_a_run_or_a_minimum_is_a_start():
    potential = toys.DoubleWell()
    run = ls.simulate(potential, ls.SGD(lr=0.01), start=[0.5], steps=3)
    from_run = ls.minimize(potential, run, method="lbfgs")
    again = ls.minimize(potential, from_run, method="lbfgs")
    assert float(from_run.position[0]) == pytest.approx(1.0, abs=1e-6)
    assert again.sizes["iteration"] <= from_run.sizes["iteration"]
    onward = ls.simulate(potential, ls.SGD(lr=0.01), start=from_run, steps=1, chains=3)
    np.testing.assert_allclose(onward.last_position, np.ones((3, 1)), atol=1e-6)


def test_the_start_may_be_the_minimum():
    found = ls.minimize(toys.Quadratic([1.0, 2.0]), [0.0, 0.0])
    assert bool(found.converged)
    assert found.position.values.tolist() == [0.0, 0.0]


# -- networks ----------------------------------------------------------------------------------------------------------


def regression(batch_size=None, weight_decay=0.0):
    """Linear regression, whose minimum is a linear solve."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    targets = torch.randn(40, 1, generator=generator, dtype=torch.float64)
    module = architectures.mlp([3, 1], seed=1)
    loss = NetworkLoss(
        module, inputs, targets, loss="mse", dtype=torch.float64, batch_size=batch_size, weight_decay=weight_decay
    )
    design = np.concatenate([inputs.numpy(), np.ones((40, 1))], axis=1)
    normal = 2 * design.T @ design / 40 + weight_decay * np.eye(4)
    return loss, np.linalg.solve(normal, 2 * design.T @ targets.numpy()[:, 0] / 40)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_linear_regression(weight_decay, method):
    loss, exact = regression(weight_decay=weight_decay)
    found = ls.minimize(loss, method=method, lr={"adam": 0.02, "gd": 0.1}.get(method))
    assert bool(found.converged)
    np.testing.assert_allclose(found.position, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_minibatch_loss_is_minimised_on_all_data(method):
    whole, exact = regression()
    batches, _ = regression(batch_size=4)
    lr = {"adam": 0.02, "gd": 0.1}.get(method)
    first, second = (ls.minimize(loss, method=method, lr=lr) for loss in (whole, batches))
    np.testing.assert_array_equal(first.position, second.position)
    np.testing.assert_allclose(second.position, exact, rtol=0, atol=1e-5)
    assert batches.sampler.batch_size == 4


def test_networks_keep_their_dtype():
    module = architectures.mlp([3, 4, 2])
    loss = NetworkLoss(module, torch.eye(3), torch.tensor([0, 1, 1]))
    for method in METHODS:
        found = ls.minimize(loss, method=method, steps=20)
        assert found.position.dtype == np.float32
        assert float(found.energy) == pytest.approx(float(loss.energy(found.position.values)), rel=1e-4)


def test_the_module_stays_and_load_writes_the_minimum():
    module = architectures.mlp([3, 2])
    loss = NetworkLoss(module, torch.eye(3), torch.tensor([0, 1, 1]), weight_decay=0.1)
    before = loss.position()
    found = ls.minimize(loss, method="lbfgs", tolerance=1e-4)
    assert torch.equal(loss.position(), before)
    loss.load(found.position.values)
    assert torch.equal(loss.position(), torch.tensor(found.position.values))


def test_the_same_call_gives_the_same_bits():
    for method in METHODS:
        first, second = (ls.minimize(toys.MullerBrown(), [0.5, 0.1], method=method, steps=200) for _ in range(2))
        assert first.equals(second)
