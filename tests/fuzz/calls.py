"""Every public function with arguments that it takes, and every name that is no such function, with the reason."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets  # noqa: F401  # whose first import draws random numbers
import torch
import xarray as xr

import landscape as ls
from landscape.common import arguments
from landscape.common.arguments import fits
from landscape.potentials import architectures, datasets, losses
from landscape.probes import confinement, curvature, fluctuations, free_energy, rates
from landscape.workflows import presets
from tests.fuzz import values
from tests.fuzz.values import BOWL, RULE, SERIES, network, run, series

__all__ = ["CALLS", "EXCEPTIONS", "Call", "made", "public"]


@dataclass(frozen=True)
class Call:
    """A function, arguments that it takes, what is done with its result, and arguments that are never changed."""

    function: Callable[..., Any]
    given: Callable[[], Mapping[str, Any]] = dict
    use: Callable[[Any], Any] | None = None
    kept: frozenset[str] = field(default=frozenset())

    def parameters(self) -> list[str]:
        """Names of the arguments that may be changed."""
        found = inspect.signature(self.function).parameters.values()
        named = [one.name for one in found if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        return [name for name in dict.fromkeys([*named, *self.given()]) if name not in self.kept]

    def __call__(self, changed: Mapping[str, Any]) -> Any:
        arguments = {**self.given(), **changed}
        found = inspect.signature(self.function).parameters.values()
        first = [arguments.pop(one.name) for one in found if one.kind is one.POSITIONAL_ONLY and one.name in arguments]
        found = self.function(*first, **arguments)
        return found if self.use is None else self.use(found)


# -- what is done with the objects that are made ---------------------------------------------------------------------


def simulated(rule: Any = RULE, potential: Any = BOWL, **settings: Any) -> xr.Dataset:
    settings = {"steps": 4, "chains": 2, "temperature": 0.1, "backend": "batched", "seed": 0} | settings
    return ls.simulate(potential, rule, **settings)


def noisy(noise: Any) -> xr.Dataset:
    repr(noise)
    return simulated(ls.EulerMaruyama(dt=0.05, noise=noise))


def as_rule(rule: Any) -> xr.Dataset:
    repr(rule)
    return simulated(rule, temperature=0.1 if rule.thermal else 0.0)


def walled(constraint: Any) -> xr.Dataset:
    repr(constraint)
    return simulated(constraint=constraint, start=[0.1, 0.2])


def recorded(record: Any) -> xr.Dataset:
    repr(record)
    return simulated(record=record)


def observed(observer: Any) -> xr.Dataset:
    repr(observer)
    return simulated(record=ls.Record(1, [observer]))


def scheduled(schedule: Any) -> xr.Dataset:
    repr(schedule)
    return simulated(temperature=schedule)


def well(potential: Any) -> xr.Dataset:
    repr(potential)
    return ls.simulate(potential, ls.EulerMaruyama(dt=1e-3), steps=2, temperature=0.1, backend="batched")


YES_OR_NO = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.Sigmoid())
THREE = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.LogSoftmax(-1))


def loss(made: Any) -> Any:
    repr(made)
    x = torch.linspace(-1, 1, 8).reshape(4, 2)
    return ls.potentials.NetworkLoss(YES_OR_NO, x, (x[:, :1] > 0).float(), loss=made).energy([0.1, 0.2])


def classified(made: Any) -> Any:
    repr(made)
    x = torch.linspace(-1, 1, 8).reshape(4, 2)
    return ls.potentials.NetworkLoss(THREE, x, torch.tensor([0, 1, 2, 0]), loss=made).energy(0.1 * torch.arange(6.0))


def operated(operator: Any) -> Any:
    repr(operator)
    return operator @ np.ones(operator.shape[1])


# -- things that many calls need ------------------------------------------------------------------------------------


@functools.cache
def weights() -> torch.Tensor:
    return network().position()


@functools.cache
def projected() -> xr.Dataset:
    line = ls.paths.straight_line([-1.0, 0.0], [1.0, 0.0], 5)
    return ls.simulate(
        BOWL,
        RULE,
        temperature=[0.05, 0.05, 0.1, 0.1],
        steps=80,
        start=[0.3, 0.0],
        backend="batched",
        constraint=ls.ProjectOntoPath(line, every=4),
        record=ls.Record(4),
        seed=2,
    )


@functools.cache
def scanned() -> xr.Dataset:
    energy = np.random.default_rng(0).gamma(2.0, 1.0, size=(4, 400)) * np.array([0.1, 0.1, 0.2, 0.2])[:, None]
    labels = {"temperature": ("chain", [0.1, 0.1, 0.2, 0.2]), "time": ("draw", np.arange(400.0))}
    return fluctuations.summary(xr.DataArray(energy, dims=("chain", "draw"), coords=labels), by="temperature")


def a_profile() -> xr.Dataset:
    x = np.linspace(-1.5, 1.0, 26)
    data = {"free_energy": ("x", 4 * (x + 0.7) ** 2), "free_energy_stderr": ("x", np.full(26, 0.01))}
    return xr.Dataset(data, {"x": x})


@functools.cache
def hills() -> xr.Dataset:
    return simulated(
        steps=120,
        chains=4,
        record=ls.Record(4),
        start=[0.0, 0.0],
        constraint=ls.Metadynamics("x", height=0.01, width=0.3, every=10, bias_factor=4.0, range=(-2.0, 2.0), stop=40),
    )


@functools.cache
def folder_of_a_run() -> str:
    import tempfile

    folder = Path(tempfile.mkdtemp()) / "run"
    simulated(potential=ls.potentials.Quadratic([1.0, 2.0]), output=folder)
    return str(folder)


ENDS = {"start": [-0.5, 0.2], "end": [0.5, -0.1], "end_tolerance": float("inf")}
CORES = {"A": "x < -0.1", "B": "x > 0.1"}
SPEC = {
    "potential": {"kind": "Quadratic", "stiffness": [1.0, 2.0]},
    "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
    "steps": 4,
    "chains": 2,
    "temperature": 0.1,
    "backend": "batched",
}


@dataclass(frozen=True)
class Later:
    """An argument that is made when it is asked for."""

    make: Callable[[], Any]


def at(**given: Any) -> Callable[[], Mapping[str, Any]]:
    """Arguments as they are, those for later made."""
    return lambda: {name: one.make() if isinstance(one, Later) else one for name, one in given.items()}


@functools.cache
def made(name: str) -> Any:
    """The result of a call with the arguments that it takes."""
    return CALLS[name]({})


def result(name: str) -> Later:
    return Later(lambda: made(name))


PROBES = {
    "fluctuations": {
        "summary": at(energy=series(SERIES)),
        "autocorrelation": at(x=series(SERIES)),
        "half_time": at(x=series(SERIES)),
        "batch_temperature": at(curvature=[0.1, 1.0], noise=1.0, lr=0.1, batch_size=2, samples=100, sampling="epoch"),
        "current": at(run=Later(lambda: run(temperature=0.1, chains=3))),
        "diffusion": at(run=Later(run)),
        "distance": at(position=Later(lambda: run().position), reference=[0.0, 0.0]),
        "effective_temperature": at(loss=Later(network), position=Later(weights), lr=0.1, batch_size=2, probes=5),
        "entropy_production": at(run=Later(lambda: simulated(record=ls.Record(1, ["entropy_production"]), steps=40))),
        "equilibration": at(x=series(SERIES)),
        "participation_ratio": at(sample_energies=np.abs(SERIES)[None]),
        "spikes": at(x=series(SERIES)),
        "temperature_scan": at(summary=Later(scanned)),
        "plot_energy_distribution": at(energy=series(SERIES), summary=result("probes.fluctuations.summary")),
        "plot_energy_trace": at(energy=series(SERIES)),
        "plot_fluctuation_relation": at(dataset=result("probes.fluctuations.temperature_scan")),
    },
    "confinement": {
        "along_path": at(potential=BOWL, path=ls.paths.straight_line([0.0, 0.0], [1.0, 1.0], 3)),
        "barriers": at(
            profile=Later(
                lambda: confinement.along_path(
                    BOWL, ls.paths.straight_line([-1.0, 0.0], [1.0, 0.0], 5), ["energy", "log_determinant"]
                )
            ),
            temperature=0.1,
        ),
        "drift": at(run=Later(projected), bins=3),
        "first_passage": at(run=Later(projected), at=1.2),
        "relaxation": at(run=Later(projected)),
        "instability": at(values=[1.0, 4.0, 2.0], stderr=[0.1, 0.2, 0.1]),
        "linear_connectivity": at(potential=BOWL, positions=[[0.0, 0.0], [1.0, 1.0]], points=3),
    },
    "curvature": {
        "FisherOperator": at(loss=Later(network), position=Later(weights), labels="model"),
        "GaussNewtonOperator": at(loss=Later(network), position=Later(weights)),
        "HessianOperator": at(potential=BOWL, position=[0.0, 0.1]),
        "diagonal": at(potential=BOWL, positions=[0.0, 0.1]),
        "eigenvalues": at(potential=BOWL, positions=[0.0, 0.1]),
        "extreme_eigenvalues": at(potential=BOWL, positions=[0.0, 0.1]),
        "fisher_trace": at(loss=Later(network), positions=Later(weights), labels="model"),
        "largest_eigenvalue": at(potential=np.diag([3.0, 1.0, -2.0])),
        "project": at(gradient=np.eye(3), vectors=np.eye(3)[:1]),
        "score_singular_values": at(loss=Later(network), positions=Later(weights)),
        "sharpness": at(potential=BOWL, positions=[0.0, 0.1], radius=0.5, steps=3, starts=2, products=5, samples=8),
        "spectral_density": at(potential=BOWL, positions=[0.0, 0.1], points=20),
        "temperature_scaling": at(
            spectrum=Later(lambda: curvature.eigenvalues(BOWL, run().position[:, :2].rename(draw="snapshot")))
        ),
        "top_eigenpairs": at(potential=np.diag([3.0, 1.0, -2.0]), k=2),
        "trace": at(potential=BOWL, positions=[0.0, 0.1]),
    },
    "free_energy": {
        "effective_potential": at(potential=BOWL, coordinate="x", at=[0.0, 0.5], temperature=0.1),
        "entropy": at(energy=series(SERIES).isel(chain=slice(2)), free_energy=0.3),
        "harmonic": at(potential=BOWL, position=[0.0, 0.0], temperature=[0.1, 0.2]),
        "local_learning_coefficient": at(
            potential=BOWL, position=[0.0, 0.0], temperature=0.1, dt=0.1, steps=40, chains=8
        ),
        "mbar": at(
            runs=Later(lambda: [run(temperature=0.1, chains=2), run(temperature=0.2, chains=2)]), potential=BOWL
        ),
        "mean_force": at(potential=BOWL, coordinate="x", at=[0.0, 0.5], temperature=0.1, chains=8, steps=10),
        "metadynamics": at(run=Later(hills)),
        "profile": at(samples=Later(lambda: run(temperature=0.1, chains=3)), coordinate="x", bins=5),
        "nonequilibrium_work": at(
            potential=Later(lambda: [BOWL, ls.potentials.Function(lambda x: 2 * BOWL._energy(x), 2, ["x", "y"])]),
            parameter=None,
            start=0.0,
            end=1.0,
            temperature=0.1,
            stages=3,
            steps=2,
            equilibration=5,
            chains=8,
        ),
        "thermodynamic_integration": at(
            potential=Later(lambda: [BOWL, ls.potentials.Function(lambda x: 2 * BOWL._energy(x), 2, ["x", "y"])]),
            parameter=None,
            values=[0.0, 0.5, 1.0],
            temperature=0.1,
            chains=8,
            steps=40,
            every=2,
        ),
        "umbrella": at(potential=BOWL, coordinate="x", at=[0.0, 0.2], temperature=0.1, chains=8, steps=40, every=2),
        "work_average": at(forward=SERIES[0], temperature=1.0),
        "plot_overlap": at(dataset=result("probes.free_energy.umbrella")),
    },
    "rates": {
        "committor": at(
            potential=BOWL,
            positions=np.linspace([-0.05, 0.0], [0.05, 0.0], 8),
            integrator=RULE,
            cores=CORES,
            temperature=0.1,
            shots=4,
            steps=50,
            backend="batched",
        ),
        "committor_test": at(found=result("probes.rates.committor"), bins=2),
        "core_sets": at(run=Later(run), cores=CORES),
        "escape_rate": at(run=Later(run), cores=CORES),
        "forward_flux": at(
            potential=BOWL,
            integrator=RULE,
            coordinate="x",
            a=0.1,
            b=0.3,
            temperature=0.2,
            copies=10,
            replicas=8,
            interfaces=[0.2],
            backend="batched",
            most_steps=2000,
        ),
        "reactive_flux": at(
            potential=BOWL,
            profile=a_profile(),
            integrator=ls.BAOAB(dt=0.05, friction=2.0),
            coordinate="x",
            at=0.0,
            temperature=0.2,
            shots=8,
            steps=10,
            settling=5,
            backend="batched",
        ),
    },
}
USES = {"HessianOperator": operated, "FisherOperator": operated, "GaussNewtonOperator": operated}
MODULES = {
    "fluctuations": fluctuations,
    "confinement": confinement,
    "curvature": curvature,
    "free_energy": free_energy,
    "rates": rates,
}


def picture(axes: Any) -> None:
    axes.figure.canvas.draw_idle()


def _of_probes() -> dict[str, Call]:
    found = {}
    for room, table in PROBES.items():
        module = MODULES[room]
        for name, given in table.items():
            found[f"probes.{room}.{name}"] = Call(
                getattr(module, name), given, USES.get(name, picture if name.startswith("plot_") else None)
            )
        for name in module.__all__:
            if name.startswith("plot_") and name not in table:
                given = at(dataset=result(f"probes.{room}.{name.removeprefix('plot_')}"))
                found[f"probes.{room}.{name}"] = Call(getattr(module, name), given, picture)
    return found


THERMAL = {"EulerMaruyama", "LeimkuhlerMatthews", "Heun", "MALA", "Diffusion", "NUTS"}
CALLS: dict[str, Call] = {
    **{f"integrators.{name}": Call(getattr(ls, name), at(dt=0.05), as_rule) for name in sorted(THERMAL)},
    "integrators.BAOAB": Call(ls.BAOAB, at(dt=0.05, friction=1.0), as_rule),
    "integrators.HMC": Call(ls.HMC, at(dt=0.05, leapfrog_steps=2), as_rule),
    **{
        f"integrators.{name}": Call(getattr(ls, name), at(lr=0.05), as_rule)
        for name in ("SGD", "Adam", "AdamW", "SGLD")
    },
    "integrators.SGHMC": Call(ls.SGHMC, at(lr=0.05, friction=1.0), as_rule),
    "integrators.Mobility": Call(
        ls.Mobility, at(matrix=[["1", "0"], ["0", "2"]]), lambda made: as_rule(ls.EulerMaruyama(dt=0.05, mobility=made))
    ),
    "integrators.Optimizer": Call(ls.Optimizer, at(factory=torch.optim.SGD, lr=0.1), as_rule),
    "integrators.Preconditioned": Call(
        ls.Preconditioned, at(inner=RULE, preconditioner=[[2.0, 0.0], [0.0, 1.0]]), as_rule
    ),
    "noise.ColoredNoise": Call(ls.ColoredNoise, at(correlation_time=0.5), noisy),
    "noise.CovarianceNoise": Call(ls.CovarianceNoise, at(matrix=[[1.0, 0.0], [0.0, 2.0]]), noisy),
    "noise.HessianNoise": Call(ls.HessianNoise, at(), noisy),
    "noise.ThermalNoise": Call(ls.ThermalNoise, at(), noisy),
    "noise.TwoPointNoise": Call(ls.TwoPointNoise, at(), noisy),
    "observers.Autocorrelation": Call(ls.Autocorrelation, at(points=4, levels=2), observed),
    "observers.CoreSets": Call(ls.CoreSets, at(cores=CORES), observed),
    "observers.Histogram": Call(ls.Histogram, at(of="x", bins=4, range=(-1.0, 1.0)), observed),
    "observers.Moments": Call(ls.Moments, at(), observed),
    "observers.Residence": Call(ls.Residence, at(of="x", edges=[0.0]), observed),
    "Absorb": Call(ls.Absorb, at(walls={"x": (None, 1.0)}), walled),
    "Reflect": Call(ls.Reflect, at(walls={"x": (None, 1.0)}), walled),
    "Periodic": Call(ls.Periodic, at(periods={"x": (-1.0, 1.0)}), walled),
    "Restrain": Call(ls.Restrain, at(coordinate="x", center=0.1, stiffness=1.0), walled),
    "Metadynamics": Call(
        ls.Metadynamics, at(coordinate="x", height=0.1, width=0.2, every=2, range=(-2.0, 2.0)), walled
    ),
    "ProjectOntoPath": Call(
        ls.ProjectOntoPath, at(path=ls.paths.straight_line([0.0, 0.0], [1.0, 1.0], 3), every=2), walled
    ),
    "Record": Call(ls.Record, at(), recorded),
    "cosine": Call(ls.cosine, at(start=0.1, end=0.2, duration=1.0), scheduled),
    "cycle": Call(ls.cycle, at(low=0.1, high=0.2, period=1.0), scheduled),
    "ramp": Call(ls.ramp, at(start=0.1, end=0.2, duration=1.0), scheduled),
    "piecewise": Call(ls.piecewise, at(table={0: 0.1, 0.1: 0.2}), scheduled),
    "grid": Call(ls.grid, at(temperature=[0.1, 0.2], dt=[0.1, 0.05])),
    "simulate": Call(
        ls.simulate, at(potential=BOWL, integrator=RULE, steps=4, chains=2, temperature=0.1, backend="batched")
    ),
    "minimize": Call(ls.minimize, at(potential=BOWL, start=[0.1, 0.2], steps=5)),
    "replica_exchange": Call(
        ls.replica_exchange,
        at(potential=BOWL, integrator=RULE, temperatures=[0.1, 0.2], steps=6, swap_every=2, backend="batched"),
    ),
    "warm_up": Call(
        ls.warm_up,
        at(potential=BOWL, integrator=ls.MALA(dt=0.1), temperature=0.1, steps=100, chains=2, backend="batched"),
    ),
    "train": Call(ls.train, at(loss=Later(network), integrator=ls.SGD(lr=0.1), epochs=1, backend="batched")),
    "run": Call(ls.run, at(spec=SPEC)),
    "sweep": Call(ls.sweep, at(spec=SPEC, over={"temperature": [0.1, 0.2]}), None, frozenset({"executor"})),
    "study": Call(
        ls.study,
        at(
            spec={
                "defaults": {"potential": SPEC["potential"]},
                "stage": [{"name": "a", "task": "minimize", "start": [0.1, 0.2], "steps": 3}],
            },
            output="study",
        ),
    ),
    "open": Call(ls.open, at(path=Later(folder_of_a_run)), lambda found: found.close()),
    "resume": Call(ls.resume, at(folder=Later(folder_of_a_run))),
    "consolidate": Call(ls.consolidate, at(folder=Later(folder_of_a_run), path="whole.nc")),
    "save": Call(ls.save, at(dataset=Later(run), path="run.nc")),
    "paths.Path": Call(
        ls.paths.Path, at(pivots=[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), lambda path: (path.at(0.5), path.to_dataset())
    ),
    "paths.straight_line": Call(ls.paths.straight_line, at(start=[0.0, 0.0], end=[1.0, 1.0], pivots=3)),
    "paths.align": Call(
        ls.paths.align, at(network_loss=Later(network), reference=Later(weights), position=Later(weights))
    ),
    "paths.permute": Call(
        ls.paths.permute, at(network_loss=Later(network), position=Later(weights), permutations={"0": [2, 0, 1]})
    ),
    "paths.auto_neb": Call(ls.paths.auto_neb, at(potential=BOWL, **ENDS, cycles=[(0.01, 2)])),
    "paths.bezier": Call(ls.paths.bezier, at(potential=BOWL, **ENDS, pivots=5, steps=2, lr=0.1)),
    "paths.polychain": Call(ls.paths.polychain, at(potential=BOWL, **ENDS, steps=2, lr=0.1)),
    "paths.neb": Call(ls.paths.neb, at(potential=BOWL, **ENDS, pivots=5, steps=2, lr=0.01)),
    "paths.string": Call(ls.paths.string, at(potential=BOWL, **ENDS, pivots=5, steps=2, lr=0.01)),
    "potentials.Drift": Call(ls.potentials.Drift, at(drift=["-y", "-x"], coordinates=["x", "y"]), well),
    "potentials.Expression": Call(
        ls.potentials.Expression, at(energy="k*x**2 + y**2", coordinates=["x", "y"], parameters={"k": 2.0}), well
    ),
    "potentials.Function": Call(ls.potentials.Function, at(energy=lambda x: (x**2).sum(-1), dim=2), well),
    "potentials.NetworkLoss": Call(
        ls.potentials.NetworkLoss,
        lambda: {
            "module": architectures.mlp([2, 3, 2]),
            "inputs": torch.ones(4, 2),
            "targets": torch.tensor([0, 1, 0, 1]),
        },
        well,
        frozenset({"process_group"}),
    ),
    "potentials.load_weights": Call(
        ls.potentials.load_weights, lambda: {"module": torch.nn.Linear(2, 1), "path": "weights.pt"}
    ),
    **{
        f"potentials.toys.{name}": Call(getattr(ls.potentials, name), at(), well)
        for name in (
            "DoubleWell",
            "EntropicBarrier",
            "ExponentialWall",
            "Himmelblau",
            "MullerBrown",
            "Ring",
            "Rosenbrock",
            "ThreeHole",
            "WolfeQuapp",
        )
    },
    "potentials.toys.Quadratic": Call(ls.potentials.Quadratic, at(stiffness=[1.0, 2.0]), well),
    "potentials.toys.Valley": Call(ls.potentials.Valley, at(g="1 + y**2"), well),
    "potentials.architectures.from_spec": Call(architectures.from_spec, at(spec={"kind": "mlp", "sizes": [2, 3]})),
    "potentials.architectures.mlp": Call(architectures.mlp, at(sizes=[2, 3, 2])),
    "potentials.architectures.resnet_cifar": Call(architectures.resnet_cifar, at(depth=8, width=2)),
    "potentials.architectures.vgg": Call(architectures.vgg, at(depth=7, width=2)),
    "potentials.architectures.vit": Call(architectures.vit, at(depth=1, width=4, heads=2, size=8)),
    "potentials.architectures.wide_resnet": Call(architectures.wide_resnet, at(depth=10, widen=1)),
    "potentials.datasets.Data": Call(
        datasets.Data, at(inputs=torch.zeros(4, 2), targets=torch.tensor([0, 1, 0, 1]), classes=2, name="corners"), repr
    ),
    "potentials.datasets.FlipCrop": Call(
        datasets.FlipCrop, at(), lambda crop: crop(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, dtype=torch.int64))
    ),
    "potentials.datasets.cifar10": Call(datasets.cifar10, at(root="nowhere"), None, frozenset({"download"})),
    "potentials.datasets.cifar100": Call(datasets.cifar100, at(root="nowhere"), None, frozenset({"download"})),
    "potentials.datasets.torchvision_dataset": Call(
        datasets.torchvision_dataset, at(name="MNIST", root="nowhere"), None, frozenset({"download"})
    ),
    "potentials.datasets.digits": Call(datasets.digits, at(train=100)),
    "potentials.datasets.from_spec": Call(datasets.from_spec, at(spec={"kind": "random_labels", "samples": 9})),
    "potentials.datasets.image_folder": Call(datasets.image_folder, at(path="nowhere")),
    "potentials.datasets.load": Call(datasets.load, at(source="random-labels", samples=12)),
    "potentials.datasets.random_labels": Call(datasets.random_labels, at(samples=9)),
    "potentials.losses.BinaryCrossEntropy": Call(losses.BinaryCrossEntropy, at(), loss),
    "potentials.losses.Huber": Call(losses.Huber, at(), loss),
    "potentials.losses.SquaredError": Call(losses.SquaredError, at(), loss),
    "potentials.losses.CrossEntropy": Call(losses.CrossEntropy, at(), classified),
    "potentials.losses.NegativeLogLikelihood": Call(losses.NegativeLogLikelihood, at(), classified),
    "potentials.losses.named_loss": Call(losses.named_loss, at(loss="mse"), loss),
    "presets.complete": Call(presets.complete, at(spec={"base": "cifar10-reduced"})),
    "presets.load": Call(presets.load, at(name="cifar10-reduced")),
    "presets.names": Call(presets.names),
    **_of_probes(),
}

EXCEPTIONS = {
    "cli.main": "reads the command line: tests of its own",
    "integrators.Integrator": "abstract: made by its subclasses",
    "integrators.StepContext": "made by the driver for a rule's step",
    "noise.Noise": "abstract",
    "observers.Observer": "abstract",
    "observers.Accumulator": "made by observers while a run goes on",
    "potentials.Potential": "abstract",
    "potentials.losses.NamedLoss": "abstract",
    "potentials.losses.SampleLoss": "a type",
    **{
        f"potentials.losses.{name}": "of tensors, between the potential and its loss, in each step"
        for name in ("check_targets", "cross_entropy", "placed_loss", "squared_error", "takes_tensor")
    },
}


def public() -> dict[str, Any]:
    """Every name of every public package's ``__all__``, by its path inside landscape."""
    found: dict[str, Any] = {}
    for info in pkgutil.walk_packages(ls.__path__, "landscape."):
        path = info.name.split(".")[1:]
        if any(part.startswith("_") for part in path) or not info.ispkg:
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not inspect.ismodule(thing):
                found[".".join([*path, name])] = thing
    for name in ls.__all__:
        thing = getattr(ls, name)
        if not inspect.ismodule(thing):
            found[name] = thing
    return found


