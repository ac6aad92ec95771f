"""Rates of escape over a barrier at any friction: Kramers' two limits and what joins them.

Unit mass, k_B = 1, dx = p dt, dp = -V' dt - friction p dt + sqrt(2 friction T) dW; well frequency w_0 = sqrt(V'' at the
minimum), barrier frequency w_b = sqrt(-V'' at the top), E the barrier's height, S the action of the orbit at the height
of the barrier that goes once through the well, the integral of p dx there and back.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import quad

from landscape.common.docstrings import documented
from landscape.errors import ConfigError

__all__ = ["depopulation", "energy_diffusion", "spatial_diffusion", "turnover"]

_rate = documented(
    {
        "height": "height : float\n    Of the barrier, E.",
        "well": "well : float\n    Frequency at the minimum, w_0.",
        "barrier": "barrier : float\n    Frequency at the top, w_b.",
        "action": "action : float\n    S.",
        "temperature": "temperature : float",
        "friction": "friction : float\n    Per unit of time.",
    },
    Returns="float\n    Per unit of time.",
    Raises="ConfigError\n    If an argument is no finite number above 0; friction and loss may be 0.",
)


@_rate
def spatial_diffusion(height: float, well: float, barrier: float, temperature: float, friction: float) -> float:
    r"""Kramers' rate at moderate and high friction,

    .. math:: k = \frac{\sqrt{\gamma^2/4 + w_b^2} - \gamma/2}{w_b} \, \frac{w_0}{2 \pi} e^{-E/T} .

    References
    ----------
    Kramers, "Brownian motion in a field of force and the diffusion model of chemical reactions", Physica 7, 284 (1940);
    Haenggi, Talkner, Borkovec, "Reaction-rate theory: fifty years after Kramers", Rev. Mod. Phys. 62, 251 (1990).

    Examples
    --------
    >>> round(spatial_diffusion(1.0, 1.0, 1.0, temperature=0.2, friction=0.0) * 2 * math.pi * math.exp(5), 12)
    1.0
    """
    _check(height=height, well=well, barrier=barrier, temperature=temperature)
    _check(zero=True, friction=friction)
    # written without the cancellation at high friction
    factor = barrier / (math.hypot(0.5 * friction, barrier) + 0.5 * friction)
    return factor * well / (2.0 * math.pi) * math.exp(-height / temperature)


@_rate
def energy_diffusion(height: float, well: float, action: float, temperature: float, friction: float) -> float:
    r"""Kramers' rate at low friction, limited by how fast energy comes, for one well and a barrier without return,

    .. math:: k = \gamma \frac{S}{T} \, \frac{w_0}{2 \pi} e^{-E/T} .

    Of two equal wells half of those that cross come back, and the rate is half of it.

    References
    ----------
    Kramers, Physica 7, 284 (1940).

    Examples
    --------
    >>> round(energy_diffusion(1.0, 1.0, 3.0, temperature=0.2, friction=0.01) * 2 * math.pi * math.exp(5), 12)
    0.15
    """
    _check(height=height, well=well, action=action, temperature=temperature)
    _check(zero=True, friction=friction)
    return friction * action / temperature * well / (2.0 * math.pi) * math.exp(-height / temperature)


def depopulation(loss: float) -> float:
    r"""Mel'nikov's factor by which escape takes energy from the well faster than friction brings it back,

    .. math:: \Upsilon(\Delta) = \exp \frac{1}{2 \pi} \int_{-\infty}^\infty
        \frac{\ln(1 - e^{-\Delta (u^2 + 1/4)})}{u^2 + 1/4} du ,

    Delta = friction S/T the energy lost in an orbit, over T. Upsilon -> Delta for small and 1 for large Delta.

    Parameters
    ----------
    loss : float
        Delta.

    Returns
    -------
    float

    Raises
    ------
    ConfigError

    Notes
    -----
    By quadrature to about 1e-10, in v = arctan 2u.

    Examples
    --------
    >>> round(depopulation(1e-4) / 1e-4, 2), round(depopulation(50.0), 6)
    (0.99, 0.999999)
    """
    _check(zero=True, loss=loss)
    if loss == 0:
        return 0.0

    def term(v: float) -> float:
        return math.log(-math.expm1(-0.25 * loss / math.cos(v) ** 2)) if abs(math.cos(v)) > 1e-8 else 0.0

    half, _ = quad(term, 0.0, 0.5 * math.pi, limit=200, epsabs=1e-12)  # du/(u^2 + 1/4) = 2 dv
    return math.exp(2.0 / math.pi * half)


@_rate
def turnover(
    height: float, well: float, barrier: float, action: float, temperature: float, friction: float, *, wells: int = 2
) -> float:
    r"""Mel'nikov's and Meshkov's rate at any friction, to leading order in T/E.

    k = Upsilon(Delta) k_spatial for one well; between two equal ones

    .. math:: k = \frac{\Upsilon(\Delta)^2}{\Upsilon(2 \Delta)} \, k_{spatial} , \qquad \Delta = \gamma S/T .

    Parameters
    ----------
    wells : {1, 2}
        Whether what has crossed is gone, or can come back from a second well like the first.

    References
    ----------
    Mel'nikov and Meshkov, "Theory of activated rate processes: exact solution of the Kramers problem", J. Chem. Phys.
    85, 1018 (1986).

    Examples
    --------
    >>> low = turnover(1.0, 1.0, 1.0, 3.0, temperature=0.2, friction=1e-5, wells=1)
    >>> round(low / energy_diffusion(1.0, 1.0, 3.0, temperature=0.2, friction=1e-5), 2)
    0.99
    """
    _check(action=action)
    if wells not in (1, 2):
        raise ConfigError(f"wells must be 1 or 2, got {wells!r}")
    spatial = spatial_diffusion(height, well, barrier, temperature, friction)
    loss = friction * action / temperature
    if loss == 0:
        return 0.0
    one = depopulation(loss)
    return spatial * (one if wells == 1 else one**2 / depopulation(2.0 * loss))


def _check(*, zero: bool = False, **values: float) -> None:
    for name, value in values.items():
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and not zero):
            raise ConfigError(f"{name} must be a finite number, {'0 or more' if zero else 'above 0'}, got {value!r}")
