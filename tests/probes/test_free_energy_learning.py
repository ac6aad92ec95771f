"""The local learning coefficient: quadratics, singular minima by quadrature, and what it warns of."""

import warnings

import numpy as np
import pytest
from scipy.integrate import quad

import landscape as ls
from landscape import potentials
from landscape.probes import free_energy
from tests.cases import LONG_ONLY


def coefficient(potential, position, temperature, **settings):
    options = {"dt": 0.3, "steps": 2000, "chains": 100, "every": 4} | settings
    return free_energy.local_learning_coefficient(potential, position, temperature=temperature, **options)


def z_of(found, truth):
    return float((found.local_learning_coefficient - truth) / found.local_learning_coefficient_stderr)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
@pytest.mark.parametrize("directions", [1, 6])
def test_half_the_stiff_directions(directions, temperature):
    found = coefficient(potentials.Quadratic(np.geomspace(1, 2, directions)), np.zeros(directions), temperature)
    assert abs(z_of(found, directions / 2)) < 4.5
    assert abs(z_of(found, directions)) > 8
    assert found.attrs["warnings"] == "none"


def test_quartic_is_a_quarter():
    found = coefficient(potentials.Expression("x**4", ["x"]), [0.0], 0.01, dt=1.0)
    assert abs(z_of(found, 0.25)) < 4.5
    assert abs(z_of(found, 0.5)) > 8


def in_box(power, temperature):
    """<x^2 y^p>/T in the box of side 2, by quadrature."""

    def moments(y):
        a = y**power / temperature
        mass = quad(lambda x: np.exp(-a * x * x), 0, 1)[0]
        return mass, quad(lambda x: a * x * x * np.exp(-a * x * x), 0, 1)[0]

    points = [0.01, 0.05, 0.1, 0.3]
    norm = quad(lambda y: moments(y)[0], 0, 1, points=points)[0]
    return quad(lambda y: moments(y)[1], 0, 1, points=points)[0] / norm


@pytest.mark.parametrize(("power", "limit"), [(2, 0.5), (4, 0.25)])
def test_singular_minima_in_a_box(power, limit):
    t = 0.01
    landscape = potentials.Expression(f"x**2*y**{power}", ["x", "y"], bounds={"x": (-1, 1), "y": (-1, 1)})
    found = coefficient(landscape, [0.0, 0.0], t, dt=2.0, steps=8000, chains=60, every=8)
    exact = in_box(power, t)
    assert abs(z_of(found, exact)) < 4.5
    assert abs(in_box(power, 1e-5) - limit) < abs(exact - limit)  # the limit is approached, with its logarithm


@pytest.mark.always
def test_sensitivities_are_derivatives():
    """One spring k with localisation c: lambda = k/(2(k + c)), d lambda/d ln c = -k c/(2 (k + c)^2), none by ln T."""
    k, c = 2.0, 3.0
    found = coefficient(potentials.Quadratic([k]), [0.0], 0.1, localization=c, chains=200)
    assert abs(z_of(found, k / (2 * (k + c)))) < 4.5
    change = found.localization_sensitivity + k * c / (2 * (k + c) ** 2)
    assert abs(float(change / found.localization_sensitivity_stderr)) < 4.5
    assert abs(float(found.temperature_sensitivity / found.temperature_sensitivity_stderr)) < 4.5
    assert "localization" in found.attrs["warnings"]
    other = coefficient(
        potentials.Function(lambda x: 0.5 * k * (x**2).sum(-1), 1), [0.0], 0.1, localization=c, steps=600
    )
    assert abs(z_of(other, k / (2 * (k + c)))) < 4.5


def test_chains_that_leave_are_named():
    well = potentials.Expression("(x**2 - 1)**2 + 0.3*x", ["x"])  # the deeper side is the other one
    found = coefficient(well, [0.96], 0.15, dt=0.05, steps=3000, chains=60)
    assert found.attrs["warnings"] != "none"
    slope = coefficient(potentials.Expression("-0.5*x", ["x"]), [0.0], 0.01, dt=0.05, steps=400, chains=8)
    assert bool(slope.left.all()) and "left the basin" in slope.attrs["warnings"]
    assert not coefficient(potentials.Quadratic([1.0]), [0.0], 0.1).left.any()


def test_definition_of_lau_on_a_network():
    """n beta (<L_n> - L_n(w)), step by step by hand on the same run of a network."""
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).double()
    inputs = torch.randn(20, 2, dtype=torch.float64)
    loss = potentials.NetworkLoss(module, inputs, inputs[:, :1].sin(), loss="mse")
    minimum = ls.minimize(loss, method="adam", steps=300, tolerance=1e-12)
    t, start = 1e-3, minimum.position.to_numpy()
    found = coefficient(loss, minimum, t, dt=0.02, steps=400, chains=16, every=2, localization=1e-2, discard=0.0)
    by_hand = ((found.trace.mean() * t) / t).item()
    assert float(found.local_learning_coefficient) == pytest.approx(by_hand)
    run = ls.simulate(
        loss, ls.MALA(dt=0.02), temperature=t, start=np.tile(start, (16, 1)), steps=400, seed=0,
        record=ls.Record(2, observables=["energy"]),
        constraint=ls.Restrain(lambda x: torch.linalg.vector_norm(x - torch.as_tensor(start), dim=-1), 0.0, 1e-2),
    )  # fmt: skip
    n_beta = 1.0 / t
    lau = n_beta * (float(run.energy.mean()) - float(loss.energy(torch.as_tensor(start))))
    assert float(found.local_learning_coefficient) == pytest.approx(lau, rel=1e-10)


