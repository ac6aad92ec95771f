"""How much the energy rises within a ball: at most, and on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from landscape.checks import one_of, true_or_false, whole_number
from landscape.common.notices import warn
from landscape.errors import ConfigError
from landscape.potentials import Potential
from landscape.probes.curvature.positions import Sites, at_positions
from landscape.probes.curvature.rises import Probe, Settings
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import POSITIONS, probe
from landscape.random import check_seed

__all__ = ["sharpness"]


@probe("curvature.sharpness", POSITIONS)
@at_positions
def sharpness(
    potential: Potential,
    positions: Any,
    *,
    radius: float | Sequence[float],
    adaptive: bool = False,
    kind: Literal["max", "mean", "both"] = "both",
    norm: Literal["l2", "linf"] = "l2",
    steps: int = 60,
    starts: int = 4,
    products: int = 20,
    samples: int = 128,
    sphere: bool = False,
    vectors: bool = False,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Largest and mean rise of the energy within a ball, V(x + e) - V(x) for |e| <= rho.

    Parameters
    ----------
    potential : Potential
        Of a network the energy over all its data.
    radius : float or sequence of floats
        The radius rho; of several the result has a dim `radius`.
    adaptive : bool
        The ball |e / x| <= rho, divided entry by entry: it does not change when the weights of a layer are multiplied
        and those of the next divided. A coordinate that is 0 does not move.
    kind : {"max", "mean", "both"}
    norm : {"l2", "linf"}
        Euclidean, or the largest entry: then the ball is a box.
    steps : int
        Most gradients from each start.
    starts : int
        Random starts, beside the gradient's direction and those of the top eigenvector of the Hessian.
    products : int
        Most Hessian-vector products for that eigenvector; 0 does without.
    samples : int
        Energies of the mean.
    sphere : bool
        The mean over the sphere |e| = rho instead of the ball.
    vectors : bool
        Whether to return the displacement e of the maximum.
    seed : int
        Of starts and draws, which are the same at every position.
    dtype : torch.dtype, optional
        Of energies and gradients: the network's own, for other potentials float64. Rises far below the energy itself
        need float64.

    Returns
    -------
    xarray.Dataset
        `maximum`, `maximum_stderr`, `first_order` (the rise after the one step of sharpness-aware minimisation,
        e = rho g / |g|, g the gradient; NaN where it is zero), `promise`, `agreeing`, `mean`, `mean_stderr` and
        `converged` (...); with vectors `vector (..., coordinate)`. Attributes `gradients`, `energies`, `products`.

    Warns
    -----
    UserWarning
        Where the ball reaches beyond a boundary of the potential: no number is given there (NaN, `converged` false).

    Notes
    -----
    The maximum is the highest point that projected gradient ascent has reached from all starts: a lower bound.
    `maximum_stderr` is made of the spread of the starts that agree (where none does, the distance to the second best),
    of what may be missing to a point that is not quite stationary, and of rounding. `converged` asks that the first
    order promises less than a part in 10^4 more (`promise`), and that two starts agree, one of them random. That
    there is no higher maximum that all starts have missed is no part of it. Kinks, as of a ReLU network, may hold a
    maximum without being stationary: then it remains false, and the error says what the gradient leaves open.

    The mean is over points uniform in the ball (of the coordinates that move), in pairs e and -e, whose scatter makes
    the standard error, widened by Student's factor and for skewness. Of V = x K x / 2 at its minimum the maximum is
    rho^2 / 2 times the largest eigenvalue of K, the mean rho^2 tr K / (2 (dim + 2)), over the sphere rho^2 tr K /
    (2 dim), in the box rho^2 tr K / 6.

    References
    ----------
    Foret, Kleiner, Mobahi, Neyshabur (2021), Sharpness-aware minimization for efficiently improving generalization,
    ICLR, eq. 2. Kwon, Kim, Park, Choi (2021), ASAM: adaptive sharpness-aware minimization, ICML, definition 2, without
    their constant eta. Keskar, Mudigere, Nocedal, Smelyanskiy, Tang (2017), ICLR: the box.

    Examples
    --------
    >>> from landscape.potentials import Quadratic
    >>> found = sharpness(Quadratic([1.0, 8.0]), [0.0, 0.0], radius=0.5)
    >>> round(float(found.maximum), 6), bool(found.converged)  # rho^2 lambda / 2
    (1.0, True)
    >>> bool(abs(found["mean"] - 0.5**2 * 9 / 8) < 4 * found.mean_stderr)  # rho^2 tr K / (2 (dim + 2))
    True
    """
    settings, radii = _settings(radius, adaptive, kind, norm, steps, starts, products, samples, sphere, vectors, seed)
    if not isinstance(potential, Potential):
        raise ConfigError(f"sharpness needs energies, those of a potential: got {type(potential).__name__}")
    sites = Sites.of(potential, positions, chunk_size=chunk_size, dtype=dtype)
    probe = Probe.of(sites, settings)
    keys = [*(("maximum", "maximum_stderr", "first_order", "promise", "agreeing") if settings.highest else ())]
    keys += ["mean", "mean_stderr"] if settings.mean else []
    found = {key: sites.empty(len(radii)) for key in keys}
    converged = sites.empty(len(radii), fill=0, dtype=bool)
    places = sites.empty(len(radii), potential.dim) if vectors else None
    beyond: set[str] = set()
    for number in sites.numbers():
        at = probe.at(number)
        crossed = [at.walls_within(rho) for rho in radii]
        beyond.update(*crossed)
        inside = np.array([not names for names in crossed])
        if not inside.any():
            continue
        values, good, vector = probe.measure(at, radii[inside])
        for key in keys:
            found[key][number, 0, inside] = values[key]
        converged[number, 0, inside] = good
        if places is not None:
            places[number, 0, inside] = vector
    if beyond:
        warn(
            f"the ball reaches beyond the walls of {sorted(beyond)}, where there is no energy: no number is given "
            "there; choose a smaller radius"
        )
    return _described(sites, probe, settings, radius, radii, found, converged, places)


