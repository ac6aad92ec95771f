r"""Entropic forces: the drift along a floor that is flat
======================================================

A particle in the valley :math:`V = \tfrac12 g(y)\,x^2` feels no energy along the floor :math:`x = 0`. Thermal noise
keeps it off the floor, and there the gradient pushes it along: averaged over x the force is
:math:`-\tfrac12 g' \langle x^2 \rangle = -\tfrac{T}{2} g'/g`, so that

.. math:: V_\mathrm{eff}(y) = \tfrac{T}{2} \ln g(y), \qquad P(y) \propto g(y)^{-1/2} .

Di Carlo, Goddard and Schwab (2026) print these laws without the factor 1/2 in their equations (2) and (3). Both are
held against a simulation here, as the law of y and as the drift itself. A ring of radius 1 whose stiffness depends on
the angle then shows a particle that starts on the ridge, the stiffest place, and leaves it although no energy asks it
to.

Which law holds depends on the noise: if its covariance across the valley is that of the Hessian, as minibatch noise is
near a minimum, then :math:`\langle x^2 \rangle = T` everywhere and the force is :math:`-\tfrac{T}{2} g'`: the effective
potential is :math:`\tfrac{T}{2} \operatorname{tr} H`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import landscape as ls
from landscape import potentials, probes
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

TEMPERATURE = 0.1
VALLEY = potentials.Valley(g="1 + y**2", bounds={"y": (-3, 3)})
RING = potentials.Ring(stiffness="50*(1 + 0.8*cos(theta))")
WIDTH = 0.4  # of the windows about the soft and the stiff angle, on either side
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.45"


def reproduce(size: str, seed: int) -> Reproduction:
    """Valley, ring and the two kinds of noise."""
    chains = by_size(size, quick=100, small=5000, paper=20_000)
    valley, ring, shaped = simulate_valley(chains, seed), simulate_ring(chains, seed), simulate_noises(chains, seed)
    y = valley.position.sel(coordinate="y")
    profile = probes.free_energy.profile(y, TEMPERATURE, bins=41, range=(-3, 3), zero="mean")
    drift = measure_drift(valley)
    verdicts = [*judge_valley(y, drift), *judge_ring(ring), *judge_noises(shaped)]
    datasets = {"valley_profile": profile, "valley_drift": drift, "ring": ring[["theta"]], "noises": shaped}
    return Reproduction(datasets, draw(profile, drift, ring, shaped), verdicts)


# %%
# The valley: spread over the floor at first, so that the run only has to forget a uniform start.


def simulate_valley(chains: int, seed: int) -> xr.Dataset:
    """Positions every 0.05 units of time, after 60 of them."""
    start = np.stack([np.zeros(chains), np.linspace(-2.9, 2.9, chains)], axis=1)
    settings: dict[str, Any] = {"temperature": TEMPERATURE, "seed": seed}
    rule = ls.LeimkuhlerMatthews(dt=5e-3)
    warm = ls.simulate(VALLEY, rule, start=start, steps=12_000, record=ls.Record(12_000), **settings)
    return ls.simulate(VALLEY, rule, start=warm, state="keep", steps=20_000, record=ls.Record(10), **settings)


def measure_drift(run: xr.Dataset) -> xr.Dataset:
    """Mean velocity along y in bins of y away from boundaries, and the factor c in v = -c T g'/g, chain by chain."""
    y = run.position.sel(coordinate="y").to_numpy()
    # A Leimkuhler-Matthews step shares half its noise with the step before, which its start has in it already: given
    # where it starts, a displacement shows the drift of half a step less.
    velocity = np.diff(y, axis=1) / (float(run.time[1] - run.time[0]) - 0.5 * float(run.dt[0]))
    y = y[:, :-1]
    edges = np.linspace(-2.25, 2.25, 19)
    inside = np.abs(y) < edges[-1]
    slope = np.where(inside, -TEMPERATURE * 2 * y / (1 + y**2), 0.0)  # -T g'/g
    factor = np.sum(velocity * slope, axis=1) / np.mean(np.sum(slope**2, axis=1))
    counts, sums = (
        np.stack([np.histogram(row, edges, weights=w)[0] for row, w in zip(y, weights, strict=True)])
        for weights in (np.ones_like(y), velocity)
    )
    mean = sums.sum(axis=0) / counts.sum(axis=0)
    scatter = (sums - mean * counts).std(axis=0, ddof=1) * len(y) ** 0.5 / counts.sum(axis=0)
    return xr.Dataset(
        {
            "velocity": ("y", mean, {"long_name": "drift velocity", "units": "length/time"}),
            "velocity_stderr": ("y", scatter),
            "factor": ("chain", factor, {"long_name": "c in v = -c T g'/g", "units": "1"}),
        },
        coords={"y": 0.5 * (edges[1:] + edges[:-1])},
    )