COSTLY = {
    "steps",
    "chains",
    "points",
    "probes",
    "products",
    "samples",
    "draws",
    "starts",
    "epochs",
    "siblings",
    "shots",
    "most_steps",
    "copies",
    "replicas",
    "stages",
    "equilibration",
    "settling",
    "pivots",
    "bends",
    "bins",
    "between",
    "depth",
    "width",
    "widen",
    "classes",
    "channels",
    "sizes",
    "features",
    "heads",
    "size",
    "ratio",
    "levels",
    "dim",
    "stiff",
    "train",
    "walkers",
    "sweeps",
    "snapshots",
    "k",
    "max_tree_depth",
    "leapfrog_steps",
    "ladders",
    "insert",
    "max_lag",
    "spec",
    "over",
    "padding",
    "stiffness",
    "cycles",
    "refinement",
    "settings",
    "swap_every",
}
"""Numbers of things to be done: a large one is no wrong argument, and takes its time."""
LARGE = {"million", "huge integer", "tensor of one"}


def choose(name: str, chance: random.Random, results: list[str]) -> dict[str, str]:
    """One or two arguments of a call, rather those that it needs, and the names of the values that they get.

    Half of the values are of the kind that the annotation asks for, so that they get past the door.
    """
    call = CALLS[name]
    parameters = call.parameters()
    hints = _hints(call.function)
    needed = [one for one in parameters if one in call.given()]
    found = {}
    for _ in range(min(len(parameters), 1 if chance.random() < 0.75 else 2)):
        one = chance.choice(needed if needed and chance.random() < 0.6 else parameters)
        kinds = [values.NUMBERS, values.ARRAYS | values.VOID, values.THINGS | values.FRESH]
        kinds.append(dict.fromkeys([*values.RUNS, *(f"result of {other}" for other in results)]))
        pool = list(chance.choice(kinds))
        if chance.random() < 0.5:
            plain = [other for other, value in values.PLAIN.items() if fits(value, hints.get(one, Any))]
            pool = plain if plain and len(plain) < 0.8 * len(values.PLAIN) else pool
        if one in COSTLY:
            pool = [other for other in pool if other not in LARGE]
        found[one] = chance.choice(pool)
    return found


def value(name: str) -> Any:
    """The value of a name."""
    if name.startswith("result of "):
        return made(name.removeprefix("result of "))
    for table in (values.RUNS, values.FRESH):
        if name in table:
            return table[name]()
    return values.PLAIN[name]


@functools.cache
def _hints(function: Any) -> dict[str, Any]:
    return arguments._hints(function.__init__ if inspect.isclass(function) else function)
