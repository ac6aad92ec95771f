"""Pictures for a report: each plot function beside what a result must hold for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr

from landscape.probes import confinement, curvature, fluctuations, free_energy, rates
from landscape.report import Block, Note, draw

__all__ = ["picture", "pictures"]

# plot function, the variables that its result has, and one that a result of another function has besides
_PLOTS: tuple[tuple[Callable[..., Any], tuple[str, ...], str], ...] = (
    (fluctuations.plot_summary, ("gamma_shape", "rate_times_temperature", "discarded"), ""),
    (fluctuations.plot_temperature_scan, ("deviation", "mean_exponent"), ""),
    (fluctuations.plot_fluctuation_relation, ("fluctuation_relation",), ""),
    (fluctuations.plot_autocorrelation, ("autocorrelation",), ""),
    (fluctuations.plot_half_time, ("half_time", "correlation_times"), "mean"),
    (fluctuations.plot_equilibration, ("start", "start_time"), ""),
    (fluctuations.plot_spikes, ("count", "threshold"), ""),
    (fluctuations.plot_participation_ratio, ("participation_ratio",), ""),
    (fluctuations.plot_distance, ("distance", "mean_distance"), ""),
    (curvature.plot_eigenvalues, ("eigenvalue", "eigenvalue_stderr"), "pivot"),
    (curvature.plot_extreme_eigenvalues, ("smallest", "largest"), ""),
    (curvature.plot_largest_eigenvalue, ("largest", "largest_residual"), "smallest"),
    (curvature.plot_top_eigenpairs, ("eigenvalue", "residual", "vector"), ""),
    (curvature.plot_trace, ("trace", "trace_stderr"), "pivot"),
    (curvature.plot_fisher_trace, ("fisher_trace", "fisher_trace_stderr"), "pivot"),
    (curvature.plot_diagonal, ("diagonal", "diagonal_stderr"), ""),
    (curvature.plot_sharpness, ("radius", "converged", "maximum"), ""),
    (curvature.plot_sharpness, ("radius", "converged", "mean"), "maximum"),
    (curvature.plot_score_singular_values, ("singular_value",), ""),
    (curvature.plot_spectral_density, ("node", "density"), ""),
    (confinement.plot_linear_connectivity, ("pair", "fraction"), ""),
    (confinement.plot_along_path, ("pivot", "arc_length", "energy"), ""),
    (confinement.plot_barriers, ("energetic_profile", "entropic_profile"), ""),
    (confinement.plot_drift, ("velocity", "diffusion", "energetic_force"), ""),
    (confinement.plot_relaxation, ("relative_distance", "relaxation_time", "temperature", "reached"), ""),
    (confinement.plot_first_passage, ("passage_time", "first_passage_time"), ""),
    (confinement.plot_instability, ("difference", "ratio"), ""),
    (free_energy.plot_profile, ("free_energy", "density", "count"), ""),
    (free_energy.plot_mean_force, ("free_energy", "mean_force"), ""),
    (free_energy.plot_umbrella, ("free_energy", "overlap"), "reduced_free_energy"),
    (free_energy.plot_metadynamics, ("free_energy", "free_energy_from_bias"), ""),
    (free_energy.plot_mbar, ("reduced_free_energy", "overlap_matrix"), ""),
    (free_energy.plot_overlap, ("overlap_matrix",), ""),
    (free_energy.plot_effective_potential, ("free_energy", "energetic", "entropic"), ""),
    (free_energy.plot_nonequilibrium_work, ("free_energy", "work"), ""),
    (free_energy.plot_thermodynamic_integration, ("free_energy", "slope"), ""),
    (free_energy.plot_entropy, ("entropy", "resolved", "temperature"), ""),
    (rates.plot_core_sets, ("survival", "exit_rate", "transitions"), ""),
    (rates.plot_escape_rate, ("relaxation_rate", "correlation", "estimator"), ""),
    (rates.plot_committor, ("committor", "committor_low", "arrived"), ""),
    (rates.plot_committor_test, ("spread", "variance", "count"), "transitions"),
    (rates.plot_reactive_flux, ("rate_at", "plateau"), ""),
    (rates.plot_forward_flux, ("conditional_probability", "replica_cycle"), ""),
    (free_energy.plot_local_learning_coefficient, ("local_learning_coefficient", "trace"), ""),
)


def pictures(dataset: xr.Dataset) -> list[Block]:
    """A picture by every plot function whose result this can be."""
    found = []
    for plot, needed, other in _PLOTS:
        if all(name in dataset.variables for name in needed) and other not in dataset.variables:
            summary = (plot.__doc__ or plot.__name__).partition("\n")[0]
            found.append(picture(summary, partial(plot, dataset)))
    return found


def picture(description: str, plot: Callable[..., Any]) -> Block:
    """What ``plot(ax=...)`` draws; where it fails, a sentence in place of the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")  # small, so that a phone shows its letters large
    FigureCanvasAgg(figure)
    try:
        plot(ax=figure.subplots())
        return draw(figure, description)
    except Exception as error:  # the rest of a report is worth having without one of its pictures
        return Note(f"No picture ({description.rstrip('.')}): {type(error).__name__}: {error}")
