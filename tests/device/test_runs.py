"""Runs on a device are the runs on the CPU to rounding, and a captured step is the single step bit for bit."""

import gc
import itertools
import warnings
import weakref

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.engine import batched, repeated
from landscape.errors import ConfigError
from landscape.integrators.step_context import StepContext
from landscape.potentials import Expression, Function, architectures
from landscape.potentials.base import check_device
from tests.cases import INTEGRATORS
from tests.device.pretended import PretendedGPU

START = [0.7, -0.4]
LATER = {  # of float32: the device's logarithm and cosine round in their own way
    "rtol": 0.0,
    "atol": 3e-7,
}


def toy():
    return Expression("(1 + y**2)*x**2/2 + y**2/2", ["x", "y"], bounds={"y": (-3.0, 3.0)})


def run(rule, potential=None, **settings):
    """A run that is long enough to be captured, and moves."""
    settings = {"chains": 4, "steps": 30, "temperature": 0.1 if rule.thermal else 0.0, "start": START} | settings
    found = ls.simulate(potential or toy(), rule, backend="batched", seed=3, **settings)
    assert float(abs(found.position[:, -1] - np.array(settings["start"])).max()) > 1e-3
    return found


def on_device(rule, potential=None, *, device="cuda", single=False, **settings):
    """The run on a pretended device, and what was counted."""
    with PretendedGPU(devices=2) as gpu, pytest.MonkeyPatch.context() as patch:
        if single:
            patch.setattr(batched, "repeats", lambda plan: False)
        return run(rule, potential, device=device, **settings), gpu


def same_bits(one, other):
    return one.position.values.tobytes() == other.position.values.tobytes()


CAPTURED = [name for name in INTEGRATORS if "MALA" not in name and "HMC" not in name and "preconditioned" not in name]


@pytest.mark.always(each=True)
@pytest.mark.parametrize("name", INTEGRATORS)
def test_every_integrator(name):
    rule = INTEGRATORS[name](0.01)
    captured, gpu = on_device(rule)
    single, other = on_device(rule, single=True)
    assert gpu.counts["capture"] == rule.capturable * rule.thermal_noise.capturable
    assert gpu.counts["replay"] >= 10 * gpu.counts["capture"]
    assert other.counts["capture"] == 0
    assert same_bits(captured, single)
    np.testing.assert_allclose(captured.position, run(rule).position, **LATER)


def test_a_rule_that_starts_otherwise_than_it_goes_on(monkeypatch):
    """Control: a step captured as if it were the first repeats half kicks for ever."""
    rule = ls.BAOAB(dt=0.05, friction=0.1)
    here = run(rule)
    captured, gpu = on_device(rule)
    np.testing.assert_allclose(captured.position, here.position, **LATER)
    assert gpu.counts["capture"] == 1
    monkeypatch.setattr(StepContext, "first", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong, _ = on_device(rule)
    assert float(abs(wrong.position - here.position).max()) > 1e-3


def test_walls_keep_what_is_pending():
    """Leimkuhler-Matthews beside a reflecting wall."""
    rule, wall = ls.LeimkuhlerMatthews(dt=0.05), ls.Reflect({"x": (0.0, 1.0)})
    captured, gpu = on_device(rule, constraint=wall)
    assert gpu.counts["capture"] == 1
    np.testing.assert_allclose(captured.position, run(rule, constraint=wall).position, **LATER)


def test_the_second_device():
    rule = ls.EulerMaruyama(dt=0.01)
    there, gpu = on_device(rule, device="cuda:1")
    assert (gpu.counts["capture"], gpu.counts["empty graph"]) == (1, 0)
    np.testing.assert_allclose(there.position, run(rule).position, **LATER)
    assert same_bits(there, on_device(rule)[0])


def counting():
    """An energy with a number of Python that changes from call to call."""
    calls = itertools.count()
    return Function(lambda x: (1 + next(calls) % 2) * (x**2).sum(-1), 2)


REFUSED = {
    "a branch on a value": (
        lambda: Function(lambda x: (x**2).sum(-1) if (x > -9).all() else x.sum(-1), 2),
        "capturing",
    ),
    "a copy from the host": (
        lambda: Function(lambda x: (x**2 * torch.ones(2, dtype=x.dtype).to(x.device)).sum(-1), 2),
        "capturing",
    ),
    "state of Python": (counting, "bit for bit"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_captured_goes_on_in_single_steps(what):
    make, words = REFUSED[what]
    rule = ls.SGD(lr=0.01)
    with pytest.warns(UserWarning, match=words):
        there, gpu = on_device(rule, make())
    assert gpu.counts["replay"] < 20
    if what != "state of Python":
        np.testing.assert_allclose(there.position, run(rule, make()).position, rtol=1e-12)


def test_a_rule_that_reads_the_number_of_its_step(monkeypatch):
    """It may do something else in the hundredth, which no trial of two steps sees."""

    def kick(rule, position, memory, at):
        return position - (at.dt if at.step % 7 else 2 * at.dt) * at.gradient(position)

    monkeypatch.setattr(ls.SGD, "step", kick)
    monkeypatch.setattr(repeated, "speaks_for", lambda *names: True)
    with pytest.warns(UserWarning, match="reads the number of its step"):
        there, gpu = on_device(ls.SGD(lr=0.01))
    assert gpu.counts["capture"] == 0
    np.testing.assert_allclose(there.position, run(ls.SGD(lr=0.01)).position, rtol=1e-12)


def test_short_pieces_are_not_captured():
    _, gpu = on_device(ls.EulerMaruyama(dt=0.01), steps=repeated.LEAST_STEPS)
    assert gpu.counts["capture"] == 0


def test_a_graph_goes_with_its_engine(monkeypatch):
    kept = []
    capture = repeated.RepeatedStep._capture

    def watched(step):
        kept.append(weakref.ref(step))
        return capture(step)

    monkeypatch.setattr(repeated.RepeatedStep, "_capture", watched)
    gc.collect()
    gc.disable()
    try:
        on_device(ls.EulerMaruyama(dt=0.01))
        assert [one() for one in kept] == [None]
    finally:
        gc.enable()


def test_devices_by_name():
    """One device has one name; one that is not there is refused with those that are."""
    with PretendedGPU(devices=2):
        module = architectures.mlp((3, 2)).to("cuda")
        inputs, targets = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
        assert ls.potentials.NetworkLoss(module, inputs.to("cuda"), targets.to("cuda"), device="cuda").device.index == 0
        assert str(check_device("cuda")) == "cuda:0"
        with pytest.raises(ConfigError, match=r"'cuda:7'.*cuda:0 to cuda:1"):
            ls.simulate(toy(), ls.EulerMaruyama(dt=0.1), steps=1, device="cuda:7")
