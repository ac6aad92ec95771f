"""Plain multilayer perceptrons on the CPU: one compiled loop per chain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.engine.base import Plan, Settings, State
from landscape.engine.compiled import CompiledEngine
from landscape.kernels import mlp

__all__ = ["CompiledMLP"]

INDEX_BYTES = 1 << 25  # of minibatch indices handed to the compiled loop at once


class CompiledMLP(CompiledEngine):
    """Chains of a `NetworkLoss` whose module is a plain MLP, in float32 or float64."""

    def __init__(self, plan: Plan, state: State, loss: Any) -> None:
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
        self.network, self.data = (sizes, activation, kind), (inputs, labels, values)
        self.indices: NDArray[np.int64] = np.zeros((1, 0, 0), np.int64)

    @property
    def block_size(self) -> int:
        """One chain after the other; blocks only spread them over threads."""
        return max(1, -(-self.plan.chains // self.threads))

    def piece(self, steps: int) -> int:
        """Steps over which the settings fit in memory and the minibatches have one size and one origin."""
        return self._load_batches(self.state.step + super().piece(steps))

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
        self, chains: slice, memory: dict[str, NDArray[Any]], settings: Settings, steps: int, records: Any
    ) -> None:
        """Advance one block."""
        m, v = self.rule_memory(chains)
        rows = tuple(
            np.ascontiguousarray(part[:, chains]) for part in (settings.dt, settings.amplitude, settings.temperature)
        )
        indices = self.indices[chains] if len(self.indices) > 1 else self.indices
        accepted = memory["accepted"][chains] if "accepted" in memory else np.zeros(0)
        noise = self.plan.integrator.thermal_noise
        scale = self.noise_real.dtype.type(1.0 / np.sqrt(noise.refinement))
        noise_settings = noise.refinement, scale, noise.antithetic
        facts = self.rule.stages, int(self.rule.ahead), bool(self.rule.forceless), bool(self.rule.proposes)
        mlp.loop_of(self.rule.stage, self.rule.proposes)(
            self.network, self.loss.weight_decay, self.data, indices, self.positions()[chains], m, v, self.noise_type,
            np.uint64(self.plan.seed), noise_settings, rows, np.ascontiguousarray(self.settings[:, chains]), accepted,
            facts, chains.start, self.state.step, steps, records,
        )  # fmt: skip

    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain on all data."""
        energies: NDArray[np.float64] = mlp.mlp_energies(
            self.network, self.loss.weight_decay, self.data, self.positions()
        )
        return energies
