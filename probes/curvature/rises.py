"""The largest and the mean rise of an energy within a ball around one position after the other."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from landscape.potentials.base import has_samples
from landscape.potentials.curvature.products import check_chunks
from landscape.probes.curvature.ascent import SLIGHT, Landscape, climb
from landscape.probes.curvature.ball import Ball
from landscape.probes.curvature.lanczos import lanczos_ends
from landscape.probes.curvature.linear import LinearMap, as_linear
from landscape.probes.curvature.operators import HessianOperator
from landscape.probes.curvature.positions import Sites
from landscape.statistics import error_of_mean

__all__ = ["Place", "Probe", "Settings"]

DRAW_BYTES: Final = 2**26  # of positions drawn at once
_STOP: Final = 1e-5  # of the rise: a climb ends where the first order promises no more
_ENOUGH: Final = 10.0  # times that, and it counts as stationary
_AGREE: Final = 1e-3  # of the rise: starts within it have found the same maximum


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, and how; names as of `sharpness`.

    Attributes
    ----------
    highest, mean : bool
        Whether the largest and the mean rise are asked for.
    box : bool
        ``norm="linf"``.
    pairs : int
        Of energies of the mean.
    """

    adaptive: bool
    highest: bool
    mean: bool
    box: bool
    steps: int
    starts: int
    products: int
    pairs: int
    sphere: bool
    vectors: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Place:
    """A position and what is needed of it.

    Attributes
    ----------
    position, scale : tensor, shape ``(dim,)``
        Scale is how far each coordinate moves per radius.
    energy : float
    walls : tuple of (str, int, float)
        A coordinate, its number, room to the nearer boundary.
    """

    position: Tensor
    scale: Tensor
    energy: float
    walls: tuple[tuple[str, int, float], ...]

    def walls_within(self, radius: float) -> list[str]:
        """Coordinates whose boundaries the ball reaches beyond."""
        return [name for name, j, room in self.walls if radius * float(self.scale[j]) > room]


