"""What confines dynamics to a path: energy and curvature along it, and how chains move on it.

Conventions: k_B = 1, dx = -grad V dt + sqrt(2 T) dW, s the arc length of the path, V_eff its effective potential. With
isotropic noise V_eff(s) = V(s) + (T/2) log det H_perp(s), H_perp the Hessian across the path; with noise of covariance
2 T H it is V(s) + (T/2) tr H_perp(s). Di Carlo, Goddard, Schwab (2026) print the first without its factor 1/2 (eqs. 2
and 3). A purely entropic landscape scales as 1/T in time, so a relaxation that is faster at higher T proves no force by
itself: `drift` tells energetic from entropic parts by the dependence on T. Beside every measurement belong its
controls: full batch, noise without gradient, a landscape of constant curvature.

References
----------
Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks.
"""

from __future__ import annotations

from landscape.probes.confinement.along_path import along_path, linear_connectivity
from landscape.probes.confinement.barriers import barriers
from landscape.probes.confinement.drift import drift
from landscape.probes.confinement.instability import instability
from landscape.probes.confinement.passage import first_passage
from landscape.probes.confinement.relaxation import relaxation
from landscape.probes.plotting.confinement_plots import (
    plot_along_path,
    plot_barriers,
    plot_drift,
    plot_first_passage,
    plot_instability,
    plot_linear_connectivity,
    plot_relaxation,
)

__all__ = [
    "along_path",
    "barriers",
    "drift",
    "first_passage",
    "instability",
    "linear_connectivity",
    "plot_along_path",
    "plot_barriers",
    "plot_drift",
    "plot_first_passage",
    "plot_instability",
    "plot_linear_connectivity",
    "plot_relaxation",
    "relaxation",
]
