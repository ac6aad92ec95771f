"""`landscape demo`: a toy and a trained network, end to end, through the public interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.table import Table
from scipy.optimize import brentq
from torch.nn.functional import adaptive_avg_pool2d

import landscape as ls
from landscape import probes
from landscape.cli.console import console, measured
from landscape.cli.demo_figure import draw_figure
from landscape.cli.estimates import summary_table
from landscape.common.provenance import measured_from
from landscape.errors import ConfigError, StorageError
from landscape.potentials import NetworkLoss, Valley, architectures, datasets
from landscape.potentials.datasets.vision import find_torchvision

__all__ = ["run_demo"]

VALLEY_TEMPERATURE, CHAINS = 1.0, 1000
TEMPERATURES = (1e-6, 3e-6, 1e-5, 3e-5)  # below 1e-4: there the basin of the default network is no parabola any more
REPLICAS = 8
WEIGHT_DECAY = 5e-3  # holds every direction, so that there is an equilibrium: the theory is exact
STIFFNESS = 0.4  # step size times the largest eigenvalue; 2 is where a step is unstable
BURN_IN, MEASURED = 20, 100  # correlation times
DRAWS = 1000
LONGEST = 60_000  # steps of a network of REFERENCE_WORK; fewer of a larger one, so that it stays a matter of minutes
REFERENCE_WORK = 1510 * 300  # weights times samples of the digits


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what theory says of a quantity, and what was measured."""

    quantity: str
    theory: str
    value: float
    error: float
    target: float | None = None

    @property
    def verdict(self) -> str:
        """Distance from theory in standard errors."""
        if self.target is None or not (np.isfinite(self.value) and self.error > 0):
            return ""
        return f"{(self.value - self.target) / self.error:+.1f} σ"  # noqa: RUF001