def judge_valley(y: xr.DataArray, drift: xr.Dataset) -> list[Verdict]:
    """Exact: P(|y| < 1) = asinh(1)/asinh(3); with P ~ 1/g it would be atan(1)/atan(3)."""
    inside = over_chains((abs(y) < 1).mean("draw"))
    square = over_chains((y**2).mean("draw"))
    grid = np.linspace(-3, 3, 20_001)
    factor = over_chains(drift.factor)
    return [
        judge(
            "valley: P(|y| < 1) from P ~ g^(-1/2)", *inside, expected=np.arcsinh(1) / np.arcsinh(3), resolve=0.07,
            source="P1 eq. 2 with the factor 1/2",
        ),
        judge(
            "valley: P(|y| < 1) from P ~ 1/g", *inside, expected=np.arctan(1) / np.arctan(3), resolve=0.07,
            source="P1 eq. 2 as printed",
        ),
        judge(
            "valley: <y^2> from P ~ g^(-1/2)", *square,
            expected=np.trapezoid(grid**2 * np.asarray(VALLEY.marginal(grid, TEMPERATURE)), grid),
        ),
        judge("valley: drift = -c T g'/g with c = 1/2", *factor, expected=0.5, source="P1 eq. 3 with the factor 1/2"),
        judge("valley: drift = -c T g'/g with c = 1", *factor, expected=1.0, source="P1 eq. 3 as printed"),
    ]  # fmt: skip


def over_chains(values: xr.DataArray) -> tuple[float, float]:
    """Mean over independent chains, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / values.size**0.5)


# %%
# The ring: every chain starts on the ridge, at the angle 0, where the stiffness is nine times that of the far side.


def simulate_ring(chains: int, seed: int) -> xr.Dataset:
    """The angle every half unit of time, from the ridge on."""
    run = ls.simulate(
        RING, ls.LeimkuhlerMatthews(dt=2e-3), start=[1.0, 0.0], chains=chains, temperature=TEMPERATURE,
        steps=100_000, record=ls.Record(250), seed=seed,
    )  # fmt: skip
    x, y = run.position.sel(coordinate="x"), run.position.sel(coordinate="y")
    return run.assign(theta=np.arctan2(y, x).assign_attrs(long_name="angle", units="rad"))


def judge_ring(run: xr.Dataset) -> list[Verdict]:
    """The soft side against the ridge, in windows, after 80 units of time; printed, it would be about 9 and not 3."""
    theta = run.theta.where(run.time > 80, drop=True)
    soft, stiff = (abs(theta) > np.pi - WIDTH).mean("draw"), (abs(theta) < WIDTH).mean("draw")
    ratio = float(soft.mean() / stiff.mean())
    error = over_chains(soft - ratio * stiff)[1] / float(stiff.mean())
    near, far = np.linspace(-WIDTH, WIDTH, 2001), np.linspace(np.pi - WIDTH, np.pi + WIDTH, 2001)
    half, printed = (
        integral(far, law) / integral(near, law) for law in (lambda a: RING.marginal(wrap(a), TEMPERATURE), inverse)
    )
    return [
        judge("ring: soft side over ridge, P ~ k^(-1/2)", ratio, error, expected=half, source="P1 Fig. 1, with 1/2"),
        judge("ring: soft side over ridge, P ~ 1/k", ratio, error, expected=printed, source="P1 Fig. 1, as printed"),
    ]


def wrap(angle: Any) -> Any:
    """The same angle between -pi and pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def inverse(angle: Any) -> Any:
    """1/k, the law as printed, not normalised."""
    return 1 / (50 * (1 + 0.8 * np.cos(angle)))


def integral(x: Any, law: Any) -> float:
    """Of a law over a window."""
    return float(np.trapezoid(np.asarray(law(x)), x))


# %%
# Thermal and Hessian-shaped noise, at a temperature so low that y stays where it started while x settles.


def simulate_noises(chains: int, seed: int) -> xr.Dataset:
    """Mean force along y over T at thirteen heights, for both kinds of noise."""
    heights = np.linspace(-3, 3, 13)
    start = np.stack([np.zeros(13 * chains), np.repeat(heights, chains)], axis=1)
    dt, cold = 0.01, 1e-5
    shaped = ls.HessianNoise(coordinates=["x"], isotropic=1.0)
    columns: dict[str, Any] = {}
    for name, noise in (("thermal", None), ("hessian", shaped)):
        run = ls.simulate(
            potentials.Valley("1 + y**2"), ls.EulerMaruyama(dt, noise), start=start, temperature=cold, steps=800,
            record=ls.Record(50), seed=seed,
        )  # fmt: skip
        x, y = (run.position.sel(coordinate=c).isel(draw=slice(8, None)) for c in "xy")
        force = (-y * x**2 / cold).mean("draw").to_numpy().reshape(13, chains)  # -dV/dy over T
        columns[name] = (
            "y",
            force.mean(axis=1),
            {"long_name": f"mean force over T, {name} noise", "units": "1/length"},
        )
        columns[f"{name}_stderr"] = ("y", force.std(axis=1, ddof=1) / chains**0.5)
    return xr.Dataset(columns, coords={"y": heights}, attrs={"dt": dt})


