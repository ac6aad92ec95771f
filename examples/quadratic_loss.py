r"""A quadratic loss: Gamma distribution, correlation, heat capacity and entropy
====================================================================

Jules, Brenner, Kachman, Levi and Bar-Sinai (2023) begin with the quadratic loss :math:`\tfrac12 \sum_i k_i x_i^2` with
:math:`N_c` stiff directions, because cross-entropy is so unlike it. At temperature T the loss has a Gamma distribution
of shape :math:`\alpha = N_c/2` and rate 1/T, whatever the :math:`k_i`, and

.. math:: \langle L \rangle = N_c T/2, \quad C = \operatorname{var} L / T^2 = N_c/2, \quad
          \chi_L(t) = \frac{1}{N_c} \sum_i e^{-2 k_i t}, \quad \Delta S = \tfrac{N_c}{2} \ln (T_2/T_1).

Their main text prints :math:`e^{-k_i t}` and calls :math:`\alpha` twice the number of constrained directions; their
supplement (S6) has the factor 2, and :math:`\alpha` is half of that number. Springs decide.

The second half is their contrast case, a real network: an MLP that learns n = 100 random numbers by mean squared error.
All n residuals can vanish, so n directions are stiff, and neither their curvature nor the time scale depends on the
temperature; for cross-entropy both do (see ``hessian_spectra`` and ``correlation_times``). The other directions are
flat at the minimum only: off it they have the curvature residual times second derivative, of either sign and
proportional to :math:`\sqrt T`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

import landscape as ls
from landscape import potentials, probes
from landscape.potentials import architectures
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

SPRINGS = potentials.Quadratic([0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 0.0, 0.0])  # the last two are flat directions
STIFF = potentials.Quadratic(SPRINGS.stiffness[:8])
SPRING_TEMPERATURES = (0.01, 0.1, 1.0)
TEMPERATURES = (1e-8, 1e-7, 1e-6, 1e-5)
SAMPLES = 100
ORANGE, GREY = "#D55E00", "0.45"


def reproduce(size: str, seed: int) -> Reproduction:
    """Springs with flat directions beside them, then the network."""
    springs = simulate_springs(by_size(size, quick=20, small=200, paper=2000), seed)
    summary = probes.fluctuations.summary(springs.energy, by="temperature")
    correlation = probes.fluctuations.autocorrelation(springs.energy, 60, by="temperature")
    integral = probes.free_energy.thermodynamic_integration(
        STIFF, "temperature", np.geomspace(0.01, 1, 9), chains=by_size(size, quick=32, small=256, paper=1024),
        steps=1000, seed=seed, reference=STIFF.free_energy(0.01),
    )  # fmt: skip
    run = simulate_network(by_size(size, quick=30_000, small=300_000, paper=3_000_000), seed)
    network = probes.fluctuations.summary(run.energy, by="temperature")
    scan = probes.fluctuations.temperature_scan(network)
    spectrum = probes.curvature.eigenvalues(regression(seed), run.snapshot)
    scaling = probes.curvature.temperature_scaling(spectrum)
    stiff = probes.curvature.temperature_scaling(spectrum.isel(eigenvalue=slice(-SAMPLES, None)))
    verdicts = [*judge_springs(summary, correlation, integral), *judge_network(network, scan, stiff, scaling)]
    datasets = {
        "springs": summary, "correlation": correlation, "entropy": integral, "network": network, "scan": scan,
        "spectrum": spectrum, "scaling": scaling, "scaling_stiff": stiff,
    }  # fmt: skip
    return Reproduction(datasets, draw(springs, summary, correlation, network, run, spectrum), verdicts)


# %%
# Springs, in equilibrium after three times the slowest relaxation time.


def simulate_springs(chains: int, seed: int) -> xr.Dataset:
    """Energies every 0.05 units of time. The scheme is exact for the variance of a spring."""
    settings: dict[str, Any] = {"temperature": ls.grid(temperature=SPRING_TEMPERATURES, replicas=chains)["temperature"]}
    rule = ls.LeimkuhlerMatthews(dt=0.01)
    warm = ls.simulate(SPRINGS, rule, steps=600, record=ls.Record(600), seed=seed, **settings)
    return ls.simulate(
        SPRINGS, rule, start=warm, state="keep", steps=20_000, record=ls.Record(5, ["energy"]), seed=seed, **settings
    )


def judge_springs(summary: xr.Dataset, correlation: xr.Dataset, integral: xr.Dataset) -> list[Verdict]:
    """At the middle temperature; the correlation where the two formulas differ most."""
    one = summary.sel(temperature=SPRING_TEMPERATURES[1])
    stiffness = np.array(STIFF.stiffness)
    lag = 6
    time = float(correlation.lag_time[lag])
    rho = correlation.isel(temperature=1, lag=lag)
    measured = (float(rho.autocorrelation), float(rho.autocorrelation_stderr))
    entropy = integral.isel(temperature=-1)
    return [
        judge("springs: shape of the Gamma law is N_c/2", one.gamma_shape, one.gamma_shape_stderr, expected=4,
              source="P2 section I"),
        judge("springs: shape of the Gamma law is 2 N_c", one.gamma_shape, one.gamma_shape_stderr, expected=16,
              source="P2, text to Fig. 2"),
        judge("springs: beta T = 1", one.rate_times_temperature, one.rate_times_temperature_stderr, expected=1,
              source="P2 section I"),
        judge("springs: <L>/T = N_c/2", one["mean"] / 0.1, one.mean_stderr / 0.1, expected=4, source="P2 section I"),
        judge("springs: heat capacity = N_c/2", one.heat_capacity, one.heat_capacity_stderr, expected=4,
              source="P2 S25"),
        judge(f"springs: chi_L({time:.2g}) = mean of exp(-2 k t)", *measured,
              expected=np.exp(-2 * stiffness * time).mean(), resolve=0.1, source="P2 S6"),
        judge(f"springs: chi_L({time:.2g}) = mean of exp(-k t)", *measured,
              expected=np.exp(-stiffness * time).mean(), resolve=0.1, source="P2 main text"),
        judge("springs: entropy at T = 1 by integration over temperature", entropy.entropy, entropy.entropy_stderr,
              expected=STIFF.entropy(1.0), tolerance=float(entropy.integration_error), source="P2 S25-S30"),
    ]  # fmt: skip


# %%
# The network: 861 weights and 100 random numbers to learn, all of which it can.


def regression(seed: int) -> potentials.NetworkLoss:
    """Mean squared error of an MLP 10-20-20-10-1 on 100 Gaussian targets, in float64."""
    rng = np.random.default_rng(seed)
    inputs, targets = (torch.from_numpy(rng.standard_normal((SAMPLES, n))) for n in (10, 1))
    module = architectures.mlp((10, 20, 20, 10, 1), seed=seed).double()
    return potentials.NetworkLoss(module, inputs, targets, loss="mse")


def simulate_network(steps: int, seed: int) -> xr.Dataset:
    """Two chains a temperature from the minimum, after half as many steps that are left out."""
    loss = regression(seed)
    minimum = ls.minimize(loss, steps=60_000)
    settings: dict[str, Any] = {
        "temperature": ls.grid(temperature=TEMPERATURES, replicas=2)["temperature"],
        "seed": seed,
    }
    rule = ls.EulerMaruyama(dt=2e-3)  # the largest eigenvalue is about 100
    warm = ls.simulate(loss, rule, start=minimum, steps=steps // 2, record=ls.Record(steps // 2), **settings)
    record = ls.Record(every=10, snapshots=20)
    return ls.simulate(loss, rule, start=warm, state="keep", steps=steps, record=record, **settings)


def judge_network(network: xr.Dataset, scan: xr.Dataset, stiff: xr.Dataset, scaling: xr.Dataset) -> list[Verdict]:
    """Exponents in the temperature, and the number of stiff directions."""
    shape = network.gamma_shape.sel(temperature=1e-7), network.gamma_shape_stderr.sel(temperature=1e-7)
    return [
        judge("MSE network: shape of the Gamma law is n/2 at T = 1e-7", *shape, expected=SAMPLES / 2,
              source="P2 section I"),
        judge("MSE network: mean loss ~ T^1", scan.mean_exponent, scan.mean_exponent_stderr, expected=1,
              source="P2 section I"),
        judge("MSE network: beta T = 1", scan.mean_rate_times_temperature, scan.mean_rate_times_temperature_stderr,
              expected=1, source="P2 section I"),
        judge("MSE network: half time ~ T^0 (cross-entropy: T^-1)", scan.half_time_exponent,
              scan.half_time_exponent_stderr, expected=0, resolve=0.5, source="P2 section I"),
        judge("MSE network: median of the n largest eigenvalues ~ T^0 (cross-entropy: T^1)", stiff.exponent,
              stiff.exponent_stderr, expected=0, resolve=0.5, source="P2 Fig. 3, contrast case"),
        judge("MSE network: median of all positive eigenvalues ~ T^(1/2)", scaling.exponent, scaling.exponent_stderr,
              expected=0.5, source="residual times second derivative"),
    ]  # fmt: skip


# %%
# Theory beside measurement.


def draw(
    springs: xr.Dataset, summary: xr.Dataset, correlation: xr.Dataset, network: xr.Dataset, run: xr.Dataset,
    spectrum: xr.Dataset,
) -> Any:  # fmt: skip
    """Springs above, network below."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(14, 8), layout="constrained")
    (a, b, c), (d, e, f) = axes
    probes.fluctuations.plot_energy_distribution(springs.energy, summary, ax=a)
    a.set_title("springs: distribution of the loss, Gamma laws")
    probes.fluctuations.plot_summary(summary, ax=b)
    b.axhline(8, color=ORANGE, lw=1)
    b.set_title("springs: four counts of the 8 stiff directions")
    probes.fluctuations.plot_autocorrelation(correlation, ax=c, theory=STIFF.energy_autocorrelation)
    time = np.geomspace(0.05, 3, 100)
    c.plot(
        time,
        np.exp(-np.outer(time, STIFF.stiffness)).mean(axis=1),
        ":",
        color=GREY,
        label="with $e^{-k t}$, as printed",
    )
    c.legend(frameon=False, fontsize="small")
    c.set_title("springs: autocorrelation of the loss")
    probes.fluctuations.plot_energy_distribution(run.energy, network, ax=d)
    d.set(title="MSE network: distribution of the loss", ylim=(0, 1.5 * d.get_ylim()[1]))
    d.legend(*d.get_legend_handles_labels(), frameon=False, fontsize="small", loc="upper left")
    probes.fluctuations.plot_half_time(network, ax=e)
    e.set_title("MSE network: half time against T")
    probes.curvature.plot_eigenvalues(spectrum, ax=f, scaled=False)
    f.axhline(SAMPLES / spectrum.sizes["eigenvalue"], color=ORANGE, lw=1)
    f.set_title("MSE network: n stiff directions (line), others")
    return figure


if __name__ == "__main__":
    command_line(reproduce)
