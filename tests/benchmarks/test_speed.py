"""Speed as ratios to peers measured in the same process, on one core. Run with `make bench`.

A floor that is missed fails; figures move by 15 to 30 % from run to run, so floors on ratios are the ones that count.
"""

from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape import potentials
from landscape.engine import driver
from tests.benchmarks import peers

REPEATS = 5


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rates(tasks: dict[str, tuple[float, Callable[[], object]]]) -> dict[str, float]:
    """Units per second of each (units, task): best of several, taken in turns so that a slow spell hits all alike."""
    best = dict.fromkeys(tasks, np.inf)
    for _, task in tasks.values():
        task()
    for _ in range(REPEATS):
        for name, (_, task) in tasks.items():
            began = time.perf_counter()
            task()
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: units / best[name] for name, (units, _) in tasks.items()}


def report(title: str, unit: str, found: dict[str, float], peer: str) -> None:
    print(f"\n{title}")
    for name, rate in found.items():
        print(f"  {name:<28} {rate:10.3g} {unit}   {rate / found[peer]:7.2f} x {peer}")


# -- toy: V = 1/2 (1 + y^2) x^2, dt 1e-3, T 0.1 -----------------------------------------------------------------------


VALLEY = "(1 + y**2)*x**2/2"


def toy(chains: int, steps: int, *, formula: str = VALLEY, every: int | None = None, **settings) -> Callable:
    potential = potentials.Expression(formula, ["x", "y"])
    record = ls.Record(every=every or steps, observables=["position"] if every else ["energy"])
    rule = ls.EulerMaruyama(dt=peers.DT, noise=settings.pop("noise", None))
    return lambda: ls.simulate(
        potential, rule, temperature=peers.TEMPERATURE, chains=chains, steps=steps, record=record, **settings
    )


def test_toy_of_many_chains():
    chains, steps = 1000, 40_000
    tasks = {"numpy": (chains * 2000, peers.numpy_toy(chains, 2000))}
    if peers.installed("jax"):
        tasks["JAX, float64"] = (chains * 2000, peers.jax_toy(chains, 2000, "float64"))
        tasks["JAX, float32"] = (chains * 2000, peers.jax_toy(chains, 2000, "float32"))
    if peers.installed("diffrax", "lineax"):
        tasks["diffrax, float32"] = (chains * 2000, peers.diffrax_toy(chains, 2000))
    if peers.installed("torchsde"):
        tasks["torchsde, float32"] = (chains * 50, peers.torchsde_toy(chains, 50))
    tasks["landscape, batched"] = (chains * 200, toy(chains, 200, backend="batched"))
    tasks["landscape, float64 noise"] = (chains * steps, toy(chains, steps, noise=ls.ThermalNoise("float64")))
    tasks["landscape, two-point noise"] = (chains * steps, toy(chains, steps, noise=ls.TwoPointNoise()))
    tasks["landscape"] = (chains * steps, toy(chains, steps))
    found = rates(tasks)
    report("toy, 1000 chains, float64 state", "particle-steps/s", found, "numpy")
    assert found["landscape"] > 1.5e8
    assert found["landscape"] > 8 * found["numpy"]
    if "JAX, float64" in found:
        assert found["landscape"] > 8 * found["JAX, float64"]


def test_toy_of_one_chain():
    steps = 1_000_000
    tasks = {"numpy": (2000, peers.numpy_toy(1, 2000))}
    if peers.installed("jax"):
        tasks["JAX, float64"] = (50_000, peers.jax_toy(1, 50_000, "float64"))
    tasks["landscape"] = (steps, toy(1, steps))
    found = rates(tasks)
    report("toy, 1 chain, float64 state", "particle-steps/s", found, "numpy")
    assert found["landscape"] > 2e7


@pytest.mark.parametrize(
    "rule", [ls.EulerMaruyama(0.01), ls.BAOAB(0.05, 1.0), ls.MALA(0.05)], ids=lambda r: type(r).__name__
)
def test_swaps_at_every_step(rule):
    """Replica exchange of 16 ladders of eight rungs beside the same chains alone."""
    steps, ladder = 20_000, np.geomspace(0.05, 0.4, 8)
    well, record = potentials.Expression("(x**2 - 1)**2 + (y - x)**2", ["x", "y"]), ls.Record(100)

    def swapping(every: int) -> Callable:
        return lambda: ls.replica_exchange(well, rule, ladder, steps=steps, swap_every=every, ladders=16, record=record)

    def alone() -> object:
        return ls.simulate(well, rule, temperature=np.tile(ladder, 16), steps=steps, record=record)

    chain_steps = 128 * steps
    found = rates({
        "alone": (chain_steps, alone), "every tenth step": (chain_steps, swapping(10)),
        "every step": (chain_steps, swapping(1)),
    })  # fmt: skip
    report(f"swaps, {type(rule).__name__}, 128 chains", "particle-steps/s", found, "alone")
    swaps = found["alone"] / found["every step"] - 1.0  # what all swaps take over what the steps take
    assert swaps < 2.0
    assert found["every tenth step"] > 0.6 * found["alone"]