@dataclass(slots=True)
class Probe:
    """The measurement at any of the positions.

    Attributes
    ----------
    sites : Sites
    settings : Settings
    landscape : Landscape
        Of the potential in the right type and chunks.
    products : int
        Hessian-vector products spent.
    """

    sites: Sites
    settings: Settings
    landscape: Landscape
    products: int = 0

    @classmethod
    def of(cls, sites: Sites, settings: Settings) -> Probe:
        """From what a user gave.

        Raises
        ------
        ConfigError
            For chunks of samples that interact.
        """
        potential, dtype, device = sites.potential, sites.dtype or torch.float64, torch.device("cpu")
        if has_samples(potential):
            potential = potential.converted(sites.dtype)
            check_chunks(potential, sites.chunk_size)
            if sites.chunk_size is not None:
                potential = copy.copy(potential)
                potential.chunk_size = sites.chunk_size
            dtype, device = potential.dtype, potential.device
        elif sites.places is not None and isinstance(sites.places.rows, Tensor):
            device = sites.places.rows.device
        return cls(sites, settings, Landscape(potential, dtype, device))

    @property
    def ball(self) -> Ball:
        """The unit ball of the norm."""
        return Ball(self.settings.box)

    def at(self, number: int) -> Place:
        """A position with what is needed of it."""
        landscape = self.landscape
        position = self.sites.position(number).detach().to(landscape.device, landscape.dtype)
        scale = position.abs() if self.settings.adaptive else torch.ones_like(position)
        potential, walls = landscape.potential, []
        for name, (low, high) in (getattr(potential, "bounds", None) or {}).items():
            j = potential.coordinate_index(name)
            walls.append((name, j, min(float(position[j]) - low, high - float(position[j]))))
        inside = all(room >= 0 for _, _, room in walls)
        energy = float(landscape.energy(position[None])[0]) if inside else np.nan
        return Place(position, scale, energy, tuple(walls))

    def measure(self, at: Place, radii: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Values by name, whether they have converged, and displacements ``(radii, dim)``."""
        values: dict[str, np.ndarray] = {}
        good = np.full(len(radii), np.isfinite(at.energy))
        vectors = np.full((len(radii), len(at.position)), np.nan)
        if self.settings.highest:
            highest, vectors = self._maximum(at, radii)
            good &= highest.pop("converged").astype(bool)
            values |= highest
        if self.settings.mean:
            values |= self._mean(at, radii)
            good &= np.isfinite(values["mean"]) & np.isfinite(values["mean_stderr"])
        return values, good, vectors

    # -- the largest rise ------------------------------------------------------------------------------------------

    def _maximum(self, at: Place, radii: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        ball, landscape, settings = self.ball, self.landscape, self.settings
        gradient = at.scale * landscape.gradient(at.position[None])[0]
        slope = ball.edge(gradient[None])
        random = ball.starts(settings.seed, settings.starts, at.scale > 0, landscape.dtype)
        begin = torch.cat([slope, *self._eigenvector(at), random])
        count = len(begin)
        scales = [float(rho) * at.scale for rho in radii]
        center = at.position.expand(len(radii) * count, -1)
        scale = torch.stack(scales).repeat_interleave(count, dim=0)
        base = torch.full((len(center),), at.energy, dtype=torch.float64, device=landscape.device)
        first = landscape.energy(at.position + torch.stack(scales) * slope) - at.energy
        climbed = climb(
            landscape, center, scale, begin.repeat(len(radii), 1), ball, base=base, steps=settings.steps, rtol=_STOP
        )
        values = {
            key: np.empty(len(radii))
            for key in ("maximum", "maximum_stderr", "first_order", "promise", "agreeing", "converged")
        }
        vectors = np.empty((len(radii), len(at.position)))
        zero = torch.zeros_like(gradient)[None]
        for i, own in enumerate(scales):
            rows = slice(i * count, (i + 1) * count)
            # e = 0 is in the ball too: at a maximum of V nothing rises
            here = float(radii[i]) * gradient[None]
            energies = torch.cat([climbed.energy[rows], base[:1]])
            promise = torch.cat([climbed.promise[rows], ball.promise(zero, here)])
            missing = torch.cat([climbed.missing[rows], ball.missing(zero, here)])
            slight = SLIGHT * float(climbed.varied[rows].max())
            verdict = self._verdict(energies.cpu().numpy(), promise.cpu().numpy(), missing.cpu().numpy(), slight)
            for key, value in verdict.items():
                values[key][i] = value
            values["first_order"][i] = float(first[i]) if bool(gradient.any()) else np.nan
            best = int(energies.argmax())
            vectors[i] = (own * climbed.u[rows][best]).cpu().numpy() if best < count else 0.0
        return values, vectors

    def _verdict(
        self, energies: np.ndarray, promise: np.ndarray, missing: np.ndarray, slight: float
    ) -> dict[str, float]:
        """Of the energies that were reached, the last of which is that of the centre and random starts before it."""
        base, finite = energies[-1], np.isfinite(energies).all()
        if not finite:
            return {"maximum": np.nan, "maximum_stderr": np.nan, "promise": np.nan, "agreeing": 0, "converged": 0}
        best = int(energies.argmax())
        rise = energies[best] - base
        rounding = float(self.landscape.rounding(abs(energies[best]) + abs(base)))
        worth = max(rise, slight)
        agree = energies[:-1] >= energies[best] - max(_AGREE * worth, rounding)
        several = agree.sum() > 1 and bool(agree[-self.settings.starts :].any())
        ordered = np.sort(energies[:-1])[::-1]
        spread = energies[best] - (ordered[agree.sum() - 1] if several else ordered[min(1, len(ordered) - 1)])
        stationary = promise[best] <= _ENOUGH * _STOP * worth + rounding
        return {
            "maximum": rise,
            "maximum_stderr": float(np.sqrt(spread**2 + missing[best] ** 2 + rounding**2)),
            "promise": promise[best] / worth if worth > 0 else 0.0,
            "agreeing": float(agree.sum()),
            "converged": float(several and stationary),
        }

    def _eigenvector(self, at: Place) -> list[Tensor]:
        """The top eigenvector of the Hessian in the coordinates of the unit ball, and its opposite."""
        settings, landscape, scale = self.settings, self.landscape, at.scale
        if settings.products == 0 or not bool((scale > 0).any()):
            return []
        hessian = as_linear(
            HessianOperator(self.sites.potential, at.position, chunk_size=self.sites.chunk_size, dtype=self.sites.dtype)
        )
        scaled = LinearMap(hessian.size, hessian.dtype, hessian.device, lambda rows: scale * hessian(scale * rows))
        start = self.ball.starts(settings.seed + 1, 1, scale > 0, landscape.dtype)[0]
        ends = lanczos_ends(scaled, start, rtol=1e-2, limit=settings.products, which="largest")
        self.products += hessian.products
        top = self.ball.edge(ends.vectors[:1].to(scale))
        return [top, -top] if bool(top.isfinite().all()) else []

    # -- the mean --------------------------------------------------------------------------------------------------

    def _mean(self, at: Place, radii: np.ndarray) -> dict[str, np.ndarray]:
        settings, landscape = self.settings, self.landscape
        at_once = max(1, DRAW_BYTES // (2 * landscape.dtype.itemsize * len(at.position)))
        found = np.empty((len(radii), settings.pairs))
        for start in range(0, settings.pairs, at_once):
            numbers = torch.arange(start, min(start + at_once, settings.pairs), device=landscape.device)
            points = at.scale * self.ball.drawn(
                settings.seed, numbers, at.scale > 0, sphere=settings.sphere, dtype=landscape.dtype
            )
            for i, rho in enumerate(radii):
                pairs = [landscape.energy(at.position + sign * float(rho) * points) for sign in (1, -1)]
                found[i, start : start + len(numbers)] = ((pairs[0] + pairs[1]) / 2).cpu().numpy() - at.energy
        found[~np.isfinite(found).all(1)] = np.nan
        mean = found.mean(1)
        spread = error_of_mean(found, least=2)
        rounding = np.asarray(landscape.rounding(np.abs(at.energy) + np.abs(mean)))
        return {"mean": mean, "mean_stderr": np.hypot(spread, rounding)}