def run_demo(data: str, folder: Path, *, seed: int, samples: int, quick: bool) -> None:
    """Both systems, their files, the figure and the table."""
    loss = _network(data, seed, samples)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {str(folder)!r}: {error.strerror}; give another --output"
        ) from error
    scale = 10 if quick else 1
    valley = Valley(g="1 + y**2", bounds={"y": (-3, 3)})
    toy = _simulate_valley(valley, seed, scale)
    floor = toy.position.sel(coordinate="y").isel(draw=slice(toy.sizes["draw"] // 4, None))
    profile = probes.free_energy.profile(floor, VALLEY_TEMPERATURE, bins=61, range=(-3, 3), zero="mean")
    console.print("[bold]A valley[/bold] V = (1 + y^2) x^2 / 2 between walls at y = -3 and 3. Its floor x = 0 is flat.")
    console.print("Noise drives a particle to where it is wide: P(y) ~ exp(-F/T) with F = (T/2) ln g, g = 1 + y^2.")
    console.print(_table(_valley_rows(valley, floor, profile)))

    minimum = ls.minimize(loss, tolerance=1e-5)
    spectrum = probes.curvature.eigenvalues(loss, minimum.position)
    console.print(
        f"\n[bold]A network[/bold] of {loss.dim} weights, {loss.samples} samples ({data}), at rest in a minimum: "
        f"L = {float(minimum.energy):.3g}."
    )
    console.print(
        "At temperature T each weight holds T/2: L rises by the number of weights times T/2, and follows a Gamma"
    )
    console.print("law of rate beta = 1/T and of shape alpha, half the number of weights.")
    run = _explore(loss, minimum, spectrum.eigenvalue.values, seed, scale)
    excess = (run.energy - float(minimum.energy)).assign_attrs(run.energy.attrs)
    summary = probes.fluctuations.summary(excess, by="temperature")
    scan = _scan(summary)
    files = {"valley": toy, "minimum": minimum, "spectrum": spectrum, "network": run, "fluctuations": summary}
    files |= {"valley_profile": profile}
    if scan is not None:
        files["temperature_scan"] = scan
    measured_on = {"fluctuations": run, "temperature_scan": run, "spectrum": minimum, "valley_profile": toy}
    for name, source in measured_on.items():
        if name in files:
            measured_from(files[name], files[name].attrs["probe"], [source])
    for name, dataset in files.items():
        ls.save(dataset, folder / f"{name}.nc")
    title = _title(loss, data)
    draw_figure(folder / "demo.png", excess, summary, loss.dim, profile, valley, VALLEY_TEMPERATURE, title)
    console.print(summary_table(summary))
    console.print("(of L above the minimum; N_eff: how many independent draws the run is worth)\n")
    console.print(_table(_network_rows(summary, scan, spectrum.eigenvalue.values)))
    if scan is None:
        console.print(
            "exponents were not fitted: they need at least two temperatures at which the run is resolved and stationary"
        )
    console.print("off by: distance from theory in standard errors (σ); 2 are common, 4 are not")  # noqa: RUF001
    console.print(f"wrote [bold]{folder}/[/bold]: demo.png and {', '.join(f'{name}.nc' for name in files)}")


def _network(data: str, seed: int, samples: int) -> NetworkLoss:
    """A layer of 20 tanh units on small data, so that it comes to rest and forgets within seconds."""
    if data == "random-labels":
        chosen = datasets.random_labels(100, seed=seed)
    elif data == "digits":
        chosen = datasets.digits(seed=seed, standardize=True).subset(samples, seed, balanced=True)
    else:
        with console.status(f"reading {data}"):
            chosen = _small_images(Path(data), samples, seed)
    module = architectures.mlp((chosen.inputs.shape[1], 20, chosen.classes), activation="tanh", seed=seed)
    return NetworkLoss(module, chosen, weight_decay=WEIGHT_DECAY)


def _small_images(path: Path, samples: int, seed: int) -> datasets.Data:
    """Images as 8 x 8 grey pixels in a row: what a network of this size can take."""
    if path.is_dir() and find_torchvision(path):
        data = datasets.load(path, samples=samples, seed=seed)
    else:
        data = datasets.load(path, samples=samples, evaluation_samples=0, size=8, grayscale=True, seed=seed)
    grey = data.inputs.mean(1, keepdim=True)
    pixels = adaptive_avg_pool2d(grey, 8).flatten(1)
    pixels = (pixels - pixels.mean()) / pixels.std()
    return datasets.Data(pixels, data.targets, data.classes, f"{data.name}, 8 x 8 grey")


def _simulate_valley(valley: Valley, seed: int, scale: int) -> xr.Dataset:
    """Spread over the floor at first, which the run has forgotten after a quarter."""
    rng = np.random.default_rng(seed)
    start = np.stack([np.zeros(CHAINS), rng.uniform(-3, 3, CHAINS)], axis=1)
    return ls.simulate(
        valley, ls.LeimkuhlerMatthews(dt=5e-3), start=start, temperature=VALLEY_TEMPERATURE, steps=200_000 // scale,
        record=ls.Record(every=200), seed=seed,
    )  # fmt: skip


def _explore(
    loss: NetworkLoss, minimum: xr.Dataset, eigenvalues: NDArray[np.float64], seed: int, scale: int
) -> xr.Dataset:
    """Langevin dynamics from the minimum: step and length are chosen by the curvature that is met there."""
    settings = ls.grid(temperature=TEMPERATURES, replicas=REPLICAS)
    stiffness = np.maximum(eigenvalues, 0.1 * WEIGHT_DECAY)
    dt = STIFFNESS / float(stiffness.max())
    forgotten = float(np.mean(0.5 / stiffness)) / dt  # steps: the energy forgets as the average of exp(-2 k t)
    longest = LONGEST * min(1.0, REFERENCE_WORK / (loss.dim * loss.samples))
    every = max(1, round(min(MEASURED * forgotten, longest) / scale / DRAWS))
    burn_in, steps = every * DRAWS * BURN_IN // MEASURED, every * DRAWS
    rule = ls.LeimkuhlerMatthews(dt=dt)  # exact for a parabola at any stable step
    common: dict[str, Any] = {"temperature": settings["temperature"], "seed": seed}
    warm = ls.simulate(loss, rule, start=minimum, steps=burn_in, record=ls.Record(burn_in), **common)
    run = ls.simulate(loss, rule, start=warm, state="keep", steps=steps, record=ls.Record(every), **common)
    run.attrs["comment"] = f"after {burn_in} steps from the minimum at the same temperature"
    return run


def _scan(summary: xr.Dataset) -> xr.Dataset | None:
    try:
        scan: xr.Dataset = probes.fluctuations.temperature_scan(summary)
        return scan
    except ConfigError:
        return None


def _valley_rows(valley: Valley, floor: xr.DataArray, profile: xr.Dataset) -> list[Row]:
    grid = np.linspace(-3, 3, 20_001)
    density = np.asarray(valley.marginal(grid, VALLEY_TEMPERATURE))
    square = float(np.trapezoid(grid**2 * density, grid))
    middle = np.linspace(-1, 1, 20_001)
    inside = float(np.trapezoid(np.asarray(valley.marginal(middle, VALLEY_TEMPERATURE)), middle))
    profile = probes.free_energy.profile(floor, VALLEY_TEMPERATURE, bins=61, range=(-3, 3), zero=0.0)
    at_two = profile.sel(y=2.0, method="nearest")
    width = float(profile.y[1] - profile.y[0])
    difference = _averaged(valley, at_two.y, width) - _averaged(valley, 0.0, width)
    step = (float(at_two.free_energy), float(at_two.free_energy_stderr))
    return [
        Row("<y^2>", f"{square:.4f}", *_over_chains((floor**2).mean("draw")), square),
        Row(
            "P(|y| < 1)",
            f"{inside:.4f} (not 0.6290 = T ln g)",
            *_over_chains((abs(floor) < 1).mean("draw")),
            inside,
        ),
        Row(f"F({float(at_two.y):.2f}) - F(0)", f"{difference:.5f} = (T/2) ln g", *step, difference),
    ]


def _averaged(valley: Valley, center: Any, width: float) -> float:
    """-T ln of the average density over a bin: what a histogram measures."""
    y = np.linspace(float(center) - width / 2, float(center) + width / 2, 201)
    density = np.asarray(valley.marginal(y, VALLEY_TEMPERATURE))
    return float(-VALLEY_TEMPERATURE * np.log(np.trapezoid(density, y) / width))


def _over_chains(values: xr.DataArray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def _network_rows(summary: xr.Dataset, scan: xr.Dataset | None, eigenvalues: NDArray[np.float64]) -> list[Row]:
    count, coldest = eigenvalues.size, summary.isel(temperature=0)
    t, half_time = float(coldest.temperature), _half_time(eigenvalues)
    held, error = float(coldest["mean"]) * 2 / t, float(coldest["mean_stderr"]) * 2 / t
    rows = [
        Row(f"2 <L>/T at T = {t:g}", f"{count}, the weights", held, error, count),
        Row(
            f"half-life at T = {t:g}",
            f"{half_time:.3g}, from the Hessian",
            float(coldest.half_time),
            float(coldest.half_time_stderr),
            half_time,
        ),
    ]
    wanted = {
        "mean_exponent": ("<L> ~ T^a, a", "1", 1.0),
        "deviation_exponent": ("deviation of L ~ T^a, a", "1", 1.0),
        "half_time_exponent": ("half-life ~ T^a, a", "0", 0.0),
        "mean_rate_times_temperature": ("beta T of the Gamma law", "1", 1.0),
        "mean_fluctuation_relation": ("variance / (T^2 d<L>/dT)", "1, in any landscape", 1.0),
    }
    for name, (quantity, theory, target) in wanted.items():
        if scan is not None and name in scan:
            rows.append(Row(quantity, theory, float(scan[name]), float(scan[f"{name}_stderr"]), target))
    return rows


def _half_time(eigenvalues: NDArray[np.float64]) -> float:
    """When the correlation of a quadratic energy, the average of exp(-2 k t) over its directions, is 1/2."""
    k = eigenvalues[eigenvalues > 0]
    return float(brentq(lambda t: np.exp(-2 * k * t).mean() - 0.5, 0.0, 1.0 / k.min()))


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("quantity", "theory", "measured", "off by"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(row.quantity, row.theory, measured(row.value, row.error), row.verdict)
    return table


def _title(loss: NetworkLoss, data: str) -> str:
    sizes = "-".join(map(str, loss.plain_mlp.sizes)) if loss.plain_mlp is not None else ""
    return f"MLP {sizes}, {loss.samples} samples ({Path(data).name})"