def test_devinterp_agrees_on_a_network():
    """One network, one beta, one localisation, all data at every step: SGLD of devinterp 1 against ours."""
    import torch

    sampler = pytest.importorskip("devinterp.slt.sampler")
    if not hasattr(sampler, "estimate_learning_coeff_with_summary"):
        pytest.skip("devinterp 1 is needed")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    inputs = torch.randn(64, 2)
    targets = inputs[:, :1].sin() + 0.3 * torch.randn(64, 1)
    loss = potentials.NetworkLoss(module, inputs, targets, loss="mse")
    minimum = ls.minimize(loss, method="lbfgs", steps=2000, tolerance=1e-5).position.to_numpy()
    torch.nn.utils.vector_to_parameters(torch.as_tensor(minimum).float(), module.parameters())
    lr, gamma, chains, n_beta = 0.004, 10.0, 8, 64 / np.log(64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sampler.estimate_learning_coeff_with_summary(
            module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=64),
            evaluate=lambda network, pair: (torch.nn.functional.mse_loss(network(pair[0]), pair[1]), {}),
            optimizer_kwargs={"lr": lr, "nbeta": n_beta, "localization": gamma}, num_draws=1000, num_chains=chains,
            num_burnin_steps=250, init_loss=float(loss.energy(torch.as_tensor(minimum).float())), seed=1, verbose=False,
        )  # fmt: skip
    # their step lr is 2 T dt, and their gamma counts in units of T
    dt, t = lr * n_beta / 2, 1 / n_beta
    ours = coefficient(loss, minimum, t, dt=dt, localization=gamma * t, chains=64)
    error = np.hypot(theirs["llc/std"] / chains**0.5, float(ours.local_learning_coefficient_stderr))
    assert abs(theirs["llc/mean"] - 2 * float(ours.local_learning_coefficient)) > 8 * error
    # SGLD does not correct its step, ours does: the same uncorrected step has the same mean
    centre = torch.as_tensor(minimum)
    same = ls.simulate(
        loss, ls.EulerMaruyama(dt=dt), temperature=t, start=np.tile(minimum, (64, 1)), steps=1250, seed=3,
        record=ls.Record(5, ["energy"]),
        constraint=ls.Restrain(lambda x: torch.linalg.vector_norm(x - centre.to(x), dim=-1), 0.0, gamma * t),
    )  # fmt: skip
    uncorrected = (same.energy[:, 50:].mean("draw") - ours.attrs["energy_at_start"]) / t
    error = np.hypot(theirs["llc/std"] / chains**0.5, float(uncorrected.std(ddof=1)) / 8)
    assert abs(theirs["llc/mean"] - float(uncorrected.mean())) < 4.5 * error
    print(
        "DV",
        theirs["llc/mean"],
        theirs["llc/std"] / chains**0.5,
        float(ours.local_learning_coefficient),
        float(ours.local_learning_coefficient_stderr),
        float(uncorrected.mean()),
        float(uncorrected.std(ddof=1)) / 8,
    )


@LONG_ONLY
def test_random_labels_beside_the_gamma_law_and_participation():
    """Three counts on the network of Jules et al. at T = 1e-5: all of one size, none of a basin that holds chains."""
    from landscape.examples._random_labels import network
    from landscape.probes import fluctuations

    loss, t, chains, steps = network(0), 1e-5, 16, 20_000
    minimum = ls.minimize(loss, steps=60_000, tolerance=1e-8)
    found = coefficient(loss, minimum, t, dt=0.1, steps=steps, chains=chains, every=20, discard=0.4)
    late = found.trace.isel(draw=slice(400, None)) * t
    gamma = fluctuations.summary(late, t, by="temperature", discard=0)
    run = ls.simulate(
        loss, ls.MALA(dt=0.1), temperature=t, start=minimum, chains=chains, steps=steps // 2, seed=1,
        record=ls.Record(50, ["sample_energies"]),
    )  # fmt: skip
    phi = fluctuations.participation_ratio(run.sample_energies.isel(draw=slice(100, None)), by="temperature")
    assert bool(found.resolved) and "left the basin" in found.attrs["warnings"]
    value, alpha = float(found.local_learning_coefficient), float(gamma.gamma_shape[0])
    # the mean of the Gamma law is alpha/beta, so the two differ by beta T, which a quadratic has at 1
    assert value == pytest.approx(alpha / float(gamma.rate_times_temperature[0]), rel=0.1)
    assert alpha == pytest.approx(float(phi.participation_ratio[0]), rel=0.3)
    held = coefficient(loss, minimum, t, dt=0.1, steps=2000, chains=8, every=20, localization=0.1)
    assert float(held.local_learning_coefficient) < 0.2 * value  # a spring that keeps chains takes most of it away
