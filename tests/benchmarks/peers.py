"""The same tasks as others do them: numpy, torch by hand, torch.func; JAX, BlackJAX, torchsde, diffrax if installed.

Every function returns a callable that runs the whole task once; making it compiles what there is to compile.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

DT, TEMPERATURE = 1e-3, 0.1  # of the toy V = 1/2 (1 + y^2) x^2
RATE, HEAT = 1e-2, 1e-5  # of the network

Task = Callable[[], object]


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


# -- the toy ----------------------------------------------------------------------------------------------------------


def numpy_toy(chains: int, steps: int) -> Task:
    amplitude = np.sqrt(2 * TEMPERATURE * DT)

    def run() -> object:
        rng = np.random.default_rng(0)
        x, y = np.zeros(chains), np.zeros(chains)
        for _ in range(steps):
            gx, gy = (1 + y * y) * x, y * x * x
            x = x - DT * gx + amplitude * rng.standard_normal(chains)
            y = y - DT * gy + amplitude * rng.standard_normal(chains)
        return x

    return run


def jax_toy(chains: int, steps: int, dtype: str) -> Task:
    """One jitted loop, state and noise of that dtype."""
    import jax
    from jax import numpy as jnp

    amplitude = (2 * TEMPERATURE * DT) ** 0.5
    gradient = jax.grad(lambda z: 0.5 * ((1 + z[1] ** 2) * z[0] ** 2).sum())

    @jax.jit
    def whole(z: object, key: object) -> object:
        def step(n: object, state: tuple[object, object]) -> tuple[object, object]:
            z, key = state
            key, use = jax.random.split(key)
            return z - DT * gradient(z) + amplitude * jax.random.normal(use, z.shape, dtype), key

        return jax.lax.fori_loop(0, steps, step, (z, key))[0]

    def run() -> object:
        jax.config.update("jax_enable_x64", dtype == "float64")
        return whole(jnp.zeros((2, chains), dtype), jax.random.PRNGKey(0)).block_until_ready()

    return run


def diffrax_toy(chains: int, steps: int) -> Task:
    import diffrax
    import jax
    from jax import numpy as jnp

    amplitude = (2 * TEMPERATURE) ** 0.5

    def force(t: object, z: object, _: object) -> object:
        return -jnp.stack([(1 + z[1] ** 2) * z[0], z[1] * z[0] ** 2])

    @jax.jit
    def whole(key: object) -> object:
        span = steps * DT
        path = diffrax.UnsafeBrownianPath((2, chains), key)
        noise = diffrax.ControlTerm(lambda t, z, _: lineax_diagonal(amplitude, z), path)
        terms = diffrax.MultiTerm(diffrax.ODETerm(force), noise)
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, span, DT, jnp.zeros((2, chains), "float32"), max_steps=steps + 2,
            adjoint=diffrax.DirectAdjoint(), saveat=diffrax.SaveAt(t1=True),
        ).ys  # fmt: skip

    def lineax_diagonal(scale: float, z: object) -> object:
        import lineax

        return lineax.DiagonalLinearOperator(jnp.full_like(z, scale))

    def run() -> object:
        jax.config.update("jax_enable_x64", False)
        return whole(jax.random.PRNGKey(0)).block_until_ready()

    return run


def torchsde_toy(chains: int, steps: int) -> Task:
    import torchsde

    class Valley(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            x, y = z.unbind(-1)
            return -torch.stack([(1 + y**2) * x, y * x**2], dim=-1)

        def g(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return torch.full_like(z, (2 * TEMPERATURE) ** 0.5)

    def run() -> object:
        times = torch.tensor([0.0, steps * DT])
        with torch.no_grad():
            return torchsde.sdeint(Valley(), torch.zeros(chains, 2), times, dt=DT, method="euler")

    return run


# -- the network: 10-20-20-10-3, 300 points, full batch ---------------------------------------------------------------


def eager_network(module: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor, steps: int) -> Task:
    """What one writes by hand in torch for one chain."""
    amplitude = (2 * HEAT * RATE) ** 0.5

    def run() -> object:
        parameters = [p.detach().clone().requires_grad_(True) for p in module.parameters()]
        names = [name for name, _ in module.named_parameters()]
        for _ in range(steps):
            outputs = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (inputs,))
            value = torch.nn.functional.cross_entropy(outputs, labels)
            gradients = torch.autograd.grad(value, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.add_(gradient, alpha=-RATE).add_(torch.randn_like(parameter), alpha=amplitude)
        return parameters

    return run


def vmap_gradient(loss: object) -> Callable[[torch.Tensor], torch.Tensor]:
    """torch.func: vmap(grad(functional_call)) on flat vectors."""
    module, layout = loss.module, loss.layout

    def energy(vector: torch.Tensor) -> torch.Tensor:
        outputs = torch.func.functional_call(module, layout.unflatten(vector), (loss.inputs,))
        return torch.nn.functional.cross_entropy(outputs, loss.targets)

    return torch.func.vmap(torch.func.grad(energy))


def vmap_network(loss: object, chains: int, steps: int) -> Task:
    """Langevin dynamics with that gradient."""
    gradient, amplitude = vmap_gradient(loss), (2 * HEAT * RATE) ** 0.5

    def run() -> object:
        position = loss.position().expand(chains, -1).clone()
        for _ in range(steps):
            position = position - RATE * gradient(position) + amplitude * torch.randn_like(position)
        return position

    return run


def blackjax_network(inputs: np.ndarray, labels: np.ndarray, sizes: tuple[int, ...], chains: int, steps: int) -> Task:
    """BlackJAX's SGLD on all data, the loop and the chains under one jit."""
    import blackjax
    import jax
    from jax import numpy as jnp

    x, y = jnp.asarray(inputs), jnp.asarray(labels)
    shapes = [((a, b), (b,)) for a, b in pairwise(sizes)]

    def energy(parameters: object) -> object:
        h = x
        for i, (w, b) in enumerate(parameters):
            h = h @ w + b
            h = jax.nn.relu(h) if i < len(shapes) - 1 else h
        return -jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1).mean()

    sampler = blackjax.sgld(lambda parameters, batch: jax.grad(lambda p: -energy(p))(parameters))

    @jax.jit
    @jax.vmap
    def whole(key: object) -> object:
        keys = jax.random.split(key, 2 * len(shapes) + 1)
        start = [
            (jax.random.normal(keys[2 * i], w, "float32") * 0.3, jnp.zeros(b, "float32"))
            for i, (w, b) in enumerate(shapes)
        ]

        def step(n: object, state: tuple[object, object]) -> tuple[object, object]:
            position, key = state
            key, use = jax.random.split(key)
            return sampler.step(use, position, None, RATE, HEAT), key

        return jax.lax.fori_loop(0, steps, step, (start, keys[-1]))[0]

    def run() -> object:
        jax.config.update("jax_enable_x64", False)
        return jax.block_until_ready(whole(jax.random.split(jax.random.PRNGKey(0), chains)))

    return run


# -- one large network ------------------------------------------------------------------------------------------------


def eager_sgd(module: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor, batch: int, steps: int) -> Task:
    """The usual loop: module, cross-entropy, backward, torch.optim.SGD."""

    def run() -> object:
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
        for step in range(steps):
            first = step * batch % (len(inputs) - batch + 1)
            optimizer.zero_grad()
            outputs = module(inputs[first : first + batch])
            torch.nn.functional.cross_entropy(outputs, labels[first : first + batch]).backward()
            optimizer.step()
        return module

    return run
