"""`Mobility`: the stationary law of each sense of the noise, relaxation, both backends, and what is refused."""

import json

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import potentials
from landscape.cli.app import run as run_command
from landscape.errors import ConfigError, FormulaError, NonFiniteError, ShapeError
from landscape.integrators.mobility import root_of
from tests.exact_laws import Line, operator, stationary

T = 0.5
SPRING = potentials.Expression("x**2/2", ["x"])
PLANE = potentials.Expression("x**2/2 + y**2 + x*y/2", ["x", "y"])
POWERS = {"anti-ito": 0.0, "stratonovich": -0.5, "ito": -1.0}  # exp(-V/T) m^power
SHARES = {"anti-ito": 1.0, "stratonovich": 0.5, "ito": 0.0}
GRID = np.linspace(-6, 6, 4001)


def law(weights):
    """Averages of three functions over a density on the grid."""
    probability = weights / weights.sum()
    return np.array([probability @ f(GRID) for f in OBSERVED])


OBSERVED = (lambda x: x**2, lambda x: np.exp(-(x**2)), lambda x: 1 / (1 + x**2))


def continuous(sense):
    return law(np.exp(-(GRID**2) / 2 / T) * (1 + GRID**2) ** POWERS[sense])


def discrete(sense, dt):
    """Averages over the stationary law of the chain itself, by its transfer operator."""
    line = Line(-9.0, 9.0, 90, 6)

    def move(x, xi):
        m = 1 + x**2
        return x - dt * m * x + dt * SHARES[sense] * T * 2 * x + np.sqrt(2 * T * dt * m) * xi

    weights = stationary(operator(line, move))
    return np.array([weights @ f(line.nodes) for f in OBSERVED])


def z_scores(samples, expected):
    values = np.stack([f(samples) for f in OBSERVED])
    return (values.mean(1) - expected) / (values.std(1) / np.sqrt(values.shape[1]))


@pytest.mark.parametrize("sense", POWERS)
def test_the_chain_tends_to_the_law_of_its_sense(sense):
    """The law of the discrete chain is that of the docstring up to O(dt): half the step, half the distance."""
    far, near = (discrete(sense, dt) - continuous(sense) for dt in (0.01, 0.005))
    np.testing.assert_allclose(near / far, 0.5, atol=0.02)
    others = [continuous(other) for other in POWERS if other != sense]
    assert all(abs(near).max() < 0.1 * abs(continuous(sense) - other).max() for other in others)


@pytest.mark.parametrize("sense", POWERS)
@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_each_sense_samples_its_law(sense, backend):
    dt = 0.02
    rule = ls.EulerMaruyama(dt, mobility=ls.Mobility("1 + x**2", sense))
    run = ls.simulate(
        SPRING,
        rule,
        temperature=T,
        chains=4000,
        steps=200,
        seed=5,
        backend=backend,
        record=ls.Record(200),
    )
    samples = run.last_position.to_numpy()[:, 0]
    assert abs(z_scores(samples, discrete(sense, dt))).max() < 4.5
    for other in POWERS:
        if other != sense:
            assert abs(z_scores(samples, discrete(other, dt))).max() > 6
    assert rule.obeys_boltzmann == (sense == "anti-ito")


