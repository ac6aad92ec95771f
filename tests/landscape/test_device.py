"""What a GPU needs of the loop over steps, shown on the CPU: nothing comes back to the host inside a chunk."""

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import landscape as ls
from landscape import random
from landscape.boundaries import bridges
from landscape.engine.batched import BatchedEngine
from landscape.engine.crossings import Crossings
from landscape.engine.prepare import prepare
from landscape.noise import base
from landscape.potentials import Expression, Function, NetworkLoss, architectures
from tests.cases import INTEGRATORS

TO_HOST = ("numpy", "tolist", "item", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__")
SYNCHRONISING = ("local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal")
HOST_RANDOM = ("normal", "rand", "bernoulli", "uniform", "dropout", "multinomial")


class MovedError(AssertionError):
    """Something would have moved to the host."""


class NoMethods(TorchFunctionMode):
    """Fails on methods of tensors that give Python or numpy values."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in TO_HOST:
            raise MovedError(name)
        return function(*args, **(kwargs or {}))


class NoOperations(TorchDispatchMode):
    """Fails on operations whose result the host waits for, and on the generator of the host."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__.strip("_")
        if name in SYNCHRONISING or name.startswith(HOST_RANDOM):
            raise MovedError(name)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def on_the_device(monkeypatch):
    """Random numbers as a device makes them, not as the compiled loops of the CPU do."""

    def normals(seed, chains, step, dim, precision):
        return random.normals(seed, chains, step, dim, precision=precision)

    for module in ("thermal", "covariance", "colored", "hessian"):
        monkeypatch.setattr(f"landscape.noise.{module}.standard_normals", normals)
    monkeypatch.setattr(random, "_sqrt", torch.sqrt)
    monkeypatch.setattr(Crossings, "_replayed", True)
    monkeypatch.setattr(bridges, "_on_host", lambda tensor: False)
    assert base.standard_normals is not normals


def engine_for(potential, rule, **settings):
    temperature = 0.1 if rule.thermal else 0.0
    plan, state, _ = prepare(potential, rule, steps=100, temperature=temperature, **settings)
    return BatchedEngine(plan, state)


def watched(engine, steps=3):
    engine.advance(2)  # what is made once: settings, keys of minibatches
    with NoMethods(), NoOperations():
        engine.advance(steps)


def toy():
    return Expression("(1 + y**2)*x**2/2 + y**2/2", ["x", "y"], bounds={"y": (-3.0, 3.0)})


def network(kind, **settings):
    torch.manual_seed(0)
    if kind == "mlp":
        module, inputs = architectures.mlp((4, 8, 3)), torch.randn(24, 4)
    elif kind == "gelu":
        module, inputs = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)), torch.randn(24, 4)
    else:
        module, inputs = architectures.resnet_cifar(8, width=4, norm="group"), torch.randn(24, 3, 8, 8)
    return NetworkLoss(module, inputs, torch.randint(0, 3, (24,)), **settings)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_toys_stay_on_the_device(name, on_the_device):
    watched(engine_for(toy(), INTEGRATORS[name](0.01), chains=5))


@pytest.mark.parametrize("rule", [ls.EulerMaruyama(0.01), ls.SGD(0.01, momentum=0.9), ls.MALA(0.01), ls.Adam(0.01)])
def test_functions_stay_on_the_device(rule, on_the_device):
    bowl = Function(lambda x: (x**2).sum(-1), 3)
    watched(engine_for(bowl, rule, chains=4))


@pytest.mark.parametrize("noise", [ls.CovarianceNoise([[1.0, 0.2], [0.2, 1.0]]), ls.HessianNoise(), ls.TwoPointNoise()])
def test_noises_stay_on_the_device(noise, on_the_device):
    watched(engine_for(toy(), ls.EulerMaruyama(0.01, noise), chains=4))


