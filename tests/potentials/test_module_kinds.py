"""Every quantity of every kind of module that people bring, against loops over single samples in plain torch.

A quantity is equal to its reference, or refused with an error of the package where the case says so. An error of
torch's, or another number, fails.
"""

import warnings
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError, LandscapeError
from landscape.potentials import NetworkLoss
from landscape.probes import curvature
from tests.potentials.module_cases import BY_NAME, CASES, Reference, draws, fingerprint, flat

DENSE = 150  # weights up to which a whole Hessian is differenced
LARGE = ("torchvision mobilenet", "torchvision vit", "gpt-2")  # of which it is not even made
SMALL = [case for case in CASES if case.name not in LARGE]
SIGMAS = 5.0
EXACT = {"rtol": 1e-8, "atol": 1e-10}
DIFFERENCED = {"rtol": 2e-6, "atol": 2e-7}  # of central differences with steps of 1e-5


class Built:
    """A case as a user meets it, and its reference."""

    def __init__(self, case):
        self.case = case
        self.module = case.wrap(case.build())
        before = fingerprint(self.module)
        settings = dict(case.options) if case.call is None else {**case.options, "call": case.call}
        self.loss = NetworkLoss(self.module, case.inputs, case.targets, loss=case.loss, dtype=torch.float64, **settings)
        self.at_construction = before, fingerprint(self.module)
        self.reference = Reference(case)
        self.position = self.loss.position()
        self.chains = self.position + 0.05 * draws(3, len(self.position), seed=9)

    @cached_property
    def hessian(self):
        """By differences; of larger networks the package's own, once it is right in four directions."""
        if self.loss.dim <= DENSE:
            return self.reference.hessian
        own = self.loss.hessian(self.position)
        for vector in draws(4, self.loss.dim, seed=8):
            torch.testing.assert_close(own @ vector, self.reference.product(vector), **DIFFERENCED)
            torch.testing.assert_close(vector @ own, own @ vector)
        return own


@cache
def _built(case):
    try:
        return Built(case)
    except LandscapeError as error:  # one answer for all tests of a case; others are not caught
        return error


def built(name_or_case):
    """The case, made once; skipped without the library that it needs."""
    case = BY_NAME[name_or_case] if isinstance(name_or_case, str) else name_or_case
    if case.needs:
        pytest.importorskip(case.needs)
    with warnings.catch_warnings():
        if case.needs:
            warnings.filterwarnings("ignore", category=DeprecationWarning)
        found = _built(case)
    if isinstance(found, LandscapeError):
        raise found
    return found


@contextmanager
def holding(case, quantity):
    """Inside, the module stays as it is, and what the case lists as refused is refused."""
    setting = built(case)
    before = fingerprint(setting.module)
    if quantity in case.refused:
        with pytest.raises(LandscapeError):
            yield setting
    else:
        yield setting
    assert fingerprint(setting.module) == before


def every(cases=CASES):
    return pytest.mark.parametrize("case", cases, ids=str)


# -- the reference itself ---------------------------------------------------------------------------------------------


@every()
def test_the_reference_is_right(case):
    """Its gradient is the slope of its energy, which the batch gives as the single samples do."""
    if case.needs:
        pytest.importorskip(case.needs)
    reference = Reference(case)
    direction = draws(reference.dim, seed=6)
    ends = [reference.energy(reference.position + sign * 1e-5 * direction) for sign in (1, -1)]
    slope = float(reference.gradient(reference.position) @ direction)
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-7)
    reference.write(reference.position)
    assert float(reference.losses().detach().mean()) == pytest.approx(reference.energy(reference.position), rel=1e-10)
    single = float(torch.stack([reference.losses(slice(i, i + 1)).detach() for i in range(reference.samples)]).mean())
    assert (abs(single - reference.energy(reference.position)) > 1e-4) == case.interacts


def test_the_registry_is_large():
    assert len(CASES) >= 30
    assert len(BY_NAME) == len(CASES)


# -- energies and gradients -------------------------------------------------------------------------------------------


@every()
def test_the_module_is_not_changed_by_construction(case):
    setting = built(case)
    assert setting.at_construction[0] == setting.at_construction[1]
    torch.testing.assert_close(setting.position, setting.reference.position, rtol=0, atol=0)
    assert setting.loss.dim == setting.reference.dim


@every()
def test_energy(case):
    with holding(case, "energy") as setting:
        expected = [setting.reference.energy(position) for position in setting.chains]
        energies = setting.loss.energy(setting.chains)
        torch.testing.assert_close(energies, torch.tensor(expected, dtype=torch.float64), **EXACT)
        assert float(setting.loss.energy(setting.chains[1])) == pytest.approx(expected[1], rel=1e-10)


