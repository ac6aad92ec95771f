"""Speed as ratios to peers measured in the same process, on one core. Run with `make bench`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import potentials

REPEATS = 5


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rates(units: float, **functions: Callable[[], object]) -> dict[str, float]:
    """Units per second of each function: best of several, taken in turns so that a slow spell hits all alike."""
    best = dict.fromkeys(functions, np.inf)
    for function in functions.values():
        function()
    for _ in range(REPEATS):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: units / seconds for name, seconds in best.items()}


def report(title: str, unit: str, found: dict[str, float], peer: str) -> None:
    print(f"\n{title}")
    for name, rate in found.items():
        print(f"  {name:<28} {rate:10.3g} {unit}   {rate / found[peer]:7.2f} x {peer}")


# -- toy: V = 1/2 (1 + y^2) x^2, dt 1e-3, T 0.1 -----------------------------------------------------------------------


def numpy_toy(chains: int, steps: int) -> None:
    rng = np.random.default_rng(0)
    x, y = np.zeros(chains), np.zeros(chains)
    dt, amplitude = 1e-3, np.sqrt(2 * 0.1 * 1e-3)
    for _ in range(steps):
        gx, gy = (1 + y * y) * x, y * x * x
        x = x - dt * gx + amplitude * rng.standard_normal(chains)
        y = y - dt * gy + amplitude * rng.standard_normal(chains)


def landscape_toy(chains: int, steps: int, backend: str) -> None:
    valley = potentials.Expression("(1 + y**2)*x**2/2", ["x", "y"])
    ls.simulate(
        valley, ls.EulerMaruyama(dt=1e-3), temperature=0.1, chains=chains, steps=steps, backend=backend,
        record=ls.Record(every=steps, observables=["energy"]),
    )  # fmt: skip


def test_toy_compiled_against_numpy():
    chains, steps = 1000, 20_000
    found = rates(
        chains * steps,
        numpy=lambda: numpy_toy(chains, steps // 10) or numpy_toy(chains, steps - steps // 10),
        compiled=lambda: landscape_toy(chains, steps, "compiled"),
    )
    report("toy, 1000 chains, float64 state", "particle-steps/s", found, "numpy")
    assert found["compiled"] > 2.5 * found["numpy"]


def test_toy_single_chain():
    steps = 200_000
    found = rates(steps, compiled=lambda: landscape_toy(1, steps, "compiled"))
    numpy_rate = rates(2000, numpy=lambda: numpy_toy(1, 2000))
    report("toy, 1 chain, float64 state", "particle-steps/s", found | numpy_rate, "numpy")


# -- network: MLP 10-20-20-10-3, 300 points, full batch --------------------------------------------------------------


def network(dtype: torch.dtype) -> potentials.NetworkLoss:
    module = potentials.architectures.mlp((10, 20, 20, 10, 3))
    return potentials.NetworkLoss(module, potentials.datasets.random_labels(), dtype=dtype)


def eager_loop(loss: potentials.NetworkLoss, steps: int) -> None:
    """What one writes by hand in torch, chain by chain."""
    module = loss.module
    parameters = [p.detach().clone().requires_grad_(True) for p in module.parameters()]
    names = [name for name, _ in module.named_parameters()]
    dt, amplitude = 1e-2, (2 * 1e-5 * 1e-2) ** 0.5
    for _ in range(steps):
        outputs = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (loss.inputs,))
        value = torch.nn.functional.cross_entropy(outputs, loss.targets)
        gradients = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=-dt).add_(torch.randn_like(parameter), alpha=amplitude)


def vmap_loop(loss: potentials.NetworkLoss, chains: int, steps: int) -> None:
    module, layout = loss.module, loss.layout

    def energy(vector: torch.Tensor) -> torch.Tensor:
        outputs = torch.func.functional_call(module, layout.unflatten(vector), (loss.inputs,))
        return torch.nn.functional.cross_entropy(outputs, loss.targets)

    gradient = torch.func.vmap(torch.func.grad(energy))
    position = loss.position().expand(chains, -1).clone()
    dt, amplitude = 1e-2, (2 * 1e-5 * 1e-2) ** 0.5
    for _ in range(steps):
        position = position - dt * gradient(position) + amplitude * torch.randn_like(position)


def landscape_network(loss: potentials.NetworkLoss, chains: int, steps: int, backend: str) -> None:
    ls.simulate(
        loss, ls.EulerMaruyama(dt=1e-2), temperature=1e-5, chains=chains, steps=steps, backend=backend,
        record=ls.Record(every=steps),
    )  # fmt: skip


@pytest.mark.parametrize("chains", [1, 16, 64])
def test_network_against_eager_torch(chains):
    loss = network(torch.float32)
    double = network(torch.float64)
    eager_steps, steps = 300, max(20, 640 // chains)
    found = rates(eager_steps, **{"eager torch loop": lambda: eager_loop(loss, eager_steps)})
    found |= rates(
        chains * steps,
        **{
            "torch.func vmap(grad)": lambda: vmap_loop(loss, chains, steps),
            "batched": lambda: landscape_network(loss, chains, steps, "batched"),
            "compiled float32": lambda: landscape_network(loss, chains, 10 * steps, "compiled"),
            "compiled float64": lambda: landscape_network(double, chains, 10 * steps, "compiled"),
        },
    )
    for name in ("compiled float32", "compiled float64"):
        found[name] *= 10
    report(f"MLP 10-20-20-10-3, {chains} chains", "chain-steps/s", found, "eager torch loop")
    if chains == 64:
        assert found["batched"] > 2.5 * found["eager torch loop"]