MATRIX = [[2.0, 0.8], [0.8, 0.5]]
FORMULAS = [["1 + y**2", "x*y/2"], ["x*y/2", "1 + x**2/2"]]
KINDS = {
    "scalar": "1 + x**2*y**2/4",
    "by name": {"x": "1 + y**2", "y": "2 + sin(x)"},
    "constant": MATRIX,
    "array": np.array(MATRIX),
    "formulas": FORMULAS,
    "singular": [["x**2", "x*y"], ["x*y", "y**2"]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_backends_make_the_same_paths(kind):
    rule = ls.EulerMaruyama(0.02, mobility=ls.Mobility(KINDS[kind]))
    settings = {"temperature": T, "chains": 40, "steps": 30, "start": [0.4, -0.3], "seed": 2}
    spring = ls.Restrain("x - y", 0.1, 2.0)
    runs = [
        ls.simulate(PLANE, rule, backend=backend, constraint=spring, **settings) for backend in ("compiled", "batched")
    ]
    assert np.allclose(runs[0].position, runs[1].position, rtol=1e-9, atol=1e-11)


def as_torch(x):
    a, b = x[:, 0], x[:, 1]
    rows = [torch.stack([1 + b**2, a * b / 2], -1), torch.stack([a * b / 2, 1 + a**2 / 2], -1)]
    return torch.stack(rows, -2)


@pytest.mark.parametrize(
    "divergence", [None, lambda x: torch.stack([x[:, 0] / 2, x[:, 1] / 2], -1)], ids=["autodiff", "given"]
)
def test_a_callable_is_as_its_formulas(divergence):
    settings = {"temperature": T, "chains": 40, "steps": 20, "start": [0.4, -0.3], "seed": 2}
    mobilities = [ls.Mobility(FORMULAS), ls.Mobility(as_torch, divergence=divergence)]
    runs = [ls.simulate(PLANE, ls.EulerMaruyama(0.02, mobility=one), **settings) for one in mobilities]
    assert np.allclose(runs[0].position, runs[1].position, rtol=1e-9, atol=1e-11)
    assert [run.attrs["backend"] for run in runs] == ["compiled", "batched"]


@pytest.mark.parametrize("given", ["1 + x**2*y**2/4", {"x": "1 + y**2", "y": "2 + sin(x)"}])
def test_scalar_and_diagonal_callables_too(given):
    scalar = isinstance(given, str)

    def values(x):
        return 1 + x.square().prod(-1) / 4 if scalar else torch.stack([1 + x[:, 1] ** 2, 2 + x[:, 0].sin()], -1)

    point = torch.tensor([[0.3, -0.7], [1.0, 2.0]], dtype=torch.float64)
    ours, theirs = (ls.Mobility(one).of(PLANE).terms(point) for one in (given, values))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def plane_law():
    x, y = np.meshgrid(np.linspace(-5, 5, 401), np.linspace(-5, 5, 401), indexing="ij")
    weights = np.exp(-PLANE.energy(np.stack([x, y], -1)) / T)
    weights /= weights.sum()
    return np.array([(weights * f).sum() for f in (x**2, y**2, x * y, np.cos(2 * x) * y**2)])


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_a_matrix_of_formulas_keeps_the_boltzmann_law(backend):
    """Where only the anti-Ito divergence does; the step is small against the errors."""

    def z(sense):
        rule = ls.EulerMaruyama(0.005, mobility=ls.Mobility(FORMULAS, sense))
        run = ls.simulate(
            PLANE, rule, temperature=T, chains=4000, steps=500, seed=8, backend=backend, record=ls.Record(500)
        )
        x, y = run.last_position.to_numpy().T
        values = np.stack([x**2, y**2, x * y, np.cos(2 * x) * y**2])
        return (values.mean(1) - plane_law()) / (values.std(1) / np.sqrt(len(x)))

    assert abs(z("anti-ito")).max() < 4.5
    if backend == "compiled":
        assert abs(z("ito")).max() > 6


def test_a_constant_matrix_keeps_the_law_and_relaxes_with_its_own_rates():
    """x' = (1 - dt M H) x + noise: mean and covariance at every time, whatever the sense."""
    hessian, dt, steps = np.array([[1.0, 0.5], [0.5, 2.0]]), 0.1, 12
    matrix = np.array(MATRIX)
    step = np.eye(2) - dt * matrix @ hessian
    covariance = np.zeros((2, 2))
    for _ in range(steps):
        covariance = step @ covariance @ step.T + 2 * T * dt * matrix
    mean = np.linalg.matrix_power(step, steps) @ [1.0, -1.0]
    for sense in POWERS:
        rule = ls.EulerMaruyama(dt, mobility=ls.Mobility(MATRIX, sense))
        assert rule.obeys_boltzmann
        settings = {"temperature": T, "chains": 20_000, "steps": steps, "start": [1.0, -1.0], "seed": 4}
        x = ls.simulate(PLANE, rule, record=ls.Record(steps), **settings).last_position.to_numpy()
        assert abs((x.mean(0) - mean) / (x.std(0) / np.sqrt(len(x)))).max() < 4.5
        products = np.einsum("ni,nj->nij", x - mean, x - mean)
        error = products.std(0) / np.sqrt(len(x))
        assert abs((products.mean(0) - covariance) / error).max() < 4.5
        plain = np.linalg.matrix_power(np.eye(2) - dt * hessian, steps) @ [1.0, -1.0]
        assert abs((x.mean(0) - plain) / (x.std(0) / np.sqrt(len(x)))).max() > 6


def test_diffusion_over_an_angle_as_on_a_sphere():
    """theta with V = -T ln sin theta and M = 1, and u = cos theta with V = 0 and M = 1 - u^2: both are uniform in u."""
    flat = potentials.Expression("0*u", ["u"], bounds={"u": (-1, 1)})
    rule = ls.EulerMaruyama(0.002, mobility=ls.Mobility("max(1 - u**2, 0)"))
    run = ls.simulate(flat, rule, temperature=1.0, chains=4000, steps=800, start=[0.5], seed=1, record=ls.Record(800))
    u = run.last_position.to_numpy()[:, 0]
    squares = u**2
    assert abs(u.mean()) < 4.5 * u.std() / np.sqrt(len(u))
    assert abs(squares.mean() - 1 / 3) < 4.5 * squares.std() / np.sqrt(len(u)) + 0.005  # the step is not small at +-1
    rate = [0.5 * np.exp(-2 * t) for t in (0.1, 0.3)]  # <u> decays with the rate 2 T
    run = ls.simulate(flat, rule, temperature=1.0, chains=4000, steps=150, start=[0.5], seed=2, record=ls.Record(50))
    for draw, expected in ((0, rate[0]), (2, rate[1])):
        values = run.position.to_numpy()[:, draw, 0]
        assert abs(values.mean() - expected) < 4.5 * values.std() / np.sqrt(4000)


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_free_exit_with_a_mobility(backend):
    """Mean time from 0 to +-1, V = 0, anti-Ito: integral of y / (T m(y)) over (0, 1), here 3/4; 1 with M = 1."""
    flat = potentials.Expression("0*x", ["x"])
    rule = ls.EulerMaruyama(0.04, mobility=ls.Mobility("2/(1 + x**2)"))
    run = ls.simulate(
        flat, rule, temperature=T, chains=800, steps=200, seed=1, constraint=ls.Absorb({"x": (-1, 1)}),
        record=ls.Record(200), backend=backend,
    )  # fmt: skip
    times = run.exit_time.to_numpy()
    assert np.isfinite(times).all()
    assert abs(times.mean() - 0.75) < 4.5 * times.std() / np.sqrt(len(times))
    assert abs(times.mean() - 1.0) > 6 * times.std() / np.sqrt(len(times))


@pytest.mark.parametrize("backend", ["compiled", "batched"])
@pytest.mark.parametrize("policy", ["raise", "drop"])
def test_a_negative_mobility_stops_the_run_with_its_place(backend, policy):
    rule = ls.EulerMaruyama(0.1, mobility=ls.Mobility("1 - x"))
    with pytest.raises(NonFiniteError, match=r"mobility is -0\.\d+ at \(1\.") as error:
        ls.simulate(SPRING, rule, temperature=5.0, chains=40, steps=50, seed=1, backend=backend, on_nonfinite=policy)
    assert error.value.dataset.sizes["draw"] == error.value.step - 1
    with pytest.raises(ConfigError, match=r"mobility is -1 at \(2\)"):
        ls.simulate(SPRING, rule, temperature=5.0, steps=50, start=[2.0], chains=40, backend=backend)


def test_roots_of_singular_and_indefinite_matrices():
    good = [[[4.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]]
    root = root_of(torch.tensor(good, dtype=torch.float64))
    torch.testing.assert_close(root @ root.mT, torch.tensor(good, dtype=torch.float64))
    bad = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 2.0], [2.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]])
    assert root_of(bad.double()).isnan().any(-1).any(-1).all()


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        (("1", "itoo"), {}, ConfigError, "interpretation"),
        ((-1.0,), {}, ConfigError, "not negative"),
        (([[1.0, 2.0], [2.0, 1.0]],), {}, ConfigError, "not negative"),
        (([[1.0, 0.2], [0.0, 1.0]],), {}, ConfigError, "symmetric"),
        (([[1.0], [0.0, 1.0]],), {}, ShapeError, "equal lengths"),
        (([1.0, 2.0, 3.0],), {}, ShapeError, "3, and there are 2"),
        (({"x": 1.0},), {}, ConfigError, "entries for"),
        (("1 + q",), {}, FormulaError, "q"),
        (("1 + t",), {}, FormulaError, "changes in time"),
        (([["1", "x"], ["y", "1"]],), {}, ConfigError, "symmetric"),
        ((lambda x: x.sum(-1), "ito", {"a": 1.0}), {}, ConfigError, "own parameters"),
        (("1",), {"divergence": lambda x: x}, ConfigError, "callable"),
        ((lambda x: x[:, :1],), {}, ShapeError, "the mobility gave shape"),
    ],
)  # fmt: skip
def test_bad_mobilities_are_explained(arguments, settings, error, said):
    def run():
        rule = ls.EulerMaruyama(0.1, mobility=ls.Mobility(*arguments, **settings))
        ls.simulate(PLANE, rule, temperature=1.0, steps=2, start=[0.1, 0.3], chains=2)

    with pytest.raises(error, match=said):
        run()


