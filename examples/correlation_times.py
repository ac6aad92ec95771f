r"""Correlation times of a network's loss, and how many samples share it
=====================================================================

Jules, Brenner, Kachman, Levi and Bar-Sinai (2023), Fig. 2: near a minimum of its cross-entropy the loss of a small
classifier forgets itself in a half-life :math:`\tau_{1/2} \propto 1/T`, so that the length
:math:`\sqrt{T \tau_{1/2}}`, about the reach 1/a of an exponential wall, is the same at all temperatures and the
autocorrelations collapse as functions of :math:`2 T t`. Their tail is slow; they call it logarithmic.

The participation ratio :math:`\phi = (\sum_i \ell_i)^2 / \sum_i \ell_i^2` counts the samples that share the loss. They
find it equal to the shape :math:`\alpha` of the Gamma distribution of the loss and call :math:`\alpha` twice the number
of constrained directions. For a quadratic :math:`\alpha = N_c/2` is half of that number, and for n samples that
contribute independently and alike :math:`\phi = n r/(1 + r)` with :math:`r = \alpha/n`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import landscape as ls
from landscape import potentials, probes
from landscape.examples._random_labels import REACH, SAMPLES, average, half_times, network
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

TAIL = (0.02, 0.4)  # values of the autocorrelation that are called its tail
FORMS: dict[str, tuple[Any, Any]] = {  # of the tail, each a line in the transformed axes
    "logarithm": (np.log, lambda rho: rho),
    "exponential": (lambda t: t, np.log),
    "power law": (np.log, np.log),
}


def reproduce(size: str, seed: int) -> Reproduction:
    """Four chains a temperature, whose scatter gives the errors where a chain is short for its correlations."""
    temperatures = np.geomspace(*by_size(size, quick=(1e-6, 5e-5, 2), small=(2e-7, 5e-5, 5), paper=(1e-7, 5e-5, 12)))
    steps = by_size(size, quick=12_000, small=20_000, paper=1_000_000)
    loss = network(seed)
    run, shared = simulate(loss, temperatures, steps, seed)
    correlation = probes.fluctuations.autocorrelation(in_steps(run.energy), 400, by="temperature")
    summary = probes.fluctuations.summary(in_steps(run.energy), by="temperature", discard=0)
    phi = probes.fluctuations.participation_ratio(in_steps(shared.sample_energies), by="temperature")
    times, tails = measure_times(run), tail_errors(correlation)
    verdicts = [*judge_times(times), *judge_tails(tails), *judge_participation(phi, summary)]
    datasets_ = {
        "half_time": times,
        "autocorrelation": correlation,
        "participation": phi,
        "summary": summary,
        "tail": tails,
    }
    return Reproduction(datasets_, draw(correlation, times, tails, phi, summary), verdicts)


def simulate(loss: potentials.NetworkLoss, temperatures: Any, steps: int, seed: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Energies, then more of the same run with the loss of every sample."""
    minimum = ls.minimize(loss, steps=60_000, tolerance=1e-8)
    settings: dict[str, Any] = {
        "temperature": ls.grid(temperature=temperatures, replicas=4)["temperature"],
        "seed": seed,
    }
    rule = ls.EulerMaruyama(dt=REACH / settings["temperature"])
    warm = ls.simulate(loss, rule, start=minimum, steps=steps, record=ls.Record(steps), **settings)
    run = ls.simulate(loss, rule, start=warm, state="keep", steps=steps, record=ls.Record(5), **settings)
    shared = ls.simulate(
        loss, rule, start=run, state="keep", steps=steps // 5, record=ls.Record(100, ["sample_energies"]), **settings
    )
    return run, shared


def in_steps(series: xr.DataArray) -> xr.DataArray:
    """The series with 2 T t as its time, which is the same for all temperatures."""
    return series.assign_coords(time=("draw", 2 * REACH * series.step.to_numpy()))


# %%
# Half-lives chain by chain, straight from the first crossing of one half.


def measure_times(run: xr.Dataset) -> xr.Dataset:
    """On `temperature`: half-life, length, and the exponent of each replica."""
    t = run.temperature.to_numpy().reshape(-1, 4)
    share = half_times(run.energy, 400).to_numpy().reshape(-1, 4) / run.sizes["draw"]
    tau = share * steps_of(run) * REACH / t
    length = (t * tau) ** 0.5
    columns = {"half_time": tau, "length": length}
    data = {name: ("temperature", values.mean(axis=1)) for name, values in columns.items()}
    data |= {f"{name}_stderr": ("temperature", values.std(axis=1, ddof=1) / 2) for name, values in columns.items()}
    slopes = np.polyfit(np.log(t[:, 0]), np.log(tau), 1)[0]
    return xr.Dataset(
        data | {"exponent": ("replica", slopes), "longest_share": ("temperature", share.max(axis=1))},
        coords={"temperature": t[:, 0]},
    )


def steps_of(run: xr.Dataset) -> int:
    """How many steps a run took while it was recorded."""
    return int(run.step[-1] - run.step[0]) + 5


def judge_times(times: xr.Dataset) -> list[Verdict]:
    """The law of the half-life, and that the length does not depend on the temperature."""
    slope, error = average(times.exponent)
    return [
        judge("half time ~ T^-1", slope, error, expected=-1, resolve=0.3, source="P2 Fig. 2"),
        judge("length sqrt(T tau) ~ T^0", 0.5 * (1 + slope), 0.5 * error, expected=0, resolve=0.15, source="P2 Fig. 2"),
        judge(
            "half times are below 1/100 of a chain", times.longest_share.max(), 0, below=0.01, source="P2's own rule"
        ),
    ]


