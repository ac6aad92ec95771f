"""Exact slowest rates of the quartic double well at any friction: eigenvalues of the Klein-Kramers operator."""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from scipy.integrate import quad

__all__ = ["klein_kramers_rate", "milestoning_rate"]


def klein_kramers_rate(temperature, friction, height=1.0, *, positions=70, momenta=80, scale=0.42):
    """Slowest non-zero rate of dx = p dt, dp = -V' dt - friction p dt + sqrt(2 friction T) dW, V = h (x^2 - 1)^2.

    With f = exp(-V/2T - p^2/4T) sum_n c_n(x) phi_n(p/sqrt(T)) in Hermite functions,

    dc_n/dt = -n friction c_n - sqrt(n + 1) D c_{n+1} - sqrt(n) E c_{n-1},  D, E = sqrt(T) (d/dx -+ V'/2T),

    the c_n in oscillator functions of width `scale` (Risken, The Fokker-Planck Equation, section 10.1).
    """
    size = positions + 8  # so that products of x are exact in those that are kept
    lower = sp.diags([np.sqrt(np.arange(1, size))], [1])
    x = scale / np.sqrt(2.0) * (lower + lower.T)
    slope = (lower - lower.T) / (scale * np.sqrt(2.0))
    force = 4.0 * height * (x @ x @ x - x)
    keep = slice(0, positions)
    parts = [np.sqrt(temperature) * (slope + sign * force / (2.0 * temperature)) for sign in (-1.0, 1.0)]
    d, e = (sp.csr_matrix(part)[keep, keep] for part in parts)
    up = sp.diags([np.sqrt(np.arange(1, momenta))], [1])
    operator = -friction * sp.kron(sp.diags([np.arange(momenta, dtype=float)], [0]), sp.eye(positions))
    operator = operator - sp.kron(up, d) - sp.kron(up.T, e)
    found = sla.eigs(sp.csc_matrix(operator), k=4, sigma=1e-3 / max(friction, 1.0), return_eigenvectors=False)
    rates = np.sort(-found.real[np.abs(found.imag) < 1e-9])
    assert abs(rates[0]) < 1e-3 * rates[1]  # the stationary state
    return float(rates[1])


def milestoning_rate(temperature, edge, height=1.0):
    """2 T / (Z int exp(V/T)) between cores x < -edge and x > edge of the same well, overdamped."""
    energy = lambda x: height * (x * x - 1.0) ** 2  # noqa: E731
    weight = quad(lambda x: np.exp(-energy(x) / temperature), -6.0, 6.0, points=[-1.0, 0.0, 1.0])[0]
    climb = quad(lambda x: np.exp(energy(x) / temperature), -edge, edge)[0]
    return 2.0 * temperature / (weight * climb)
