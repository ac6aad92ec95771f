"""What is remembered of a search for a path."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

__all__ = ["History"]


class History:
    """Energy and perpendicular gradient of the pivots, iteration by iteration, over cycles of growing paths."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, Tensor, Tensor | None]] = []
        self._cycles: list[tuple[float, int, int, float]] = []
        self.converged: bool | None = None  # where somebody has looked

    def note(self, iteration: int, energies: Tensor, across: Tensor | None = None) -> None:
        """Energies ``(P,)`` and norms of the perpendicular gradient ``(P - 2,)`` of an iteration of this cycle."""
        self._rows.append((iteration, len(self._cycles), energies, across))

    def end_cycle(self, lr: float, steps: int, pivots: int, highest: float) -> None:
        """Close a cycle of so many steps; `highest` is the highest energy found on the path after it."""
        self._cycles.append((lr, steps, pivots, highest))

    @property
    def cycles(self) -> int:
        """Cycles that are closed."""
        return len(self._cycles)

    @property
    def steps(self) -> int:
        """Steps made in them."""
        return sum(steps for _, steps, _, _ in self._cycles)

    @property
    def highest(self) -> list[float]:
        """Their highest energies."""
        return [highest for _, _, _, highest in self._cycles]

    @property
    def lowest(self) -> float:
        """The lowest of their highest energies; infinite before the first."""
        return min(self.highest, default=math.inf)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, pivots_now: int) -> History:
        """The history that `dataset` stored, with so many pivots in a cycle that is not closed."""
        history = cls()
        table = (dataset[f"cycle_{name}"].values.tolist() for name in ("lr", "steps", "pivots", "highest"))
        history._cycles = list(zip(*table, strict=True))
        for row in range(dataset.sizes["iteration"]):
            cycle = int(dataset["cycle_of"][row])
            pivots = history._cycles[cycle][2] if cycle < history.cycles else pivots_now
            energies = torch.from_numpy(dataset["history_energy"].values[row, :pivots].copy())
            norms = torch.from_numpy(dataset["history_perpendicular_gradient"].values[row, 1 : pivots - 1].copy())
            history._rows.append((int(dataset["iteration"][row]), cycle, energies, norms))
        return history

    def dataset(self) -> xr.Dataset:
        """Everything on ``iteration``, ``cycle`` and ``history_pivot``, NaN where a path had fewer pivots."""
        most = max((len(energies) for _, _, energies, _ in self._rows), default=0)
        energy, across = np.full((2, len(self._rows), most), np.nan)
        for row, (_, _, energies, norms) in enumerate(self._rows):
            energy[row, : len(energies)] = energies.double().cpu().numpy()
            if norms is not None:
                across[row, 1 : len(energies) - 1] = norms.double().cpu().numpy()
        lr, steps, pivots, highest = zip(*self._cycles, strict=True) if self._cycles else ((),) * 4
        dims = ("iteration", "history_pivot")
        about_flag = {"long_name": "whether the path came to rest", "units": "1"}
        flag = {} if self.converged is None else {"converged": ((), self.converged, about_flag)}
        about = {"units": "energy"}
        return xr.Dataset(
            {
                "history_energy": (dims, energy, about | {"long_name": "energy at the pivots, on the step's batch"}),
                "history_perpendicular_gradient": (
                    dims, across, about | {"long_name": "norm of the gradient perpendicular to the path"},
                ),
                "cycle_of": (
                    "iteration", np.array([row[1] for row in self._rows]), {"long_name": "cycle", "units": "1"},
                ),
                "cycle_lr": ("cycle", np.array(lr), {"long_name": "learning rate", "units": "1"}),
                "cycle_steps": ("cycle", np.array(steps), {"long_name": "steps made", "units": "1"}),
                "cycle_pivots": ("cycle", np.array(pivots), {"long_name": "pivots", "units": "1"}),
                "cycle_highest": (
                    "cycle", np.array(highest), about | {"long_name": "highest energy found on the path"},
                ),
            }
            | flag,
            {
                "iteration": (
                    "iteration", np.array([row[0] for row in self._rows]), {"long_name": "iteration", "units": "1"},
                ),
                "cycle": ("cycle", np.arange(len(lr)), {"long_name": "cycle", "units": "1"}),
            },
        )  # fmt: skip