def test_what_does_not_go_with_a_mobility_is_refused():
    rule = ls.EulerMaruyama(0.1, mobility=ls.Mobility(FORMULAS))
    with pytest.raises(ConfigError, match="reflecting walls"):
        ls.simulate(PLANE, rule, temperature=1.0, steps=2, constraint=ls.Reflect({"x": (-1, 1)}))
    with pytest.raises(ConfigError, match="ends of the period"):
        ls.simulate(PLANE, rule, temperature=1.0, steps=2, constraint=ls.Periodic({"x": (-1, 2)}), start=[0.5, 0.5])
    with pytest.raises(ConfigError, match="noise"):
        ls.EulerMaruyama(0.1, noise=ls.HessianNoise(), mobility=ls.Mobility(2.0))
    with pytest.raises(ConfigError, match="a Mobility"):
        ls.EulerMaruyama(0.1, mobility=2.0)
    with pytest.raises(ConfigError, match="inner rule"):
        ls.Preconditioned(rule, "diagonal")
    ito = ls.EulerMaruyama(0.1, mobility=ls.Mobility("1 + x**2", "ito"))
    with pytest.raises(ConfigError, match="Boltzmann law"):
        ls.replica_exchange(PLANE, ito, [1.0, 2.0], steps=4, swap_every=2)
    with pytest.raises(ConfigError, match="Boltzmann law"):
        ls.simulate(PLANE, ito, temperature=1.0, steps=99, certify=True)
    anti = ls.EulerMaruyama(0.01, mobility=ls.Mobility("1 + x**2"))
    assert ls.replica_exchange(PLANE, anti, [1.0, 2.0], steps=4, swap_every=2, backend="batched").sizes["draw"] == 4


