"""What the two compiled engines share: numbers for integrators, flat memory, threads over blocks of chains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from landscape.engines.base import Engine, Plan, State
from landscape.integrators.adam import Adam, AdamW
from landscape.integrators.base import Integrator
from landscape.integrators.diffusion import Diffusion
from landscape.integrators.euler_maruyama import EulerMaruyama
from landscape.integrators.leimkuhler_matthews import LeimkuhlerMatthews
from landscape.integrators.sgd import SGD
from landscape.kernels import update

__all__ = ["CompiledEngine", "scheme_of"]


def scheme_of(integrator: Integrator) -> tuple[int, list[float]] | None:
    """Number and settings of an integrator in the compiled kernels, or None if they do not have it."""
    match integrator:
        case EulerMaruyama():
            return update.EULER_MARUYAMA, []
        case LeimkuhlerMatthews():
            return update.LEIMKUHLER_MATTHEWS, []
        case Diffusion():
            return update.DIFFUSION, []
        case SGD():
            return update.SGD, [integrator.momentum, float(integrator.nesterov), integrator.weight_decay]
        case Adam() | AdamW():
            return update.ADAM, [*integrator.betas, integrator.eps, integrator.decay]
    return None


class CompiledEngine(Engine):
    """Blocks of chains, each advanced by a compiled loop that holds no lock; blocks run on threads."""

    def __init__(self, plan: Plan, state: State) -> None:
        super().__init__(plan, state)
        scheme = scheme_of(plan.integrator)
        if scheme is None:
            raise TypeError(f"no compiled form of {type(plan.integrator).__name__}")
        self.scheme, settings = scheme
        self.settings = np.array(settings + [0.0] * (4 - len(settings)), dtype=self.real)
        noise = plan.integrator.thermal_noise
        self.noise_type = np.zeros(0, np.dtype(noise.precision))
        self.refinement = noise.refinement
        half = 0.5 if self.scheme == update.LEIMKUHLER_MATTHEWS else 1.0
        self.amplitude = half * plan.amplitude
        self.threads = max(1, min(int(numba.config.NUMBA_NUM_THREADS), plan.chains))
        self._pool: ThreadPoolExecutor | None = None

    @property
    @abstractmethod
    def block_size(self) -> int:
        """Chains per block."""

    @abstractmethod
    def run_block(
        self, chains: slice, x: NDArray[Any], m: NDArray[Any], v: NDArray[Any], steps: int, every: int, out: Any
    ) -> None:
        """Advance the rows of one block in place; ``out`` = (positions, energies) of those rows."""

    @property
    def real(self) -> np.dtype[Any]:
        """Type of the state."""
        return np.dtype(str(self.plan.dtype).removeprefix("torch."))

    def advance(self, steps: int) -> None:
        """Take `steps` steps."""
        self._run(steps, steps, np.zeros((self.plan.chains, 0, self.plan.potential.dim), self.real), None)

    def advance_recording(
        self, records: int, every: int, *, position: bool, energy: bool
    ) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
        """Take ``records * every`` steps, recording inside the compiled loop."""
        chains, dim = self.plan.chains, self.plan.potential.dim
        positions = np.empty((chains, records if position else 0, dim), self.real)
        energies = np.empty((chains, records)) if energy else None
        self._run(records * every, every, positions, energies)
        return (positions if position else None), energies

    def _run(self, steps: int, every: int, positions: NDArray[Any], energies: NDArray[np.float64] | None) -> None:
        if steps == 0:
            return
        if energies is None:
            energies = np.zeros((self.plan.chains, 0))
        x = self.state.position.numpy()
        memory = [value.numpy() for value in self.state.memory.values()]
        m, v = (memory + [np.zeros_like(x)] * 2)[:2]

        def block(chains: slice) -> None:
            part = (positions[chains], energies[chains])
            self.run_block(chains, x[chains], m[chains], v[chains], steps, every, part)

        self._map(block)
        self.state.step += steps

    def _map(self, function: Callable[[slice], None]) -> None:
        blocks = list(self._blocks())
        if self.threads == 1 or len(blocks) == 1:
            for chains in blocks:
                function(chains)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="landscape")
        list(self._pool.map(function, blocks))

    def _blocks(self) -> Iterator[slice]:
        chains = self.plan.chains
        count = -(-chains // self.block_size)
        if chains >= self.threads * 32:  # enough for every thread to have a block that is worth its while
            count = -(-count // self.threads) * self.threads
        edges = np.linspace(0, chains, count + 1).astype(int)
        return (slice(int(a), int(b)) for a, b in pairwise(edges) if b > a)

    def close(self) -> None:
        """Release the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