@every()
def test_gradient(case):
    with holding(case, "gradient") as setting:
        expected = torch.stack([setting.reference.gradient(position) for position in setting.chains])
        torch.testing.assert_close(setting.loss.gradient(setting.chains), expected, **EXACT)
        torch.testing.assert_close(setting.loss.gradient(setting.chains[1]), expected[1], **EXACT)


@every()
def test_loading_the_position_changes_nothing(case):
    setting = built(case)
    before = fingerprint(setting.module)
    copied = setting.loss.module_at(setting.position)
    assert fingerprint(setting.module) == before
    setting.loss.load(setting.position)
    weights = [flat(module.parameters()) for module in (setting.module, copied, case.build())]
    for given in weights[:2]:
        torch.testing.assert_close(given, weights[2], rtol=0, atol=0)
    if not case.training:  # else running statistics are those of the data
        assert fingerprint(setting.module) == before
    assert {id(one) for one in copied.parameters()}.isdisjoint(before["same objects"].values())


# -- single samples ---------------------------------------------------------------------------------------------------


@every()
def test_sample_gradients(case):
    with holding(case, "sample_gradients") as setting:
        if case.interacts:
            with pytest.raises(ConfigError):
                setting.loss.sample_gradients(setting.position)
            return
        expected = setting.reference.sample_gradients
        torch.testing.assert_close(setting.loss.sample_gradients(setting.position), expected, **EXACT)
        pair = setting.loss.sample_gradients(torch.stack([setting.chains[0], setting.position]))
        torch.testing.assert_close(pair[1], expected, **EXACT)


@every()
def test_fisher_trace_of_the_data(case):
    with holding(case, "fisher_trace") as setting:
        if case.interacts:
            with pytest.raises(ConfigError):
                curvature.fisher_trace(setting.loss, setting.position, labels="empirical")
            return
        expected = float(setting.reference.sample_gradients.square().sum(1).mean())
        found = curvature.fisher_trace(setting.loss, setting.position, labels="empirical")
        assert float(found.fisher_trace) == pytest.approx(expected, rel=1e-8)
        assert float(found.fisher_trace_stderr) == 0.0
        chunked = curvature.fisher_trace(setting.loss, setting.position, labels="empirical", chunk_size=4)
        assert float(chunked.fisher_trace) == pytest.approx(expected, rel=1e-8)


@every()
def test_fisher_trace_of_the_model(case):
    with holding(case, "fisher_trace") as setting:
        if case.distribution is None:
            with pytest.raises(ConfigError):
                curvature.fisher_trace(setting.loss, setting.position, labels="model")
            return
        found = curvature.fisher_trace(setting.loss, setting.position, labels="model")
        assert float(found.fisher_trace) == pytest.approx(setting.reference.model_fisher_trace, rel=1e-7)
        assert float(found.fisher_trace_stderr) == 0.0


# -- second derivatives -----------------------------------------------------------------------------------------------


@every()
def test_products(case):
    with holding(case, "hessian") as setting:
        vector = draws(setting.loss.dim, seed=7)
        found = setting.loss.hvp(setting.position, vector)
        torch.testing.assert_close(found, setting.reference.product(vector), **DIFFERENCED)


@every(SMALL)
def test_hessian_and_eigenvalues(case):
    with holding(case, "hessian") as setting:
        expected = setting.hessian
        size = float(torch.linalg.matrix_norm(expected, 2))
        found = setting.loss.hessian(setting.position)
        assert float((found - expected).abs().max()) < 2e-6 * (size + 0.1)
        spectrum = curvature.eigenvalues(setting.loss, setting.position)
        values = torch.linalg.eigvalsh(expected).numpy()
        np.testing.assert_allclose(spectrum.eigenvalue.values, values, rtol=0, atol=2e-6 * (size + 0.1))
        assert bool(spectrum.converged)
        assert float(spectrum.asymmetry) < 1e-8 * (size + 0.1)


@every(SMALL)
def test_traces(case):
    """Estimates within five of their errors, and of the error that the true Hessian implies; the exact one exact."""
    with holding(case, "hessian") as setting:
        hessian, loss, position = setting.hessian, setting.loss, setting.position
        expected, slack = float(hessian.trace()), 2e-6 * (float(hessian.norm()) + 0.1)
        found = curvature.trace(loss, position, probes=15)
        assert abs(float(found.trace) - expected) < SIGMAS * float(found.trace_stderr) + slack
        _check_density(curvature.spectral_density(loss, position, probes=4, steps=4), hessian)
        try:
            exact = curvature.trace(loss, position, method="exact")
        except ConfigError:
            return
        assert float(exact.trace) == pytest.approx(expected, rel=1e-6, abs=slack)
        assert float(exact.trace_stderr) == 0.0