def test_schedules_and_absorbing_walls_stay_on_the_device(on_the_device):
    rule = ls.EulerMaruyama(ls.ramp(0.01, 0.02, 1.0))
    engine = engine_for(toy(), rule, chains=4, constraint=ls.Absorb({"x": (-1.0, 1.0)}))
    engine.advance(2)
    rows = engine._rows(3)  # the settings of a piece go to the device before its first step
    with NoMethods(), NoOperations(), torch.no_grad():
        for k in range(3):
            engine._step(rows, k)


@pytest.mark.parametrize("kind", ["mlp", "gelu", "resnet"])
@pytest.mark.parametrize("settings", [{}, {"batch_size": 8}, {"batch_size": 8, "sampling": "replacement"}], ids=str)
@pytest.mark.parametrize("chains", [1, 3])
def test_networks_stay_on_the_device(kind, settings, chains, on_the_device):
    loss = network(kind, **settings)
    watched(engine_for(loss, ls.EulerMaruyama(0.01), chains=chains))
    watched(engine_for(loss, ls.SGD(0.01, momentum=0.9), chains=chains))


@pytest.mark.parametrize("kind", ["mlp", "gelu", "resnet"])
def test_curvature_products_stay_on_the_device(kind):
    loss = network(kind)
    operator = ls.probes.curvature.HessianOperator(loss, loss.position(), dtype=torch.float32)
    vector = torch.randn(loss.dim)
    operator @ vector
    with NoMethods(), NoOperations():
        operator @ vector


def test_the_watch_sees_what_it_is_for(on_the_device):
    """Controls: an observable on the host, a branch on a value, a host's random number."""
    offences = {
        "item": lambda x: x.sum(-1) * float(x.detach().sum()),
        "branch": lambda x: (x**2).sum(-1) if bool((x > -100).all()) else x.sum(-1),
        "numpy": lambda x: (x**2).sum(-1) + 0 * torch.from_numpy(x.detach().numpy()).sum(-1),
        "random": lambda x: ((x + torch.randn_like(x)) ** 2).sum(-1),
    }
    for offence in offences.values():
        begun = []  # a function is tried when it is made: there it behaves
        energy = lambda x, offence=offence, begun=begun: offence(x) if begun else (x**2).sum(-1)  # noqa: E731
        engine = engine_for(Function(energy, 2), ls.EulerMaruyama(0.01), chains=3)
        begun.append(True)
        with pytest.raises(MovedError):
            watched(engine)


REPEATED = [name for name in INTEGRATORS if "MALA" not in name and "HMC" not in name]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, this machine has none")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_run_on_the_gpu_is_the_run_on_the_cpu(name):
    rule = INTEGRATORS[name](0.01)
    settings = {"chains": 8, "steps": 50, "temperature": 0.1 if rule.thermal else 0.0, "backend": "batched", "seed": 3}
    settings["start"] = [0.7, -0.4]
    here, there = (ls.simulate(toy(), rule, device=device, **settings) for device in ("cpu", "cuda"))
    torch.testing.assert_close(
        torch.from_numpy(there.position.values), torch.from_numpy(here.position.values), rtol=0.0, atol=1e-6
    )


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", REPEATED)
def test_captured_steps_have_the_bits_of_single_steps(name, monkeypatch):
    rule = INTEGRATORS[name](0.01)
    settings = {"chains": 8, "steps": 50, "temperature": 0.1 if rule.thermal else 0.0, "device": "cuda", "seed": 3}
    settings["start"] = [0.7, -0.4]
    captured = ls.simulate(toy(), rule, **settings)
    monkeypatch.setattr("landscape.engine.batched.repeats", lambda plan: False)
    single = ls.simulate(toy(), rule, **settings)
    assert captured.position.values.tobytes() == single.position.values.tobytes()


@pytest.mark.gpu
@needs_gpu
def test_networks_run_on_the_gpu():
    loss = network("resnet", device="cuda", batch_size=8)
    run = ls.simulate(loss, ls.SGD(0.05, momentum=0.9), steps=30)
    assert float(run.energy[0, -1]) < float(run.energy[0, 0])
