"""The runs that are stopped and gone on with, and what it means for two of them to be the same.

A recipe is ``call(steps, **output)``; it can be made in any process, from its name alone.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import landscape as ls
from landscape.errors import LandscapeError
from landscape.potentials import Expression, NetworkLoss, architectures, toys
from tests.ordinary import LONG

STEPS = 1000 if LONG else 60  # stopped after two fifths
CHAINS = 3
BACKENDS = ("compiled", "batched")
Recipe = Callable[..., xr.Dataset]


# -- potentials --------------------------------------------------------------------------------------------------------


def walled() -> Expression:
    """Bounded in x, periodic in y, left for good at z = 1.6."""
    return Expression("(1 + z**2)*x**2/2 + cos(y) + (z**2 - 1)**2/4", ["x", "y", "z"])


WALLS = (
    ls.Reflect({"x": (-0.4, 0.5)}),
    ls.Periodic({"y": (-np.pi, np.pi)}),
    ls.Absorb({"z": (None, 1.6)}),
)


def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(23, 4, generator=generator, dtype=torch.float64), torch.randint(3, (23,), generator=generator)


def network(module: torch.nn.Module | None = None, **settings) -> NetworkLoss:
    settings = {"batch_size": 5, "dtype": torch.float64, **settings}
    return NetworkLoss(module or architectures.mlp([4, 6, 3], activation="tanh", seed=1), *data(), **settings)


def normalised() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(5, 3)
    )


def radius(potential, position):
    return position.norm(dim=-1)


# -- recipes -----------------------------------------------------------------------------------------------------------


def simulated(potential: Callable[[], object], integrator: Callable[[], object], **settings) -> Recipe:
    """A run of `simulate`, of which everything is made anew in each process."""
    made = {"chains": CHAINS, "seed": 7, **settings}

    def call(steps: int = STEPS, **output) -> xr.Dataset:
        fresh = {name: value() if callable(value) else value for name, value in made.items()}
        return ls.simulate(potential(), integrator(), steps=steps, **fresh, **output)

    return call


THERMAL = {
    "EulerMaruyama": lambda: ls.EulerMaruyama(0.02),
    "LeimkuhlerMatthews": lambda: ls.LeimkuhlerMatthews(0.02),
    "Heun": lambda: ls.Heun(0.02),
    "MALA": lambda: ls.MALA(0.02),
    "BAOAB": lambda: ls.BAOAB(0.1, friction=1.0),
    "HMC": lambda: ls.HMC(0.1, leapfrog_steps=3),
    "Diffusion": lambda: ls.Diffusion(0.02),
    "SGLD": lambda: ls.SGLD(0.02),
    "SGHMC": lambda: ls.SGHMC(0.01, friction=0.3),
    "Preconditioned": lambda: ls.Preconditioned(ls.EulerMaruyama(0.01), "diagonal", damping=0.5),
    "refined noise": lambda: ls.EulerMaruyama(0.02, ls.ThermalNoise("float64", 3)),
    "two-point noise": lambda: ls.EulerMaruyama(0.02, ls.TwoPointNoise()),
    "colored noise": lambda: ls.EulerMaruyama(0.02, ls.ColoredNoise(0.1)),
}
ATHERMAL = {
    "SGD": lambda: ls.SGD(0.02),
    "SGD momentum": lambda: ls.SGD(0.02, momentum=0.9, nesterov=True),
    "Adam": lambda: ls.Adam(0.01, betas=(0.8, 0.95)),
    "AdamW": lambda: ls.AdamW(0.01, weight_decay=0.1),
    "Optimizer Adam": lambda: ls.Optimizer("Adam", lr=0.01),
    "Optimizer LBFGS": lambda: ls.Optimizer("LBFGS", lr=0.05, history_size=4, max_iter=2),
}
ALL_DATA = {"MALA", "HMC"}  # a Metropolis test asks for the energy itself
ONLY_BATCHED = {"Preconditioned", "Optimizer Adam", "Optimizer LBFGS"}
ONLY_BATCHED_NETWORKS = {"two-point noise", "colored noise", "Heun", "MALA", "BAOAB", "HMC"}


def recipes() -> dict[str, Recipe]:
    made = {}
    thin = ls.Record(every=7, observables=["position", "energy"], snapshots=5)
    for backend in BACKENDS:
        for name, rule in (THERMAL | ATHERMAL).items():
            if backend == "compiled" and name in ONLY_BATCHED:
                continue
            temperature = 0.3 if name in THERMAL else 0.0
            made[f"walls {name} {backend}"] = simulated(
                walled, rule, temperature=temperature, constraint=list(WALLS), start=[0.1, 0.2, 0.9], backend=backend
            )
            if backend == "compiled" and name in ONLY_BATCHED_NETWORKS:
                continue
            loss = (lambda: network(batch_size=None)) if name in ALL_DATA else network
            made[f"network {name} {backend}"] = simulated(
                loss, rule, temperature=1e-3 if name in THERMAL else 0.0, record=thin, backend=backend
            )
        made |= special(backend)
    return made


def special(backend: str) -> dict[str, Recipe]:
    """Settings with a memory of their own."""
    euler = THERMAL["EulerMaruyama"]
    corner = ls.paths.Path([[0.0, -1.0], [0.1, 0.0], [0.0, 1.0]])
    valley = lambda: toys.Valley("1 + y**2", bounds={"y": (-3, 3)})  # noqa: E731
    observers = ls.Record(
        every=3,
        observables={
            "position": ls.Moments(covariance=True),
            "energy": ls.Autocorrelation(points=4, levels=5),
            "y": ls.Residence("y", edges=[-0.5, 0.5], every=1),
            "x": ls.Histogram("x", bins=7, range=(-1, 1), every=2),
            "gradient_norm": None,
        },
    )
    made = {
        "path nearest": simulated(
            valley,
            euler,
            temperature=0.2,
            start=[0.0, 0.2],
            constraint=ls.ProjectOntoPath(corner, every=4, record_every=2),
        ),
        "path momenta": simulated(
            valley,
            ATHERMAL["Adam"],
            start=[0.0, 0.2],
            constraint=ls.ProjectOntoPath(corner, every=5, update="tangent", optimizer_state="project"),
        ),
        "observers": simulated(valley, euler, temperature=0.4, start=[0.1, 0.2], record=observers),
        "schedules": simulated(
            valley, lambda: ls.EulerMaruyama(ls.piecewise({0: 0.02, 0.3: 0.01})), temperature=ls.cycle(0.1, 0.5, 0.7)
        ),
        "schedules of each chain": simulated(
            valley, lambda: ls.BAOAB(ls.ramp(0.05, 0.02, 3.0), friction=1.0), temperature=ls.ramp([0.1, 0.2, 0.3], 1, 5)
        ),
        "settings of each chain": simulated(
            valley, lambda: ls.LeimkuhlerMatthews([0.01, 0.02, 0.03]), temperature=[0.1, 0.2, 0.3]
        ),
        "covariance noise": simulated(
            valley, lambda: ls.EulerMaruyama(0.02, ls.CovarianceNoise([[1, 0.3], [0.3, 2]])), temperature=0.2
        ),
        "spring": simulated(valley, euler, temperature=0.2, constraint=ls.Restrain("y", 0.5, 3.0)),
        "order of minibatches": simulated(
            network, ATHERMAL["SGD momentum"], data_seed={0: 1, STEPS // 3: [2, 3, 4]}, record=ls.Record(4, ["energy"])
        ),
        "single precision": simulated(
            lambda: network(dtype=torch.float32, shared_batches=True, sampling="replacement"), ATHERMAL["Adam"]
        ),
    }
    settled = {f"{name} {backend}": with_settings(call, backend=backend) for name, call in made.items()}
    settled |= {
        f"replica exchange {backend}": exchanged(backend),
        f"training of siblings {backend}": trained(backend),
    }
    if backend == "batched":
        settled |= {
            "hessian noise batched": simulated(
                valley, lambda: ls.EulerMaruyama(0.02, ls.HessianNoise(["x"], isotropic=1.0)), temperature=0.2
            ),
            "own observables batched": simulated(
                valley, euler, temperature=0.2, record=ls.Record(5, {"radius": radius, "energy": None}, snapshots=3)
            ),
            "batch statistics batched": simulated(
                lambda: network(normalised(), batchnorm="batch", evaluation=data()), ATHERMAL["SGD momentum"],
                record=ls.Record(5, ["energy", "batch_energy", "accuracy", "evaluation_energy", "distance"]),
            ),
        }  # fmt: skip
    return settled


def with_settings(call: Recipe, **settings) -> Recipe:
    return lambda steps=STEPS, **output: call(steps, **settings, **output)


def exchanged(backend: str) -> Recipe:
    def call(steps: int = STEPS, **output) -> xr.Dataset:
        return ls.replica_exchange(
            toys.DoubleWell(), ls.BAOAB(0.1, friction=1.0), [0.1, 0.2, 0.4], steps=steps, swap_every=4, ladders=2,
            record=ls.Record(3), seed=2, backend=backend, **output,
        )  # fmt: skip

    return call


def trained(backend: str) -> Recipe:
    """Five minibatches make an epoch."""

    def call(steps: int = STEPS, **output) -> xr.Dataset:
        return ls.train(
            network(), ls.SGD(0.1, momentum=0.9), epochs=steps // 5, schedule={0: 1.0, 4: 0.5}, split_epoch=3,
            siblings=CHAINS, seed=3, record=ls.Record(5), backend=backend, **output,
        )  # fmt: skip

    return call


# -- sameness ----------------------------------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    """Checksum of every file of a run; the lock holds nothing."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "lock")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def bits(dataset: xr.Dataset) -> dict[str, tuple[object, ...]]:
    """Dims, type and bytes of every variable."""
    return {
        str(name): (variable.dims, variable.dtype.str, np.ascontiguousarray(variable.values).tobytes())
        for name, variable in dataset.variables.items()
    }


def differing(one: Mapping, other: Mapping) -> list[str]:
    """Names whose values differ, or that only one of the two has."""
    return sorted(name for name in set(one) | set(other) if one.get(name) != other.get(name))


class Killed(BaseException):
    """Stands for the end of a process: nothing in the library may catch it and go on."""


@contextmanager
def killed_at_commit(patch, step: int):
    """The process ends right after a manifest with that many steps came into force."""
    real = os.replace

    def replace(source, target, *arguments, **settings):
        real(source, target, *arguments, **settings)
        if Path(target).name == "manifest.json" and json.loads(Path(target).read_text())["content"]["done"] >= step:
            raise Killed

    with patch.context() as patched:
        patched.setattr(os, "replace", replace)
        try:
            yield
        except Killed:
            return
    raise AssertionError(f"the run ended without a commit at step {step}")


def part_bytes(patch, size: int) -> None:
    """Make the parts of a run small."""
    patch.setattr(importlib.import_module("landscape.dynamics.simulate"), "PART_BYTES", size)


def refusal(call: Callable[[], object]) -> str:
    """Message of the error of this package that a call ends with."""
    try:
        call()
    except LandscapeError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("not refused")