SPECIFICATION = {
    "potential": {"kind": "Expression", "energy": "x**2/2 + y**2", "coordinates": ["x", "y"]},
    "integrator": {"kind": "EulerMaruyama", "dt": 0.01, "mobility": {
        "kind": "Mobility", "matrix": [["1 + a*y**2", "x*y/2"], ["x*y/2", 1.5]], "interpretation": "stratonovich",
        "parameters": {"a": 0.5}}},
    "steps": 30, "chains": 40, "temperature": 0.5, "seed": 1,
}  # fmt: skip


def test_specification_resume_and_command_line(tmp_path):
    whole = ls.run(SPECIFICATION)
    again = ls.run(json.loads(whole.attrs["spec"]))
    np.testing.assert_array_equal(whole.position, again.position)
    ls.run(SPECIFICATION | {"steps": 11}, output=tmp_path / "part")
    np.testing.assert_array_equal(ls.resume(tmp_path / "part", steps=30).position, whole.position)
    mobility = ls.Mobility(**{k: v for k, v in SPECIFICATION["integrator"]["mobility"].items() if k != "kind"})
    assert eval(repr(mobility), {"Mobility": ls.Mobility}).spec() == mobility.spec()  # noqa: S307
    config = tmp_path / "run.toml"
    config.write_text(
        'steps = 30\nchains = 40\ntemperature = 0.5\nseed = 1\n[potential]\nkind = "Expression"\n'
        'energy = "x**2/2 + y**2"\ncoordinates = ["x", "y"]\n[integrator]\nkind = "EulerMaruyama"\ndt = 0.01\n'
        '[integrator.mobility]\nkind = "Mobility"\nmatrix = [["1 + a*y**2", "x*y/2"], ["x*y/2", "1.5"]]\n'
        'interpretation = "stratonovich"\nparameters = {a = 0.5}\n'
    )
    assert run_command(["simulate", str(config), "--output", str(tmp_path / "run.nc")]) == 0
    with ls.open(tmp_path / "run.nc") as stored:
        np.testing.assert_array_equal(stored.position, whole.position)
