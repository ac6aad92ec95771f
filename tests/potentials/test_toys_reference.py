"""Every row of the reference table that a toy carries, to the digits printed there."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import digamma

from landscape.potentials.toys import DoubleWell, EntropicBarrier, ExponentialWall, MullerBrown, Quadratic, Ring, Valley

TABLE = Path(__file__).parents[1] / "reference" / "values.csv"

# Rows about dynamics or estimators, of which a potential knows nothing; by potential and quantity.
NOT_OF_A_TOY = {
    ("quadratic_euler_maruyama", "var_theta"): "law of a finite time step",
    ("quadratic_euler_maruyama", "mean_loss"): "law of a finite time step",
    ("exp_wall", "tau_half_loss"): "spectrum of the Fokker-Planck operator",
    ("exp_wall", "slowest_relaxation_rate"): "spectrum of the Fokker-Planck operator",
    ("double_well", "fp_eigenvalue_1"): "spectrum of the Fokker-Planck operator",
    ("valley_kstep_projected", "mean_drift_velocity_frozen_y"): "projected dynamics",
    ("gamma_mle", "alpha_hat"): "an estimator",
}


def gauss(low, high, panels=400, order=16):
    """Nodes and weights of a composite Gauss-Legendre rule."""
    x, w = np.polynomial.legendre.leggauss(order)
    edges = np.linspace(low, high, panels + 1)
    half = 0.5 * np.diff(edges)[:, None]
    return (edges[:-1, None] + half * (x + 1)).ravel(), (half * w).ravel()


def quadratic(parameters, temperature, quantity):
    k = parameters["k"] if isinstance(parameters["k"], list) else np.geomspace(0.3, 700.0, parameters["Nc"])
    toy = Quadratic(k)
    match quantity:
        case "mean_loss":
            return toy.mean_energy(temperature)
        case "var_loss":
            return toy.energy_variance(temperature)
        case "median_loss":
            return toy.energy_quantile(0.5, temperature)
        case "q99_loss":
            return toy.energy_quantile(0.99, temperature)
        case "acf_loss_t0.05":
            return toy.energy_autocorrelation(0.05)


def wall(parameters, temperature, quantity, form="exponential"):
    toy = ExponentialWall(parameters["a"], parameters["B"], parameters["theta_star"], form)
    mean, variance = toy.mean_energy(temperature), toy.energy_variance(temperature)
    match quantity:
        case "Z":
            return math.exp(toy.log_partition_function(temperature))
        case "mean_loss":
            return mean
        case "var_loss":
            return variance
        case "entropy":
            return toy.entropy(temperature)
        case "mean_curvature":
            return toy.mean_curvature(temperature)
        case "alpha_moment":
            return mean**2 / variance
        case "alpha_gamma_mle_population":
            s = math.log(mean) - toy.mean_log_energy(temperature)
            return brentq(lambda alpha: math.log(alpha) - digamma(alpha) - s, 1e-3, 1e3, xtol=1e-14)


def softplus_wall(parameters, temperature, quantity):
    return wall(parameters, temperature, quantity, form="softplus")


def valley(parameters, temperature, quantity):
    box = parameters.get("box_y", [-3, 3])
    toy = Valley(parameters["g"].replace("^", "**"), parameters.get("kappa", 0.0), {"y": box})
    match quantity:
        case "P_y(0)":
            return toy.marginal(0.0, temperature)
        case "mean_y2":
            y, w = gauss(*box)
            return (w * y**2) @ toy.marginal(y, temperature)
        case "mean_force_y_at_y=0.5":
            step = 1e-3
            ahead, behind = toy.effective_potential(np.array([0.5 + step, 0.5 - step]), temperature)
            return -(ahead - behind) / (2 * step)


def valley_confined(parameters, temperature, quantity):
    toy = Valley("1 + y**2", parameters["kappa"])
    match quantity:
        case "P_y(0)":
            return toy.marginal(0.0, temperature)
        case "mean_x2":
            y, w = gauss(-12.0, 12.0)
            return temperature * (w / (1 + y**2)) @ toy.marginal(y, temperature)
        case "mean_V":
            return toy.mean_energy(temperature)


def flat_valley(parameters, temperature, quantity):
    end = parameters["reflect_at"]
    toy = Valley("2.5", bounds={"y": (-end, end)})
    assert quantity == "mfpt"
    return toy.mean_first_passage_time(parameters["start"], parameters["target"], temperature)


def entropic_barrier(parameters, temperature, quantity):
    toy = EntropicBarrier(parameters["A"], parameters["w"], parameters["n_stiff"])
    if quantity == "mfpt":
        return toy.mean_first_passage_time(parameters["start"], parameters["target"], temperature)
    assert quantity == "barrier_F(0)-F(1.5)"
    top, bottom = toy.effective_potential(np.array([0.0, 1.5]), temperature)
    return top - bottom


def ring(parameters, temperature, quantity):
    toy = Ring(f"{parameters['k0']}*(1 + {parameters['a']}*cos(theta))")
    match quantity:
        case "P_theta(0)":
            return toy.marginal(0.0, temperature)
        case "P_theta(pi)":
            return toy.marginal(math.pi, temperature)
        case "mean_cos_theta":
            theta, w = gauss(-math.pi, math.pi)
            return (w * np.cos(theta)) @ toy.marginal(theta, temperature)
        case "mean_r":
            return toy.mean_radius(temperature)


def double_well(parameters, temperature, quantity):
    toy = DoubleWell()
    match quantity:
        case "Z":
            return math.exp(toy.log_partition_function(temperature))
        case "mean_x2":
            return toy.mean_square(temperature)
        case "mean_V":
            return toy.mean_energy(temperature)
        case "mfpt_-1_to_0":
            return toy.mean_first_passage_time(-1.0, 0.0, temperature)
        case "mfpt_-1_to_+1":
            return toy.mean_first_passage_time(-1.0, 1.0, temperature)


def muller_brown(parameters, temperature, quantity):
    toy = MullerBrown()
    a, b, c = toy.minima().numpy()
    saddle_cb, saddle_ac = toy.saddles().numpy()
    points = {"min_A": a, "min_B": b, "min_C": c, "saddle_AC": saddle_ac, "saddle_CB": saddle_cb}
    point, _, what = quantity.partition(".")
    if what:
        at = points[point]
        curvature = np.linalg.eigvalsh(toy.hessian(at))
        return {
            "x": at[0],
            "y": at[1],
            "V": float(toy.energy(at)),
            "hess_eig_min": curvature[0],
            "hess_eig_max": curvature[-1],
        }[what]
    match quantity:
        case "mean_x":
            return toy.mean_position(temperature)[0]
        case "mean_y":
            return toy.mean_position(temperature)[1]
        case "var_V":
            return toy.energy_variance(temperature)
        case "barrier_A_to_saddle_AC":
            return float(toy.energy(saddle_ac) - toy.energy(a))
        case "MEP_A_B_max_V":
            return float(toy.energy(toy.saddles()).max())
        case "arc_length_saddle_AC_to_min_A":
            return descent_length(toy, saddle_ac, a)
        case "arc_length_saddle_AC_to_min_C":
            return descent_length(toy, saddle_ac, c)


def descent_length(toy, saddle, minimum):
    """Arc length of steepest descent from a saddle to a minimum."""
    _, modes = np.linalg.eigh(toy.hessian(saddle))
    unstable = modes[:, 0] * np.sign(modes[:, 0] @ (minimum - saddle))

    def downhill(_, state):
        gradient = toy.gradient(state[:2])
        return [*(-gradient), np.linalg.norm(gradient)]

    nudge = 1e-6
    start = [*(saddle + nudge * unstable), nudge]
    solution = solve_ivp(downhill, (0.0, 0.2), start, method="DOP853", rtol=1e-11, atol=1e-13)
    assert np.allclose(solution.y[:2, -1], minimum, atol=1e-9)
    return solution.y[2, -1]


HANDLERS = {
    "quadratic": quadratic,
    "exp_wall": wall,
    "softplus_wall": softplus_wall,
    "valley": valley,
    "valley_confined": valley_confined,
    "valley_reduced_1d": flat_valley,
    "entropic_barrier_1d": entropic_barrier,
    "ring": ring,
    "double_well": double_well,
    "muller_brown": muller_brown,
}

with TABLE.open(newline="") as file:
    ROWS = list(csv.DictReader(file))
CARRIED = [row for row in ROWS if (row["potential"], row["quantity"]) not in NOT_OF_A_TOY]

# Fewer digits than the table prints: a finite difference here, a path of about eight digits there.
TOLERANCE = {
    "mean_force_y_at_y=0.5": 1e-5,
    "arc_length_saddle_AC_to_min_A": 1e-7,
    "arc_length_saddle_AC_to_min_C": 1e-7,
}


@pytest.mark.parametrize("row", CARRIED, ids=lambda row: f"{row['potential']}-{row['quantity']}-{row['T']}")
def test_row(row):
    temperature = float(row["T"]) if row["T"] else None
    value = HANDLERS[row["potential"]](json.loads(row["parameters"]), temperature, row["quantity"])
    assert value is not None, f"no toy answers for {row['potential']} {row['quantity']}"
    assert value == pytest.approx(float(row["value"]), rel=TOLERANCE.get(row["quantity"], 2e-9))


def test_nothing_is_left_out_by_accident():
    left_out = {(row["potential"], row["quantity"]) for row in ROWS} - {
        (row["potential"], row["quantity"]) for row in CARRIED
    }
    assert left_out == set(NOT_OF_A_TOY)
    assert len(CARRIED) == len(ROWS) - 11


# Numbers of the literature notes that the table does not hold.


def test_probability_of_the_middle_of_the_valley():
    toy = Valley("1 + y**2", bounds={"y": (-3, 3)})
    y, w = gauss(-1.0, 1.0)
    middle = w @ toy.marginal(y, 0.1)
    assert middle == pytest.approx(0.48468493, rel=1e-7)
    without_half = (w / (1 + y**2)).sum() / (2 * math.atan(3.0))  # P ~ 1/g, as the paper prints
    assert abs(without_half - middle) > 0.14


@pytest.mark.parametrize(("temperature", "ratio"), [(0.1, 3.0000), (1.0, 3.0002), (10.0, 3.2495)])
def test_ring_ratio(temperature, ratio):
    soft, stiff = Ring().marginal([math.pi, 0.0], temperature)
    assert soft / stiff == pytest.approx(ratio, abs=5e-5)


@pytest.mark.parametrize(("stiff", "time"), [(1, 5.3999782), (4, 45.641502), (10, 22677.793)])
@pytest.mark.parametrize("temperature", [0.1, 3.0])
def test_entropic_crossing_time_is_inverse_in_temperature(stiff, time, temperature):
    tau = EntropicBarrier(stiff=stiff).mean_first_passage_time(-1.5, 1.5, temperature)
    assert tau * temperature == pytest.approx(time, rel=2e-8)


def test_muller_brown_stationary_points():
    toy = MullerBrown()
    minima = [[-0.55822363, 1.4417258], [0.62349940, 0.028037759], [-0.050010823, 0.46669410]]
    saddles = [[0.21248658, 0.29298833], [-0.82200156, 0.62431280]]
    np.testing.assert_allclose(toy.minima(), minima, rtol=1e-7)
    np.testing.assert_allclose(toy.saddles(), saddles, rtol=1e-7)
    np.testing.assert_allclose(toy.energy(toy.minima()), [-146.69952, -108.16672, -80.767818], rtol=5e-8)
    np.testing.assert_allclose(toy.energy(toy.saddles()), [-72.248940, -40.664844], rtol=5e-8)


def test_muller_brown_path_length():
    toy = MullerBrown()
    a, b, c = toy.minima().numpy()
    low, high = toy.saddles().numpy()
    length = sum(descent_length(toy, s, m) for s, m in ((high, a), (high, c), (low, c), (low, b)))
    assert length == pytest.approx(2.6988275, rel=1e-7)