# %%
# The tail: which of three two-parameter forms comes closest, by least squares in the autocorrelation itself.


def tail_errors(correlation: xr.Dataset) -> xr.Dataset:
    """Root mean square distance of each form from the tail, on `temperature`."""
    rows = []
    for rho in correlation.autocorrelation.to_numpy():
        end = int(np.argmax(rho < TAIL[0])) or rho.size
        start = int(np.argmax(rho < TAIL[1]))
        t, y = np.arange(start, end, dtype=float), rho[start:end]
        row = []
        for of_time, of_value in FORMS.values():
            line = np.polyval(np.polyfit(of_time(t), of_value(y), 1, w=weights(of_value, y)), of_time(t))
            row.append(np.sqrt(np.mean(((np.exp(line) if of_value is np.log else line) - y) ** 2)))
        rows.append(row)
    found = {"distance": (("temperature", "form"), np.array(rows), {"long_name": "rms distance from the tail"})}
    return xr.Dataset(found, coords={"temperature": correlation.temperature, "form": list(FORMS)})


def weights(of_value: Any, y: Any) -> Any:
    """A line in ln(rho) is fitted with weight rho, so that all forms minimise about the same distance."""
    return y if of_value is np.log else np.ones_like(y)


def judge_tails(tails: xr.Dataset) -> list[Verdict]:
    """The logarithm against each of the others; the scatter is that between temperatures."""
    verdicts = []
    for other in ("exponential", "power law"):
        ratio = np.log(tails.distance.sel(form="logarithm") / tails.distance.sel(form=other))
        claim = f"tail: a logarithm is closer than {'an' if other[0] == 'e' else 'a'} {other}, ln of distances"
        verdicts.append(judge(claim, *average(ratio), below=0, source="P2 Fig. 2"))
    return verdicts


# %%
# Participation: phi against alpha.


def judge_participation(phi: xr.Dataset, summary: xr.Dataset) -> list[Verdict]:
    """phi/alpha, and phi against independent samples; errors of both, averaged over temperatures."""
    alpha, d_alpha = summary.gamma_shape, summary.gamma_shape_stderr
    value, error = phi.participation_ratio, phi.participation_ratio_stderr
    relative = np.hypot(error / value, d_alpha / alpha)
    independent = alpha / (1 + alpha / SAMPLES)
    count = value.size
    claims = (
        (alpha, "phi = alpha", "P2 Fig. 2"),
        (independent, "phi = n r/(1 + r), r = alpha/n", "independent samples"),
    )
    verdicts = [
        judge(f"{text}: ratio of both sides", (value / law).mean(),
              float((((value / law) * relative) ** 2).sum() ** 0.5) / count, expected=1, resolve=0.5, source=source)
        for law, text, source in claims
    ]  # fmt: skip
    by_mean = summary["mean"] / summary.temperature
    relative = np.hypot(d_alpha / alpha, summary.mean_stderr / summary["mean"])
    verdicts.append(
        judge("alpha = N_c/2, with N_c = 2<L>/T as for a quadratic: ratio", (alpha / by_mean).mean(),
              float(((alpha / by_mean * relative) ** 2).sum() ** 0.5) / count, expected=1, resolve=0.5,
              source="P2's N_c = alpha/2 would make it 4")
    )  # fmt: skip
    return verdicts


# %%
# Theory beside measurement.


def draw(correlation: xr.Dataset, times: xr.Dataset, tails: xr.Dataset, phi: xr.Dataset, summary: xr.Dataset) -> Any:
    """Collapse, half-lives, tail and participation."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10.5, 8), layout="constrained")
    (a, b), (c, d) = axes
    probes.fluctuations.plot_autocorrelation(correlation, ax=a)
    a.set(xlabel="$2Tt$ [length$^2$]", title="collapse in 2 T t")
    b.errorbar(
        times.temperature, times.half_time, 1.96 * times.half_time_stderr, fmt="o", color="#0072B2", label="measured"
    )
    level = float((times.half_time * times.temperature).mean())
    b.plot(times.temperature, level / times.temperature, color="#D55E00", label="$\\propto 1/T$")
    b.set(
        xscale="log", yscale="log", xlabel="temperature $T$", ylabel="half time $\\tau_{1/2}$ [time]", title="half time"
    )
    b.legend(frameon=False, fontsize=8)
    for i, (name, color) in enumerate(zip(FORMS, ("#0072B2", "#D55E00", "#009E73"), strict=True)):
        c.plot(tails.temperature, tails.distance[:, i], "os^"[i], ls="-", color=color, label=name)
    c.set(xscale="log", yscale="log", xlabel="temperature $T$", ylabel="rms distance from the tail",
          title=f"tail, {TAIL[0]} < $\\chi_L$ < {TAIL[1]}: which form is closest")  # fmt: skip
    c.legend(frameon=False, fontsize=8)
    probes.fluctuations.plot_participation_ratio(phi, ax=d, summary=summary)
    d.set_title("samples that share the loss")
    return figure


if __name__ == "__main__":
    command_line(reproduce)