def _settings(
    radius: Any,
    adaptive: Any,
    kind: Any,
    norm: Any,
    steps: Any,
    starts: Any,
    products: Any,
    samples: Any,
    sphere: Any,
    vectors: Any,
    seed: Any,
) -> tuple[Settings, np.ndarray]:
    try:
        radii = np.atleast_1d(np.asarray(radius, dtype=float))
    except (TypeError, ValueError):
        radii = np.array([np.nan])
    if (
        isinstance(radius, bool)
        or radii.ndim != 1
        or not radii.size
        or not bool(np.all((radii > 0) & (radii < np.inf)))
    ):
        raise ConfigError(f"radius must be a positive number or a sequence of them, got {radius!r}")
    one_of("kind", kind, ("max", "mean", "both"))
    one_of("norm", norm, ("l2", "linf"))
    if true_or_false("sphere", sphere) and norm == "linf":
        raise ConfigError('sphere=True is the sphere of norm="l2": leave it out for the box')
    if true_or_false("vectors", vectors) and kind == "mean":
        raise ConfigError('vectors=True gives the displacement of the maximum, which kind="mean" does not look for')
    settings = Settings(
        adaptive=true_or_false("adaptive", adaptive),
        highest=kind != "mean",
        mean=kind != "max",
        box=norm == "linf",
        steps=whole_number("steps", steps),
        starts=whole_number("starts", starts),
        products=whole_number("products", products, least=0),
        pairs=whole_number("samples", samples, least=8) // 2,
        sphere=sphere,
        vectors=vectors,
        seed=check_seed(seed),
    )
    return settings, radii


def _described(
    sites: Sites,
    probe: Probe,
    settings: Settings,
    radius: Any,
    radii: np.ndarray,
    found: dict[str, np.ndarray],
    converged: np.ndarray,
    places: np.ndarray | None,
) -> xr.Dataset:
    landscape = probe.landscape
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        key: (("radius",), value) for key, value in {**found, "converged": converged}.items()
    }
    if places is not None:
        variables["vector"] = (("radius", "coordinate"), places)
    climbed = (
        f"spectral projected gradient ascent, at most {settings.steps} gradients from each of the gradient's "
        f"direction, both directions of the top eigenvector ({settings.products} products) and {settings.starts} "
        "random ones"
    )
    drawn = f"{settings.pairs} pairs e, -e uniform {'on the sphere' if settings.sphere else 'in the ball'}"
    shape = "box |e_j|" if settings.box else "ball |e|"
    if settings.adaptive:
        shape = "box |e_j / x_j|" if settings.box else "ball |e / x|, divided entry by entry,"
    dataset = sites.dataset(
        variables,
        GLOSSARY["sharpness"],
        title="Rise of the energy within a ball",
        method="; ".join([climbed] * settings.highest + [drawn] * settings.mean),
        ball=f"{shape} <= radius",
        adaptive=int(settings.adaptive),
        seed=settings.seed,
        gradients=landscape.gradients,
        energies=landscape.energies,
        products=probe.products,
        cost=f"{landscape.gradients} gradients, {landscape.energies} energies and {probe.products} Hessian-vector "
        "products",
    )
    about = {"long_name": "radius of the ball", "units": "1" if settings.adaptive else "length"}
    dataset = dataset.assign_coords(radius=("radius", radii, about))
    return dataset.isel(radius=0) if np.ndim(radius) == 0 else dataset
