"""Formulas on the CPU: the tape interpreter inside a compiled loop over steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.engines.base import Plan, State
from landscape.engines.compiled import CompiledEngine
from landscape.kernels.formula import run_formula
from landscape.kernels.tape import evaluate
from landscape.potentials.expression import Expression
from landscape.potentials.tape import Tape

__all__ = ["CompiledFormula"]

CACHE_BYTES = 1 << 16  # what the rows of a block may take: they should stay close to the core


class CompiledFormula(CompiledEngine):
    """Chains of an `Expression`, in float64."""

    def __init__(self, plan: Plan, state: State) -> None:
        if not isinstance(plan.potential, Expression):
            raise TypeError("compiled loops run formulas")
        super().__init__(plan, state)
        self.energy_tape = plan.potential.energy_tape
        self.gradient, self.energy = _arrays(plan.potential.gradient_tape), _arrays(self.energy_tape)

    @property
    def block_size(self) -> int:
        """As many chains as keep the registers in the cache."""
        rows = self.gradient[3] + 2 * self.plan.potential.dim
        return int(np.clip(CACHE_BYTES // (8 * rows), 32, 512))

    def run_block(
        self, chains: slice, x: NDArray[Any], m: NDArray[Any], v: NDArray[Any], steps: int, every: int, out: Any
    ) -> None:
        """Advance one block."""
        plan, walls = self.plan, self.plan.walls
        run_formula(
            self.gradient, self.energy, x, m, v, self.noise_type, np.uint64(plan.seed), self.refinement, chains.start,
            self.state.step, steps, self.scheme, self.settings, plan.step_size[chains], self.amplitude[chains],
            walls.kinds, walls.lows, walls.highs, every, *out,
        )  # fmt: skip

    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain, by the same operations as inside the loop."""
        return evaluate(self.energy_tape, self.positions())[:, 0]


def _arrays(tape: Tape) -> tuple[Any, Any, Any, int]:
    return tape.instructions, tape.constants, tape.outputs, tape.registers
