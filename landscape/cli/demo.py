"""`landscape demo`: a toy and a trained network, end to end, through the public interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table
from torch.nn.functional import adaptive_avg_pool2d

import landscape as ls
from landscape import probes
from landscape.cli.console import console, measured
from landscape.cli.demo_figure import draw_figure
from landscape.cli.probing import summary_table
from landscape.errors import ConfigError, StorageError
from landscape.potentials import NetworkLoss, Valley, architectures, datasets
from landscape.potentials.datasets.vision import find_torchvision

__all__ = ["run_demo"]

VALLEY_TEMPERATURE, CHAINS = 0.1, 2000
TEMPERATURES = (1e-6, 5e-6, 1e-5, 2e-5, 3e-5, 4e-5, 5e-5)
REPLICAS = 3
REFERENCE_WORK = 883 * 300  # weights times samples of the default network
BURN_IN, MEASURED, EVERY = 20_000, 100_000, 50


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
        return f"{(self.value - self.target) / self.error:+.1f} s.e."


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
    console.print(f"network: {loss.dim} weights, {loss.samples} samples ({data})")
    minimum = ls.minimize(loss)
    console.print(f"minimum: loss {float(minimum.energy):.2g} after {int(minimum.iteration[-1])} steps of Adam")
    run = _explore(loss, minimum, seed, scale)

    floor = toy.position.sel(coordinate="y").isel(draw=slice(toy.sizes["draw"] // 2, None))
    profile = probes.free_energy.profile(floor, VALLEY_TEMPERATURE, bins=61, range=(-3, 3), zero="mean")
    summary = probes.fluctuations.summary(run.energy, by="temperature")
    scan = _scan(summary)
    files = {"valley": toy, "minimum": minimum, "network": run, "fluctuations": summary, "valley_profile": profile}
    if scan is not None:
        files["temperature_scan"] = scan
    for name, dataset in files.items():
        ls.save(dataset, folder / f"{name}.nc")
    draw_figure(folder / "demo.png", run, summary, scan, profile, valley, VALLEY_TEMPERATURE, _title(loss, data))
    console.print(summary_table(summary))
    console.print()
    console.print(_table(_valley_rows(valley, floor) + _network_rows(summary, scan)))
    if scan is None:
        console.print(
            "exponents were not fitted: they need at least two temperatures at which the run is resolved and stationary"
        )
    console.print(f"wrote [bold]{folder}/[/bold]: demo.png and {', '.join(f'{name}.nc' for name in files)}")


def _network(data: str, seed: int, samples: int) -> NetworkLoss:
    """An MLP with two hidden layers of 20 and one of 10, in front of it whatever the data need."""
    if data == "random-labels":
        chosen = datasets.random_labels(seed=seed)
    elif data == "digits":
        chosen = datasets.digits(seed=seed, standardize=True).subset(samples, seed, balanced=True)
    else:
        with console.status(f"reading {data}"):
            chosen = _small_images(Path(data), samples, seed)
    sizes = (chosen.inputs.shape[1], 20, 20, 10, chosen.classes)
    return NetworkLoss(architectures.mlp(sizes, seed=seed), chosen)


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
    """Spread over the floor at first; the second half of the run has forgotten that."""
    rng = np.random.default_rng(seed)
    start = np.stack([np.zeros(CHAINS), rng.uniform(-3, 3, CHAINS)], axis=1)
    return ls.simulate(
        valley, ls.LeimkuhlerMatthews(dt=2e-3), start=start, temperature=VALLEY_TEMPERATURE, steps=300_000 // scale,
        record=ls.Record(every=1000), seed=seed,
    )  # fmt: skip


def _explore(loss: NetworkLoss, minimum: xr.Dataset, seed: int, scale: int) -> xr.Dataset:
    settings = ls.grid(temperature=TEMPERATURES, replicas=REPLICAS)
    # a larger network or data set gets fewer steps, so that the demo stays a matter of minutes
    share = min(1.0, (REFERENCE_WORK / (loss.dim * loss.samples)) ** 0.5) / scale
    burn_in, steps = (max(20, round(share * n / EVERY)) * EVERY for n in (BURN_IN, MEASURED))
    integrator = ls.EulerMaruyama(dt=1e-2)
    common: dict[str, Any] = {"temperature": settings["temperature"], "seed": seed}
    warm = ls.simulate(loss, integrator, start=minimum, steps=burn_in, record=ls.Record(burn_in), **common)
    run = ls.simulate(loss, integrator, start=warm, state="keep", steps=steps, record=ls.Record(EVERY), **common)
    run.attrs["comment"] = f"after {burn_in} steps from the minimum at the same temperature"
    return run


def _scan(summary: xr.Dataset) -> xr.Dataset | None:
    try:
        scan: xr.Dataset = probes.fluctuations.temperature_scan(summary)
        return scan
    except ConfigError:
        return None


def _valley_rows(valley: Valley, floor: xr.DataArray) -> list[Row]:
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
        Row("valley <y^2>", f"{square:.4f}", *_over_chains((floor**2).mean("draw")), square),
        Row(
            "valley P(|y| < 1)",
            f"{inside:.4f} (not 0.6290 = T ln g)",
            *_over_chains((abs(floor) < 1).mean("draw")),
            inside,
        ),
        Row(f"valley F({float(at_two.y):.2f}) - F(0)", f"{difference:.5f} = (T/2) ln g", *step, difference),
    ]


def _averaged(valley: Valley, center: Any, width: float) -> float:
    """-T ln of the average density over a bin: what a histogram measures."""
    y = np.linspace(float(center) - width / 2, float(center) + width / 2, 201)
    density = np.asarray(valley.marginal(y, VALLEY_TEMPERATURE))
    return float(-VALLEY_TEMPERATURE * np.log(np.trapezoid(density, y) / width))


def _over_chains(values: xr.DataArray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def _network_rows(summary: xr.Dataset, scan: xr.Dataset | None) -> list[Row]:
    if scan is None:
        return []
    wanted = {
        "mean_exponent": ("mean loss ~ T^a, a", "1 (Jules et al.)", None),
        "deviation_exponent": ("deviation ~ T^a, a", "1 (Jules et al.)", None),
        "half_time_exponent": ("half time ~ T^a, a", "-1 (Jules et al.)", None),
        "mean_rate_times_temperature": ("beta T of the Gamma law", "1 (Jules et al.)", None),
        "mean_fluctuation_relation": ("variance / (T^2 d mean/dT)", "1 (exact)", 1.0),
    }
    rows = []
    for name, (quantity, theory, target) in wanted.items():
        if name in scan:
            value, error = float(scan[name]), float(scan[f"{name}_stderr"])
            rows.append(Row(f"network {quantity}", theory, value, error, target))
    return rows


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
