"""Curvature of an energy landscape: eigenvalues, traces, densities, and the matrices they belong to.

Every function takes a potential and positions ``(..., dim)`` (snapshots of a run, pivots of a path) and returns a
dataset with those dims. Where only products with a matrix are needed, any object with `shape` and `@` may stand for
both. Conventions: the Hessian is that of `potential.energy`, so of a network the mean over samples, with weight decay
and with batch normalisation as the potential was told; results carry them as attributes.

References
----------
Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks.
Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
Thermal-Like Noise.
"""

from __future__ import annotations

from landscape.probes.curvature.density import spectral_density
from landscape.probes.curvature.diagonals import diagonal
from landscape.probes.curvature.eigenpairs import top_eigenpairs
from landscape.probes.curvature.operators import FisherOperator, GaussNewtonOperator, HessianOperator
from landscape.probes.curvature.scaling import temperature_scaling
from landscape.probes.curvature.scores import score_singular_values
from landscape.probes.curvature.sharpness import sharpness
from landscape.probes.curvature.spectrum import eigenvalues, extreme_eigenvalues, largest_eigenvalue
from landscape.probes.curvature.subspaces import project
from landscape.probes.curvature.traces import fisher_trace, trace
from landscape.probes.plotting.curvature_plots import (
    plot_eigenvalues,
    plot_extreme_eigenvalues,
    plot_fisher_trace,
    plot_largest_eigenvalue,
    plot_score_singular_values,
    plot_spectral_density,
    plot_trace,
)
from landscape.probes.plotting.entry_plots import plot_diagonal, plot_sharpness, plot_top_eigenpairs

__all__ = [
    "FisherOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "diagonal",
    "eigenvalues",
    "extreme_eigenvalues",
    "fisher_trace",
    "largest_eigenvalue",
    "plot_diagonal",
    "plot_eigenvalues",
    "plot_extreme_eigenvalues",
    "plot_fisher_trace",
    "plot_largest_eigenvalue",
    "plot_score_singular_values",
    "plot_sharpness",
    "plot_spectral_density",
    "plot_top_eigenpairs",
    "plot_trace",
    "project",
    "score_singular_values",
    "sharpness",
    "spectral_density",
    "temperature_scaling",
    "top_eigenpairs",
    "trace",
]
