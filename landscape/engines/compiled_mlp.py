"""Plain multilayer perceptrons on the CPU: one compiled loop per chain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.engines.base import Engine, Plan, State
from landscape.engines.compiled import CompiledEngine
from landscape.kernels import mlp
from landscape.potentials.network import NetworkLoss

__all__ = ["CompiledMLP"]

INDEX_BYTES = 1 << 25  # of minibatch indices handed to the compiled loop at once


class CompiledMLP(CompiledEngine):
    """Chains of a `NetworkLoss` whose module is a plain MLP, in float32 or float64."""

    def __init__(self, plan: Plan, state: State) -> None:
        loss = plan.potential
        if not isinstance(loss, NetworkLoss) or loss.plain_mlp is None:
            raise TypeError("this engine runs plain multilayer perceptrons")
        super().__init__(plan, state)
        self.loss = loss
        kind = mlp.CROSS_ENTROPY if loss.plain_mlp.loss == "cross_entropy" else mlp.SQUARED_ERROR
        activation = mlp.RELU if loss.plain_mlp.activation == "relu" else mlp.TANH
        inputs = np.ascontiguousarray(loss.inputs.flatten(1).numpy().T)
        labels, values = np.zeros(0, np.int64), np.zeros((0, loss.samples), self.real)
        if kind == mlp.CROSS_ENTROPY:
            labels = loss.targets.numpy().astype(np.int64)
        else:
            values = np.ascontiguousarray(loss.targets.reshape(loss.samples, -1).numpy().T)
        sizes = np.array(loss.plain_mlp.sizes)
        self.network = (sizes, activation, kind, loss.weight_decay, inputs, labels, values)
        self.indices: NDArray[np.int64] = np.zeros((1, 0, 0), np.int64)

    @property
    def block_size(self) -> int:
        """One chain after the other; blocks only spread them over threads."""
        return max(1, -(-self.plan.chains // self.threads))

    def advance(self, steps: int) -> None:
        """Take `steps` steps, in pieces over which the minibatches have one size and one origin."""
        if self.loss.sampler is None:
            super().advance(steps)
            return
        end = self.state.step + steps
        while self.state.step < end:
            piece = self._load_batches(end)
            super().advance(piece)

    def advance_recording(
        self, records: int, every: int, *, position: bool, energy: bool
    ) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
        """Record inside the compiled loop for full-batch dynamics, between pieces otherwise."""
        if self.loss.sampler is None:
            return super().advance_recording(records, every, position=position, energy=energy)
        return Engine.advance_recording(self, records, every, position=position, energy=energy)

    def _load_batches(self, end: int) -> int:
        sampler, start = self.loss.sampler, self.state.step
        if sampler is None:
            return end - start
        keys = self.plan.keys_at(start)
        device = self.plan.device
        rows = [sampler.indices(keys, start, device)]
        size = rows[0].shape[1]
        most = max(1, INDEX_BYTES // (8 * rows[0].numel()))
        stop = min(end, start + most, self.plan.next_change(start) or end)
        for step in range(start + 1, stop):
            row = sampler.indices(keys, step, device)
            if row.shape[1] != size:
                break
            rows.append(row)
        self.indices = np.ascontiguousarray(np.stack([row.numpy() for row in rows], axis=1))
        return len(rows)

    def run_block(
        self, chains: slice, x: NDArray[Any], m: NDArray[Any], v: NDArray[Any], steps: int, every: int, out: Any
    ) -> None:
        """Advance one block."""
        plan = self.plan
        indices = self.indices[chains] if len(self.indices) > 1 else self.indices
        mlp.run_mlp(
            *self.network, indices, x, m, v, self.noise_type, np.uint64(plan.seed), self.refinement, chains.start,
            self.state.step, steps, self.scheme, self.settings, plan.step_size[chains], self.amplitude[chains], every,
            *out,
        )  # fmt: skip

    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain on all data."""
        energies: NDArray[np.float64] = mlp.mlp_energies(*self.network, self.positions())
        return energies