def test_two_cores(monkeypatch):
    import numba

    chains, steps = 1000, 40_000
    one = toy(chains, steps)

    def on_two() -> object:
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
        try:
            return one()
        finally:
            monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)

    found = rates({"one core": (chains * steps, one), "two cores": (chains * steps, on_two)})
    report("toy, 1000 chains", "particle-steps/s", found, "one core")
    assert found["two cores"] > 1.8 * found["one core"]


def test_other_formulas():
    chains, steps = 1000, 10_000
    formulas = {
        "valley": VALLEY,
        "double well": "(x**2 - 1)**2 + y**2/2 + x*y/3",
        "quartic": "x**4/4 + y**4/4 - x*y",
        "exponential wall": "exp(x) + x**2/2 + y**2/2",
        "channel": "(1 + 9*exp(-y**2/0.18))*x**2/2 + y**2/2",
    }
    found = rates({name: (chains * steps, toy(chains, steps, formula=text)) for name, text in formulas.items()})
    report("formulas, 1000 chains", "particle-steps/s", found, "valley")
    assert min(found.values()) > 0.5 * found["valley"]


def test_looking_for_what_is_not_finite(monkeypatch):
    run = toy(1000, 40_000, every=100)

    def unguarded():
        with monkeypatch.context() as patch:
            patch.setattr(driver.Driver, "_check", lambda *_: None)
            run()

    found = rates({"unguarded": (4e7, unguarded), "guarded": (4e7, run)})
    report("the search for NaN and infinity, positions every 100th step", "particle-steps/s", found, "unguarded")
    assert found["guarded"] > 0.98 * found["unguarded"]


def test_writing_to_a_folder(tmp_path):
    memory = toy(1000, 40_000, every=100)
    numbers = itertools.count()

    def folder():
        toy(1000, 40_000, every=100, output=tmp_path / str(next(numbers)))()

    found = rates({"in memory": (4e7, memory), "to a folder": (4e7, folder)})
    report("positions every 100th step", "particle-steps/s", found, "in memory")


def test_recording_every_hundredth_step():
    chains, steps = 1000, 20_000
    found = rates(
        {
            "at the end only": (chains * steps, toy(chains, steps)),
            "every 100th step": (chains * steps, toy(chains, steps, every=100)),
        }
    )
    report("recording", "particle-steps/s", found, "at the end only")
    assert found["every 100th step"] > 0.9 * found["at the end only"]


FIRST_RUN = f"""
import sys, time
import landscape as ls

chains = int(sys.argv[1])
valley, rule = ls.potentials.Expression("{VALLEY}", ["x", "y"]), ls.EulerMaruyama(dt=1e-3)
began = time.process_time()
ls.simulate(valley, rule, temperature=0.1, chains=chains, steps=4, backend="compiled")
print(time.process_time() - began)
"""


