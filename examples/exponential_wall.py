r"""Exponential walls: why the loss of a classifier falls as its temperature does
===============================================================================

The cross-entropy of one sample, :math:`\ell = \ln(1 + B e^{a x})`, is an exponential wall: it has no minimum, and a
particle on it sits the farther out the colder it is. With a hard wall at :math:`-x^*` there is an exact law. For
:math:`\ell = B e^{a x}` and :math:`z_0 = \ell(-x^*)/T` it is

.. math:: Z = E_1(z_0)/a, \qquad \langle \ell \rangle = T e^{-z_0} / E_1(z_0), \qquad
          \langle \ell'' \rangle = a^2 \langle \ell \rangle ,

and for :math:`z_0 \ll 1`, with :math:`\Lambda = a x^* + \ln(T/B) - \gamma`, to leading order

.. math:: \langle \ell \rangle = T/\Lambda, \quad \operatorname{var} \ell = T^2 (\Lambda - 1)/\Lambda^2, \quad
          \beta T = \Lambda/(\Lambda - 1), \quad \tau_{1/2} \propto 1/(a^2 T) .

Jules, Brenner, Kachman, Levi and Bar-Sinai (2023) derive the leading order (equations 9 to 11 and Fig. 4; S12 to S24).
Their S19 has the wrong overall sign, S20 prints the variance as the second moment, S27 lacks a factor 1/2, and S24
needs :math:`z_0 \ll 1` and not just :math:`T \ll 1`. Simulation is held against the exact law; the leading order
beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import landscape as ls
from landscape import potentials, probes
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

TEMPERATURES = (1e-3, 1e-2, 1e-1)
CUTOFF, WALLS = 15.0, 20
EULER_GAMMA = 0.57721566490153286
ORANGE, BLUE, GREEN, GREY = "#D55E00", "#0072B2", "#009E73", "0.45"


def wall(form: str = "exponential") -> potentials.ExponentialWall:
    """The wall, with a = B = 1."""
    return potentials.ExponentialWall(cutoff=CUTOFF, form=form)


def large_lambda(temperature: Any) -> Any:
    """The logarithm that all leading orders contain."""
    return CUTOFF + np.log(temperature) - EULER_GAMMA


def reproduce(size: str, seed: int) -> Reproduction:
    """One wall at three temperatures, then many walls, made of chains that are independent anyway."""
    run = simulate(by_size(size, quick=40, small=400, paper=2000), seed)
    one = probes.fluctuations.summary(run.energy, by="temperature")
    many = probes.fluctuations.summary(together(run), by="temperature")
    scan = probes.fluctuations.temperature_scan(one)
    curvature = curvatures(run)
    verdicts = [*judge_one(one, scan), *judge_many(many), *judge_curvature(curvature)]
    datasets = {"one_wall": one, "many_walls": many, "scan": scan, "curvature": curvature}
    return Reproduction(datasets, draw(run, one, many, curvature), verdicts)


# %%
# Time is measured in 1/(a^2 T), so the step is too: dt = 0.02/T. A particle diffuses over the whole plateau within
# about x*^2/2 = 110 such units. The smooth wall of cross-entropy is stable at any of these steps, the exponential one
# nearly so: it is reached at energies of a few T.


def simulate(chains: int, seed: int) -> xr.Dataset:
    """Positions and energies every 0.2 units of 1/(a^2 T)."""
    settings: dict[str, Any] = {
        "temperature": ls.grid(temperature=TEMPERATURES, replicas=chains)["temperature"],
        "seed": seed,
    }
    rule = ls.LeimkuhlerMatthews(dt=0.02 / settings["temperature"])
    start = np.tile(np.linspace(-CUTOFF, -np.log(100), chains), len(TEMPERATURES))[:, None]
    warm = ls.simulate(wall(), rule, start=start, steps=25_000, record=ls.Record(25_000), **settings)
    return ls.simulate(wall(), rule, start=warm, state="keep", steps=50_000, record=ls.Record(10), **settings)


def together(run: xr.Dataset) -> xr.DataArray:
    """Energy of twenty independent walls: the sum over groups of twenty chains."""
    sums = run.energy.to_numpy().reshape(-1, WALLS, run.sizes["draw"]).sum(axis=1)
    few: xr.DataArray = run.energy[::WALLS].copy(data=sums)
    return few


def curvatures(run: xr.Dataset) -> xr.Dataset:
    """Mean of the second derivative, here a^2 times the energy, at each temperature."""
    second = (run.energy.mean("draw") / run.temperature).groupby("temperature")
    error = second.std(ddof=1) / second.count() ** 0.5
    return xr.Dataset({"curvature": second.mean(), "curvature_stderr": error})


def judge_one(one: xr.Dataset, scan: xr.Dataset) -> list[Verdict]:
    """Moments against the exact law and the leading order, at the coldest temperature, where z0 is 3e-4."""
    t = TEMPERATURES[0]
    cold, lam, law = one.sel(temperature=t), float(large_lambda(t)), wall()
    mean, variance = (cold["mean"] / t, cold.mean_stderr / t), (cold.variance / t**2, cold.variance_stderr / t**2)
    return [
        judge("one wall: <l>/T, exact", *mean, expected=law.mean_energy(t) / t, source="E1 formula"),
        judge("one wall: <l>/T = 1/Lambda", *mean, expected=1 / lam, source="P2 eq. 9"),
        judge("one wall: var l/T^2, exact", *variance, expected=law.energy_variance(t) / t**2, source="E1 formula"),
        judge("one wall: var l/T^2 = (Lambda - 1)/Lambda^2", *variance, expected=(lam - 1) / lam**2, source="P2 S20"),
        judge("one wall: half time ~ T^-1", scan.half_time_exponent, scan.half_time_exponent_stderr, expected=-1,
              source="P2 Fig. 2", tolerance=0.1, note="up to a logarithm, for which 0.1 is allowed"),
    ]  # fmt: skip


def judge_many(many: xr.Dataset) -> list[Verdict]:
    """n walls: by moments beta T = Lambda/(Lambda - 1), exactly T <l>/var l; alpha is n/(Lambda - 1) and not n/2."""
    t = TEMPERATURES[0]
    cold, law = many.sel(temperature=t), wall()
    shape, lam = law.mean_energy(t) ** 2 / law.energy_variance(t), float(large_lambda(t))
    by_moments = (cold.gamma_shape_moments * t / cold["mean"], cold.gamma_shape_moments_stderr * t / cold["mean"])
    return [
        judge("20 walls: alpha by moments, exact", cold.gamma_shape_moments, cold.gamma_shape_moments_stderr,
              expected=WALLS * shape, source="E1 formula"),
        judge("20 walls: beta T by moments = Lambda/(Lambda - 1)", *by_moments, expected=lam / (lam - 1), resolve=0.15,
              source="P2 S20-S24"),
        judge("20 walls: beta T = 1, as for a quadratic", *by_moments, expected=1, resolve=0.15, source="P2 Fig. 1"),
        judge("20 walls: alpha by likelihood is alpha by moments",
              cold.gamma_shape / cold.gamma_shape_moments, cold.gamma_shape_stderr / cold.gamma_shape_moments,
              expected=1, resolve=0.3, note="a factor of 2 for one wall; they merge for 20 or more"),
    ]  # fmt: skip


def judge_curvature(curvature: xr.Dataset) -> list[Verdict]:
    """The curvature is proportional to T up to a logarithm, where a quadratic has a constant."""
    t = TEMPERATURES[1]
    at = curvature.sel(temperature=t)
    exact = wall().mean_curvature(t) / t
    return [
        judge("one wall: <l''>/(a^2 T), exact", at.curvature, at.curvature_stderr, expected=exact, source="E1 formula"),
        judge("one wall: <l''>/(a^2 T) = 1/Lambda", at.curvature, at.curvature_stderr, expected=1 / large_lambda(t),
              source="P2 eq. 11", note=f"z0 = {np.exp(-CUTOFF) / t:.1g}"),
        judge("one wall: <l>/T = 1/Lambda wherever T << 1, here at T = 1e-6", wall().mean_energy(1e-6) / 1e-6, 0,
              expected=1 / large_lambda(1e-6), tolerance=0.05, source="P2 S24",
              note=f"z0 = {np.exp(-CUTOFF) / 1e-6:.1g} is not small there"),
        judge("softplus against exponential: <l> at T = 0.1 is larger by 5 %",
              wall("softplus").mean_energy(0.1) / wall().mean_energy(0.1) - 1, 0, expected=0.05, tolerance=0.01,
              source="closed forms"),
    ]  # fmt: skip


# %%
# Theory beside measurement.


def draw(run: xr.Dataset, one: xr.Dataset, many: xr.Dataset, curvature: xr.Dataset) -> Any:
    """Density, moments, curvature and entropy."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10.5, 8), layout="constrained")
    (a, b), (c, d) = axes
    x = np.linspace(-CUTOFF, 1, 400)
    for t, color in zip(TEMPERATURES, ("#440154", "#21918c", "#a0da39"), strict=True):
        where = run.position.isel(chain=run.temperature == t, coordinate=0).to_numpy().ravel()
        a.hist(where, 80, density=True, histtype="step", color=color, label=f"T = {t:g}")
        a.plot(x, wall().marginal(x, t), color=ORANGE, lw=1, label="exact" if t == TEMPERATURES[0] else None)
    a.set(xlabel="$x$ [length]", ylabel="probability density", title="one wall: where the particle is")
    wide = np.geomspace(1e-7, 0.3, 200)
    lam = large_lambda(wide)
    laws = {
        "mean": (wall().mean_energy(wide) / wide, 1 / lam, 1),
        "variance": (wall().energy_variance(wide) / wide**2, (lam - 1) / lam**2, 2),
    }
    for (name, (exact, leading, power)), color in zip(laws.items(), (BLUE, GREEN), strict=True):
        unit = one.temperature**power
        bar = 1.96 * one[f"{name}_stderr"] / unit
        b.errorbar(one.temperature, one[name] / unit, bar, fmt="o", ms=5, color=color, label=f"{name} / T$^{power}$")
        b.plot(wide, exact, color=color, lw=1)
        b.plot(wide[lam > 1.1], leading[lam > 1.1], ":", color=GREY, label="leading order" if power == 2 else None)
    bar = 1.96 * curvature.curvature_stderr
    b.errorbar(curvature.temperature * 1.15, curvature.curvature, bar, fmt="s", ms=5, mfc="none", color=ORANGE,
               label="curvature / ($a^2$T)")  # fmt: skip
    b.set(
        xlabel="temperature $T$ [energy]",
        ylabel="moments in units of T",
        title="one wall: moments, lines exact",
        xscale="log",
    )
    b.set(yscale="log", ylim=(0.06, 1.2))
    span = np.geomspace(TEMPERATURES[0] / 2, TEMPERATURES[-1] * 2, 100)
    shape = WALLS * np.asarray(wall().mean_energy(span)) ** 2 / np.asarray(wall().energy_variance(span))
    for name, color, text in (("gamma_shape_moments", BLUE, "moments"), ("gamma_shape", GREEN, "likelihood")):
        c.errorbar(many.temperature, many[name], 1.96 * many[f"{name}_stderr"], fmt="o", ms=5, color=color, label=text)
    c.plot(span, shape, color=BLUE, lw=1, label="exact, by moments")
    c.axhline(WALLS / 2, color=GREY, ls=":", label="n/2, if the walls were springs")
    c.set(xlabel="temperature $T$ [energy]", ylabel="shape $\\alpha$", title="20 walls: Gamma law", xscale="log")
    quadratic = wall().entropy(1e-2) + 0.5 * np.log(span / 1e-2)
    d.plot(span, wall().entropy(span), color=ORANGE, label="exact")
    d.plot(span, quadratic, ":", color=GREY, label="quadratic of that curvature: $\\frac{1}{2}\\ln T$")
    found = probes.free_energy.entropy(run.energy, wall().free_energy(one.temperature.to_numpy()))
    bar = 1.96 * found.entropy_stderr
    d.errorbar(found.temperature, found.entropy, bar, fmt="o", ms=5, color=BLUE, label="from the simulated energy")
    d.set(xlabel="temperature $T$ [energy]", ylabel="entropy $S$", title="one wall: entropy", xscale="log")
    for ax in (a, b, c, d):
        ax.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    command_line(reproduce)
