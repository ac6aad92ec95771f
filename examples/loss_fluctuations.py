r"""Fluctuations of a network's loss: mean, deviation and Gamma distribution against temperature
===================================================================================

Jules, Brenner, Kachman, Levi and Bar-Sinai (2023), Fig. 1, let a small classifier (883 weights, 300 random labels)
diffuse near a minimum of its cross-entropy by Langevin dynamics. They find that the mean loss and its standard
deviation are proportional to the temperature and that the loss has a Gamma distribution with :math:`\beta T = 1`, as if
the minimum were quadratic, which it is not.

Whatever the landscape, equilibrium asks for :math:`\sigma^2 = T^2\, d\mu/dT`. But :math:`e^{-L/T}` has no norm here:
all states are transient, and the loss depends on how far the network has diffused, that is on :math:`T t`. At the sizes
quick and small therefore every temperature diffuses equally far: the time step is proportional to 1/T, equal to the
paper's 0.01 at the hottest, and half of that as a check. At the size paper the step is theirs at every temperature.

Also here: their S1 (the same statistics a fixed time after the initialisation), S2 (spikes and drift bound the
temperature from above), and handwritten digits, which they leave open.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import landscape as ls
from landscape import potentials, probes
from landscape.examples._random_labels import REACH, average, half_times, network, student
from landscape.potentials import architectures, datasets
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.45"
HOTTER = 5e-4  # beyond the range of temperatures, as in S2
EVERY = 10
COLUMNS = [
    "discarded",
    "mean",
    "variance",
    "gamma_shape",
    "gamma_rate",
    "rate_times_temperature",
    "resolved",
    "stationary",
]


def reproduce(size: str, seed: int) -> Reproduction:
    """Scan in the temperature at two step sizes from several minima; digits; from initialisation."""
    coldest, count = by_size(size, quick=(1e-6, 3), small=(1e-7, 8), paper=(1e-7, 12))
    temperatures = np.geomspace(coldest, 5e-5, count)
    steps = by_size(size, quick=3_000, small=40_000, paper=10_000_000)
    minima = by_size(size, quick=2, small=2, paper=10)
    common: Any = {"scaled": size != "paper", "tolerance": by_size(size, quick=1e-6, small=1e-8, paper=1e-8)}
    run = simulate(network(seed), np.append(temperatures, HOTTER), steps, minima, seed, **common)
    some = temperatures[:: -(count // 3)]
    finer = simulate(network(seed), temperatures[::-2], 2 * steps, 1, seed, **common, factor=0.5)
    digits = simulate(handwritten(seed), some, steps, 1, seed, **common)
    scans = {"network": measure(run), "half_the_step": measure(finer), "digits": measure(digits)}
    early = from_initialisation(by_size(size, quick=300, small=5600, paper=5600), 3, seed)
    verdicts = judge_scan(**scans) + judge_bounds(run) + judge_early(early)
    energies = run[["energy"]].isel(draw=slice(None, None, 10))
    return Reproduction(scans | {"energies": energies, "from_initialisation": early}, draw(run, scans, early), verdicts)


# %%
# To a minimum by Adam, and then into the heat.


def handwritten(seed: int) -> potentials.NetworkLoss:
    """The same hidden layers on 300 digits of 8 x 8 pixels."""
    data = datasets.digits(seed=seed, standardize=True).subset(300, seed, balanced=True)
    return potentials.NetworkLoss(architectures.mlp((64, 20, 20, 10, 10), seed=seed).double(), data)


def simulate(
    loss: potentials.NetworkLoss,
    temperatures: Any,
    steps: int,
    minima: int,
    seed: int,
    *,
    scaled: bool,
    tolerance: float,
    factor: float = 1.0,
) -> xr.Dataset:
    """A chain per temperature and minimum, after half as many steps; `factor` shortens the step."""
    settings = ls.grid(temperature=temperatures, replicas=minima)
    starts = initial_weights(loss, minima, seed)
    found = [ls.minimize(loss, start, steps=60_000, tolerance=tolerance) for start in starts]
    start = np.stack([found[k].position.to_numpy() for k in settings["replica"].values])
    rule = ls.EulerMaruyama(dt=factor * (REACH / settings["temperature"].values if scaled else 1e-2))
    common: dict[str, Any] = {"temperature": settings["temperature"], "seed": seed}
    warm = ls.simulate(loss, rule, start=start, steps=steps // 2, record=ls.Record(steps // 2), **common)
    run = ls.simulate(loss, rule, start=warm, state="keep", steps=steps, record=ls.Record(EVERY), **common)
    return run.assign_coords(minimum=("chain", settings["replica"].values))


def initial_weights(loss: potentials.NetworkLoss, count: int, seed: int) -> list[Any]:
    """Weights of networks of the same shape."""
    modules = [architectures.mlp(loss.plain_mlp.sizes, seed=seed + k) for k in range(count)]  # type: ignore[union-attr]
    return [np.concatenate([p.detach().numpy().ravel() for p in module.parameters()]) for module in modules]


# %%
# Every run has diffused equally far, so that runs at different temperatures can be compared although none is stationary
# for ever. Errors are the scatter between runs: no run has to say how well it is known.


def measure(run: xr.Dataset) -> xr.Dataset:
    """Moments, Gamma distribution and half-life of each run, on `minimum` and `temperature`."""
    chosen = run.isel(chain=np.flatnonzero(run.temperature < HOTTER))
    rows = probes.fluctuations.summary(chosen.energy, by="chain", discard=0)[COLUMNS]
    lags = min(5000, chosen.sizes["draw"] // 8)
    halves = (half_times(chosen.energy, lags) / chosen.sizes["draw"]).assign_attrs(long_name="half time over length")
    rows = rows.assign(half_time_share=halves.drop_vars("temperature")).drop_vars("chain")
    rows = rows.assign_coords(minimum=("chain", chosen.minimum.to_numpy()))
    return rows.set_index(chain=["minimum", "temperature"]).unstack("chain")


def exponent(values: xr.DataArray) -> tuple[float, float]:
    """Slope of ln(values) against ln T, with a constant for each minimum: minima differ in their stiff directions."""
    x, logs = np.log(values.temperature), xr.DataArray(np.log(values))
    y = logs - logs.mean("temperature")
    x = (x - x.mean()).broadcast_like(y)
    slope = float((x * y).sum() / (x**2).sum())
    freedom = y.size - y.sizes["minimum"] - 1
    scatter = float(((y - slope * x) ** 2).sum() / freedom / (x**2).sum()) ** 0.5
    return slope, scatter * student(freedom)


def judge_scan(network: xr.Dataset, half_the_step: xr.Dataset, digits: xr.Dataset) -> list[Verdict]:
    """The claims of Fig. 1, the relation that equilibrium asks for, and what the step size does."""
    slope = exponent(network["mean"])[0]
    relation = network.variance / (slope * network.temperature * network["mean"])
    still = network.stationary & network.resolved
    count = f"{int(still.sum())} of {still.size} runs alone are long for all their correlations and show no drift"
    same = half_the_step / network.sel(temperature=half_the_step.temperature, minimum=half_the_step.minimum)
    return [
        judge("mean loss ~ T^1", *exponent(network["mean"]), expected=1, source="P2 Fig. 1", note=count),
        judge("standard deviation ~ T^1", *exponent(network.variance**0.5), expected=1, source="P2 Fig. 1"),
        judge("beta T = 1", *average(network.rate_times_temperature), expected=1, source="P2 Fig. 1"),
        judge("sigma^2 / (T^2 dmu/dT) = 1", *average(relation), expected=1, source="any equilibrium",
              note="slow changes within a run add to sigma^2"),
        judge("half times are below 1/100 of the run at all temperatures", network.half_time_share.max(), 0,
              below=0.01, source="P2's own rule"),
        judge("mean loss at half the step over that at the whole", *average(same["mean"]), expected=1),
        judge("beta T at half the step over that at the whole", *average(same.rate_times_temperature), expected=1),
        judge("digits: mean loss ~ T^1", *exponent(digits["mean"]), expected=1, source="P2's open question"),
        judge("digits: beta T = 1", *average(digits.rate_times_temperature), expected=1, source="P2's open question"),
    ]  # fmt: skip


def judge_bounds(run: xr.Dataset) -> list[Verdict]:
    """Spikes where P2 has them, and the drift of a run that is too hot."""
    hottest = float(run.temperature.where(run.temperature < HOTTER).max())
    spikes = probes.fluctuations.spikes(run.energy[run.temperature.to_numpy() == hottest])
    count, error = float(spikes["count"].sum()), float((spikes.count_stderr**2).sum() ** 0.5)
    summary = probes.fluctuations.summary(run.energy[run.temperature.to_numpy() == HOTTER], discard=0)
    drift = float((summary.drift / HOTTER).mean())
    scatter = float((summary.drift_stderr / HOTTER).mean() / summary.sizes["chain"] ** 0.5)
    return [
        judge(f"spikes at T = {hottest:.0e}, dt = 0.01", count, error, above=0, source="P2 S2"),
        judge("the loss drifts at T = 5e-4, dt = 0.001: second half against first, over T", drift, scatter, below=0,
              source="P2 S2"),
    ]  # fmt: skip


# %%
# S1: a fixed time after the initialisation nothing is stationary, and the mean is a weak power of T.


def from_initialisation(end: int, replicas: int, seed: int) -> xr.Dataset:
    """Mean and variance of the loss in the last 200 units of time, at a step of 0.1."""
    loss, temperatures = network(seed), np.geomspace(5e-8, 1.25e-6, 4)
    chains = ls.grid(temperature=list(temperatures), replicas=replicas)["temperature"]
    run = ls.simulate(
        loss, ls.EulerMaruyama(dt=0.1), temperature=chains, steps=10 * end, record=ls.Record(EVERY), seed=seed
    )
    late = run.energy.where(run.time > end - 200, drop=True).to_numpy().reshape(4, replicas, -1)
    mean, variance = late.mean(axis=2), late.var(axis=2, ddof=1)
    columns = {"mean": mean.mean(axis=1), "mean_stderr": mean.std(axis=1, ddof=1) / replicas**0.5}
    columns |= {"variance": variance.mean(axis=1), "variance_stderr": variance.std(axis=1, ddof=1) / replicas**0.5}
    slopes = np.polyfit(np.log(temperatures), np.log(mean), 1)[0]
    return xr.Dataset(
        {name: ("temperature", column) for name, column in columns.items()} | {"exponent": ("replica", slopes)},
        coords={"temperature": temperatures},
        attrs={"end": end},
    )


def judge_early(early: xr.Dataset) -> list[Verdict]:
    """mu = A T^alpha with A = 0.0027 and alpha = 0.22, and sigma^2 = T^2 dmu/dT with that law."""
    alpha, error = float(early.exponent.mean()), float(early.exponent.std(ddof=1) / early.exponent.size**0.5)
    ratio = early.variance / (alpha * early.temperature * early["mean"])
    spread = float(ratio.std(ddof=1)) / ratio.size**0.5
    at = early["mean"].interp(temperature=2.5e-7)
    error_at = early.mean_stderr.interp(temperature=2.5e-7)
    when = f"t = {early.attrs['end'] - 200} to {early.attrs['end']}"
    return [
        judge(f"from initialisation, {when}: exponent of the mean is 0.22", alpha, error, expected=0.22,
              source="P2 S1"),
        judge(f"from initialisation, {when}: mean at T = 2.5e-7 is 0.0027 T^0.22", at, error_at,
              expected=0.0027 * 2.5e-7**0.22, source="P2 S1"),
        judge(f"from initialisation, {when}: sigma^2 / (T^2 dmu/dT) = 1", ratio.mean(), spread, expected=1,
              source="P2 S1"),
    ]  # fmt: skip


# %%
# Theory beside measurement.


def draw(run: xr.Dataset, scans: dict[str, xr.Dataset], early: xr.Dataset) -> Any:
    """Traces, distributions and moments at many temperatures, and S1."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8.5), layout="constrained")
    (a, b, c), (d, e, f) = axes
    first = run.energy.isel(chain=(run.minimum == 0) & (run.temperature < HOTTER))
    probes.fluctuations.plot_energy_trace(first.assign_coords(time=run.step / 1000), ax=a)
    a.set(xlabel="step / 1000", ylabel="loss", title="loss; a step diffuses equally far at any T")
    probes.fluctuations.plot_energy_distribution(first, scans["network"].isel(minimum=0), ax=b)
    b.set_ylim(0, 1.9 * b.get_ylim()[1])
    b.set_title("distribution of L/T, and Gamma laws")
    one = scans["network"]
    for values, color, marker, text in ((one["mean"], BLUE, "o", "mean"), (one.variance**0.5, GREEN, "s", "deviation")):
        points(c, values, color, marker, text)
        c.plot(one.temperature, float((values / one.temperature).mean()) * one.temperature, color=color, lw=0.8)
    c.set(xscale="log", yscale="log", ylabel="loss", title="mean and deviation; lines proportional to T")
    for (name, found), color, marker in zip(scans.items(), (BLUE, ORANGE, GREEN), "os^", strict=True):
        points(d, 2 * found["mean"] / found.temperature, color, marker, name.replace("_", " "))
        points(e, found.rate_times_temperature, color, marker, name.replace("_", " "))
    d.set(xscale="log", ylabel="$2\\langle L\\rangle/T$", ylim=(0, 50), title="stiff directions, if they were springs")
    e.set(xscale="log", ylabel="$\\beta T$ of the Gamma law", ylim=(0, 2), title="1 for a quadratic")
    e.axhline(1, color=GREY, ls=":")
    t, deviation = early.temperature, early.variance**0.5
    f.errorbar(t, early["mean"], 1.96 * early.mean_stderr, fmt="o", color=BLUE, label="mean")
    f.errorbar(t, deviation, 0.98 * early.variance_stderr / deviation, fmt="s", color=GREEN, label="deviation")
    f.plot(t, 0.0027 * t**0.22, color=BLUE, ls=":", label="P2 S1: $0.0027\\,T^{0.22}$")
    f.plot(t, (0.22 * 0.0027 * t**1.22) ** 0.5, color=GREEN, ls=":", label="P2 S1: its deviation")
    f.set(xscale="log", yscale="log", ylabel="loss", ylim=(1e-7, 1))
    f.set_title(f"from initialisation, t = {early.attrs['end'] - 200} to {early.attrs['end']}")
    for ax in (c, d, e, f):
        ax.set_xlabel("temperature $T$")
        ax.legend(frameon=False, fontsize=8)
    return figure


def points(ax: Any, values: xr.DataArray, color: str, marker: str, text: str) -> None:
    """One point a run, minima side by side."""
    for k in range(values.sizes["minimum"]):
        label = text if k == 0 else None
        ax.plot(values.temperature * 1.06**k, values.isel(minimum=k), marker, ms=4.5, color=color, label=label)


if __name__ == "__main__":
    command_line(reproduce)
