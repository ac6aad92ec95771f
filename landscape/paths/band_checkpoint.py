"""The state of an automated band on disk, between two cycles or inside one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from landscape.errors import CheckpointError
from landscape.paths.history import History
from landscape.paths.relaxation import Motion
from landscape.storage.files import open_file as open_dataset
from landscape.storage.files import save as save_dataset
from landscape.storage.folder import FORMAT, of_today

__all__ = ["BandState"]


@dataclass
class BandState:
    """What the rest of the search needs.

    Attributes
    ----------
    motion : Motion
        Where the pivots of the present cycle are, or those of the last one if the next has not begun.
    moving : bool
        Whether a cycle has begun that is not finished.
    shares : tensor, float64, shape ``(P - 1,)``
        Of the segments in the length of the path.
    best : tensor, shape ``(M, N)``
        Pivots after the cycle whose highest energy was lowest.
    history : History
    dense : tensor, optional
        Energies between the pivots after the last cycle; not stored, since they can be evaluated again.
    """

    motion: Motion
    moving: bool
    shares: Tensor
    best: Tensor
    history: History
    dense: Tensor | None = None

    def save(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        """Write the state; the file appears complete or not at all."""
        variables = {
            "band": (("pivot", "coordinate"), self.motion.pivots.cpu().numpy()),
            "velocity": (("inner_pivot", "coordinate"), self.motion.velocity.cpu().numpy()),
            "shares": ("segment", self.shares.cpu().numpy()),
            "best": (("best_pivot", "coordinate"), self.best.cpu().numpy()),
        }
        attributes = {
            "format": FORMAT,
            "settings": json.dumps(settings, sort_keys=True),
            "steps_of_cycle": self.motion.done,
            "moving": int(self.moving),
        }
        save_dataset(xr.Dataset(variables, attrs=attributes).merge(self.history.dataset()), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], settings: dict[str, Any], like: Tensor) -> BandState:
        """The state of a search with these settings between these ends, the first and last row of `like`.

        Raises
        ------
        CheckpointError
            If it belongs to another search.
        """
        with open_dataset(path) as stored:
            dataset = stored.load()
        of_today(dataset.attrs, FilePath(path))
        if dataset.attrs.get("settings") != json.dumps(settings, sort_keys=True):
            raise CheckpointError(
                f"{os.fspath(path)!r} holds the state of a search with other settings: give these again, or remove it"
            )
        pivots, velocity, best = (
            torch.from_numpy(dataset[name].values.copy()).to(like) for name in ("band", "velocity", "best")
        )
        if not torch.equal(pivots[[0, -1]], like[[0, -1]]):
            raise CheckpointError(
                f"{os.fspath(path)!r} holds a search between other ends: remove it, or give those ends"
            )
        motion = Motion(pivots, velocity, int(dataset.attrs["steps_of_cycle"]))
        shares = torch.from_numpy(dataset["shares"].values.copy()).to(like.device)
        history = History.from_dataset(dataset, pivots_now=len(pivots))
        return cls(motion, bool(dataset.attrs["moving"]), shares, best, history)