@pytest.mark.parametrize("chains", [1, 1000])
def test_compile_time(chains, tmp_path):
    """CPU time of a short first run in a new process: with an empty cache, less the same with what that left there."""
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))

    def seconds() -> float:
        command = [sys.executable, "-c", FIRST_RUN, str(chains)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    empty, warm = seconds(), min(seconds() for _ in range(REPEATS))
    print(f"\nfirst run of {chains} chains: {empty - warm:.1f} s of compiling, {warm:.1f} s with it cached")
    assert empty - warm < 5.0


# -- network: MLP 10-20-20-10-3, 300 points, full batch ---------------------------------------------------------------


SIZES = (10, 20, 20, 10, 3)


def network(dtype: torch.dtype) -> potentials.NetworkLoss:
    return potentials.NetworkLoss(potentials.architectures.mlp(SIZES), potentials.datasets.random_labels(), dtype=dtype)


def langevin(loss: potentials.NetworkLoss, chains: int, steps: int, backend: str = "auto") -> Callable:
    return lambda: ls.simulate(
        loss, ls.EulerMaruyama(dt=peers.RATE), temperature=peers.HEAT, chains=chains, steps=steps, backend=backend,
        record=ls.Record(every=steps),
    )  # fmt: skip


@pytest.mark.parametrize("chains", [1, 16, 64])
def test_plain_mlp(chains):
    single, double = network(torch.float32), network(torch.float64)
    steps = max(20, 640 // chains)
    eager = peers.eager_network(single.module, single.inputs, single.targets, 300)
    tasks = {
        "eager torch loop": (300, eager),
        "torch.func vmap(grad)": (chains * steps, peers.vmap_network(single, chains, steps)),
    }
    if peers.installed("jax", "blackjax"):
        arrays = single.inputs.numpy(), single.targets.numpy()
        tasks["BlackJAX sgld"] = (chains * 4 * steps, peers.blackjax_network(*arrays, SIZES, chains, 4 * steps))
    tasks |= {
        "landscape, batched": (chains * steps, langevin(single, chains, steps, "batched")),
        "landscape, float64": (chains * 10 * steps, langevin(double, chains, 10 * steps)),
        "landscape, float32": (chains * 10 * steps, langevin(single, chains, 10 * steps)),
    }
    found = rates(tasks)
    report(f"MLP 10-20-20-10-3, {chains} chains", "chain-steps/s", found, "eager torch loop")
    assert found["landscape, float32"] > 15_000
    assert found["landscape, float32"] > 10 * found["eager torch loop"]
    assert found["landscape, float64"] > 0.5 * found["landscape, float32"]


def other_networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    return {
        "SiLU": (nn.Sequential(nn.Linear(10, 20), nn.SiLU(), nn.Linear(20, 20), nn.SiLU(), nn.Linear(20, 3)), (10,)),
        "GELU, LayerNorm": (
            nn.Sequential(
                nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 20), nn.LayerNorm(20), nn.GELU(), nn.Linear(20, 3)
            ),
            (10,),
        ),
        "conv, GroupNorm": (
            nn.Sequential(
                nn.Conv2d(1, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3),
                nn.ReLU(), nn.Flatten(), nn.Linear(32, 3),
            ),
            (1, 8, 8),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", other_networks())
@pytest.mark.parametrize("chains", [2, 16, 64])
def test_other_modules(name, chains):
    module, shape = other_networks()[name]
    loss = potentials.NetworkLoss(module, torch.randn(128, *shape), torch.randint(0, 3, (128,)))
    position = loss.position().expand(chains, -1).clone()
    gradient, steps = peers.vmap_gradient(loss), max(20, 640 // chains)
    found = rates(
        {
            "torch.func vmap(grad)": (chains, lambda: gradient(position)),
            "landscape": (chains, lambda: loss.step_gradient(position, step=0)),
        }
    )
    report(f"{name}, {chains} chains, gradients", "1/s", found, "torch.func vmap(grad)")
    whole = rates(
        {
            "torch.func vmap(grad)": (chains * steps, peers.vmap_network(loss, chains, steps)),
            "landscape": (chains * steps, langevin(loss, chains, steps)),
        }
    )
    report(f"{name}, {chains} chains, whole steps with noise", "chain-steps/s", whole, "torch.func vmap(grad)")
    assert found["landscape"] > 1.1 * found["torch.func vmap(grad)"]


def test_one_large_network():
    """ResNet-20 at batch 128: a step of SGD against the usual loop."""
    torch.manual_seed(0)
    module = potentials.architectures.resnet_cifar(20, norm="group")
    inputs, labels = torch.randn(512, 3, 32, 32), torch.randint(0, 10, (512,))
    loss = potentials.NetworkLoss(module, inputs, labels, batch_size=128)
    steps, nothing = 4, ls.Record(4, [])
    found = rates(
        {
            "torch by hand": (steps, peers.eager_sgd(copy.deepcopy(module), inputs, labels, 128, steps)),
            "landscape": (steps, lambda: ls.simulate(loss, ls.SGD(lr=1e-3), steps=steps, record=nothing)),
        }
    )
    report("ResNet-20, batch 128, SGD", "steps/s", found, "torch by hand")
    assert found["landscape"] > found["torch by hand"] / 1.15


# -- start-up ---------------------------------------------------------------------------------------------------------


def test_start_up():
    def seconds(*arguments: str) -> float:
        best = np.inf
        for _ in range(REPEATS):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            best = min(best, time.perf_counter() - began)
        return best

    bare = seconds("-c", "pass")
    imported, shown = seconds("-c", "import landscape"), seconds("-m", "landscape.cli", "--help")
    print(f"\nstart-up: import {imported - bare:.2f} s, landscape --help {shown:.2f} s (python alone {bare:.2f} s)")
    assert imported - bare < 0.5
    assert shown < 1.0
