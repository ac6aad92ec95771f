"""The state of an automated band between two cycles, on disk."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from landscape.errors import CheckpointError
from landscape.paths.history import History
from landscape.storage import open as open_dataset
from landscape.storage import save as save_dataset

__all__ = ["BandState"]


@dataclass
class BandState:
    """What the next cycle needs.

    Attributes
    ----------
    pivots : tensor, shape ``(P, N)``
    shares : tensor, float64, shape ``(P - 1,)``
        Of the segments in the length of the path.
    best : tensor, shape ``(M, N)``
        Pivots after the cycle whose highest energy was lowest.
    history : History
    """

    pivots: Tensor
    shares: Tensor
    best: Tensor
    history: History

    def save(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        """Write the state; the file appears complete or not at all."""
        variables = {
            "band": (("pivot", "coordinate"), self.pivots.cpu().numpy()),
            "shares": ("segment", self.shares.cpu().numpy()),
            "best": (("best_pivot", "coordinate"), self.best.cpu().numpy()),
        }
        attributes = {"settings": json.dumps(settings, sort_keys=True)}
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
        if dataset.attrs.get("settings") != json.dumps(settings, sort_keys=True):
            raise CheckpointError(
                f"{os.fspath(path)!r} holds the state of a search with other settings: give these again, or remove it"
            )
        pivots, best = (torch.from_numpy(dataset[name].values.copy()).to(like) for name in ("band", "best"))
        if not torch.equal(pivots[[0, -1]], like[[0, -1]]):
            raise CheckpointError(
                f"{os.fspath(path)!r} holds a search between other ends: remove it, or give those ends"
            )
        shares = torch.from_numpy(dataset["shares"].values.copy()).to(like.device)
        return cls(pivots, shares, best, History.from_dataset(dataset))