def judge_noises(found: xr.Dataset) -> list[Verdict]:
    """At y = 2, with the factor 1/(1 - dt g/2) that a finite step has for either noise."""
    at = found.sel(y=2.0)
    step = 1 - found.attrs["dt"] * 5 / 2
    return [
        judge("thermal noise: force at y = 2 is -(T/2) g'/g", at.thermal, at.thermal_stderr, expected=-0.4 / step,
              source="V_eff = (T/2) ln det H"),
        judge("Hessian-shaped noise: force at y = 2 is -(T/2) g'", at.hessian, at.hessian_stderr, expected=-2 / step,
              source="V_eff = (T/2) tr H"),
    ]  # fmt: skip


# %%
# Theory beside measurement.


def draw(profile: xr.Dataset, drift: xr.Dataset, ring: xr.Dataset, shaped: xr.Dataset) -> Any:
    """Free energy and drift in the valley, the ring with time, and the two kinds of noise."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10.5, 8), layout="constrained")
    (a, b), (c, d) = axes
    y = np.linspace(-3, 3, 301)
    probes.free_energy.plot_profile(
        profile, ax=a, theory=np.asarray(VALLEY.effective_potential(profile.y, TEMPERATURE))
    )
    printed = TEMPERATURE * np.log(1 + profile.y**2)
    a.plot(profile.y, printed - printed.mean(), ":", color=GREY, label="$T\\,\\ln g$, as printed")
    a.lines[1].set_label("$(T/2)\\,\\ln g$")
    a.set(
        xlabel="$y$ [length]",
        ylabel="free energy $F$ [energy]",
        title=f"valley: effective potential, T = {TEMPERATURE}",
    )
    b.errorbar(drift.y, drift.velocity, 1.96 * drift.velocity_stderr, fmt="o", ms=4, color=BLUE, label="measured, 95 %")
    for factor, style, color, text in (
        (0.5, "-", ORANGE, "$-(T/2)\\,g'/g$"),
        (1, ":", GREY, "$-T\\,g'/g$, as printed"),
    ):
        b.plot(y, -factor * TEMPERATURE * 2 * y / (1 + y**2), style, color=color, label=text)
    b.set(
        xlabel="$y$ [length]",
        ylabel="drift velocity [length/time]",
        title="valley: drift along the floor",
        xlim=(-2.5, 2.5),
    )
    angle = np.linspace(-np.pi, np.pi, 361)
    for low, high, color in ((0, 2, "#56B4E9"), (5, 10, GREEN), (80, 200, BLUE)):
        during = ring.theta.where((ring.time > low) & (ring.time < high), drop=True).to_numpy().ravel()
        c.hist(
            during,
            np.linspace(-np.pi, np.pi, 62),
            density=True,
            histtype="step",
            color=color,
            label=f"{low} < t < {high}",
        )
    c.plot(angle, RING.marginal(angle, TEMPERATURE), color=ORANGE, label="exact, $\\approx k^{-1/2}$")
    c.plot(angle, inverse(angle) / integral(angle, inverse), ":", color=GREY, label="$1/k$, as printed")
    c.set(
        xlabel="angle $\\theta$ [rad]", ylabel="probability density", title="ring: leaving the ridge at 0", yscale="log"
    )
    c.set_ylim(0.02, 6)
    laws = {"thermal": (-y / (1 + y**2), BLUE, "$-(T/2)\\,g'/g$"), "hessian": (-y, GREEN, "$-(T/2)\\,g'$")}
    step = 1 - shaped.attrs["dt"] * (1 + y**2) / 2  # what a finite step divides either law by
    for name, (law, color, text) in laws.items():
        d.plot(y, law / step, color=color, lw=1, label=text)
        d.errorbar(
            shaped.y, shaped[name], 1.96 * shaped[f"{name}_stderr"], fmt="o", ms=4, color=color, label=f"{name} noise"
        )
    d.set(xlabel="$y$ [length]", ylabel="mean force / T [1/length]", title="the noise decides on the law")
    for ax in (a, b, c, d):
        ax.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    command_line(reproduce)