def _check_density(density, hessian):
    """For signs z, z H z / dim is tr H / dim, with the variance 2 sum over i != j of H_ij^2 / dim^2."""
    dim, probes = len(hessian), density.sizes["probe"]
    first = float((density.weight * density.node).sum("ritz").mean())
    spread = float((2 * (hessian.square().sum() - hessian.diagonal().square().sum())).sqrt()) / dim
    error = spread / probes**0.5
    assert abs(first - float(hessian.trace()) / dim) < SIGMAS * error + 1e-6 * (float(hessian.norm()) + 0.1)


# -- dynamics ---------------------------------------------------------------------------------------------------------


@every()
def test_dynamics(case):
    """Without noise three steps are three gradient steps; minibatches of an epoch average to the whole."""
    with holding(case, "dynamics") as setting:
        loss, reference = setting.loss, setting.reference
        run = ls.simulate(loss, ls.EulerMaruyama(dt=1e-3), steps=3, seed=0)
        position = setting.position.clone()
        for _ in range(3):
            position -= 1e-3 * reference.gradient(position)
        np.testing.assert_allclose(run.last_position.values[0], position.numpy(), rtol=1e-9, atol=1e-11)
        noisy = ls.simulate(loss, ls.EulerMaruyama(dt=1e-3), temperature=1e-4, steps=3, chains=2, seed=0)
        moved = noisy.last_position.values - position.numpy()
        assert np.isfinite(moved).all()
        assert 0.5 < np.sqrt((moved**2).mean() / (3 * 2 * 1e-4 * 1e-3)) < 1.5


@every()
def test_minibatches(case):
    settings = dict(case.options) if case.call is None else {**case.options, "call": case.call}
    setting = built(case)
    before = fingerprint(setting.module)
    loss = NetworkLoss(
        setting.module, case.inputs, case.targets, loss=case.loss, dtype=torch.float64, batch_size=2, **settings
    )
    run = ls.simulate(loss, ls.EulerMaruyama(dt=1e-3), temperature=1e-4, steps=3, chains=2, seed=0)
    assert np.isfinite(run.last_position.values).all()
    if not case.interacts:
        position = torch.stack([setting.position, setting.chains[0]])
        keys, steps = loss.batch_keys(2, seed=5), setting.reference.samples // 2
        epoch = torch.stack([loss.batch_energy(position, step=step, keys=keys) for step in range(steps)]).mean(0)
        expected = [setting.reference.energy(one) for one in position]
        torch.testing.assert_close(epoch, torch.tensor(expected, dtype=torch.float64), **EXACT)
    assert fingerprint(setting.module) == before


@pytest.mark.slow
def test_a_residual_network_of_eleven_million_weights():
    models = pytest.importorskip("torchvision.models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = models.resnet18(num_classes=3).double().eval()
    inputs, targets = draws(2, 3, 32, 32), torch.tensor([0, 2])
    loss = NetworkLoss(module, inputs, targets, batchnorm="frozen")
    value = torch.nn.functional.cross_entropy(module(inputs), targets)
    expected = flat(torch.autograd.grad(value, list(module.parameters())))
    assert float(loss.energy(loss.position())) == pytest.approx(float(value.detach()), rel=1e-10)
    torch.testing.assert_close(loss.gradient(loss.position()), expected, rtol=1e-7, atol=1e-10)


# -- the page ---------------------------------------------------------------------------------------------------------


@cache
def _table():
    """Route and exact trace of every kind, as the page says."""
    lines = (Path(__file__).parents[2] / "docs" / "modules.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    rows = [row for row in cells if len(row) == 3 and row[2] in ("yes", "no")]
    return {name.strip(): (route, exact) for names, route, exact in rows for name in names.split(";")}


def test_the_page_lists_every_kind():
    assert set(_table()) == set(BY_NAME)


@every()
def test_the_page_is_right(case):
    setting = built(case)
    try:
        route = curvature.fisher_trace(setting.loss, setting.position, labels="empirical").attrs["route"]
    except ConfigError:
        route = "refused"
    try:
        curvature.trace(setting.loss, setting.position, method="exact")
        exact = "yes"
    except ConfigError:
        exact = "no"
    assert (route, exact) == _table()[case.name]


# -- controls ---------------------------------------------------------------------------------------------------------


def test_a_wrong_hessian_would_be_found():
    """The density's bound is no matter of form: 5 % more trace is outside it where off-diagonals are small."""
    hessian = torch.diag(torch.linspace(1.0, 2.0, 20, dtype=torch.float64))
    density = curvature.spectral_density(1.05 * hessian.numpy(), probes=4, steps=4)
    with pytest.raises(AssertionError):
        _check_density(density, hessian)


def test_a_changed_module_would_be_found():
    module = BY_NAME["fourier, complex weights"].build()
    before = fingerprint(module)
    with torch.no_grad():
        module.modes.imag.mul_(1 + 1e-15)
    assert fingerprint(module) != before
    before = fingerprint(module)
    module.read.eval()
    assert fingerprint(module) != before
