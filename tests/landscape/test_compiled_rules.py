"""Rules, noises and energies from elsewhere run in the compiled loops as they do in torch, and a step is captured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import sympy
import torch

import landscape as ls
from landscape import potentials
from landscape.engine.choice import why_not_compiled
from landscape.engine.prepare import prepare
from landscape.engine.repeated import repeats
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator
from landscape.integrators.compiled_rule import CompiledRule, exponential
from landscape.noise.base import Noise, standard_normals
from landscape.noise.forms import CompiledNoise, Spread
from tests.device.pretended import PretendedGPU

SPRING = potentials.Expression("x**2/2", ["x"])
HALF = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class BABO(Integrator):
    """Velocity Verlet, then friction and noise: on a quadratic <x^2> = (T/k)/(1 - dt^2 k/4)."""

    dt: float
    friction: float
    noise: Noise | None = None

    gradients_per_step: ClassVar[int] = 2
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    memory_names: ClassVar[tuple[str, ...]] = ("momentum",)
    flips_on_reflection: ClassVar[tuple[str, ...]] = ("momentum",)
    per_chain: ClassVar[tuple[str, ...]] = ("friction",)
    capturable: ClassVar[bool] = True

    @property
    def step_size(self):
        return self.dt

    def amplitude(self, temperature, dt, settings):
        return (temperature * -np.expm1(-2.0 * settings["friction"] * dt)) ** 0.5

    def compiled_rule(self):
        return CompiledRule(_babo, stages=2)

    def step(self, position, memory, at):
        push = at.increment(position, memory)
        momentum = memory["momentum"] - HALF * at.dt * at.gradient(position)
        position = position + at.dt * momentum
        momentum = momentum - HALF * at.dt * at.gradient(position)
        memory["momentum"] = torch.exp(-at.settings["friction"] * at.dt) * momentum + push
        return position


def _babo(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):
    for i in range(n):
        m[row, i] = m[row, i] - HALF * dt[at, i] * gradient[slope, i]
        if stage == 0:
            x[row, i] = x[row, i] + dt[at, i] * m[row, i]
        else:
            m[row, i] = exponential(-settings[0, i] * dt[at, i]) * m[row, i] + amplitude[at, i] * noise[draw, i]


@dataclass(frozen=True, slots=True, eq=False)
class Hotter(BABO):
    """Another step, and the compiled rule of the one before."""

    def step(self, position, memory, at):
        return BABO.step(self, position, memory, at) + 0.1


@dataclass(frozen=True, slots=True, eq=False)
class WarmRim(Noise):
    """Of variance 2 T dt (1 + x^2) along each coordinate."""

    precision: Any = "float64"

    additive: ClassVar[bool] = False
    capturable: ClassVar[bool] = True

    def draw(self, seed, chains, step, dim):
        return standard_normals(seed, chains, step, dim, self.precision)

    def increment(self, position, memory, at):
        return at.amplitude * ((1.0 + position.square()).sqrt() * at.noise())

    def spread(self, potential, position):
        return Spread(1.0 + position.square())

    def compiled_form(self, formula):
        names = [sympy.Symbol(name, real=True) for name in formula.coordinates]
        return CompiledNoise({d: sympy.sqrt(1 + symbol**2) for d, symbol in enumerate(names)})


class Bowl(potentials.Potential):
    """x^2/2 + y^2, by torch; and as a formula."""

    dim, coordinates, bounds = 2, ("x", "y"), {}
    stiff = 2.0

    def _energy(self, position):
        return 0.5 * (position[..., 0].square() + self.stiff * position[..., 1].square())

    def compiled_form(self):
        return potentials.Expression("(x**2 + k*y**2)/2", ["x", "y"], {"k": self.stiff})


class ChangedBowl(Bowl):
    """Another energy with the formula of the one before."""

    def _energy(self, position):
        return position.square().sum(-1)


def both(potential, rule, **settings):
    return [
        ls.simulate(potential, rule, temperature=1.0, backend=backend, seed=1, **settings)
        for backend in ("compiled", "batched")
    ]


@pytest.fixture(scope="module")
def of_rule():
    """A scale of bits: the same law from the same variates, exponentials of two libraries apart."""
    return both(SPRING, BABO(1.0, 0.7), chains=4000, steps=60, record=ls.Record(20))


def test_a_rule_from_elsewhere_is_compiled(of_rule):
    compiled, batched = of_rule
    assert compiled.attrs["backend"] == "compiled"
    np.testing.assert_allclose(compiled.position, batched.position, rtol=0, atol=1e-11)


def test_its_law_is_that_of_its_own_time(of_rule):
    last = of_rule[0].last_position.values.ravel()
    z = [(np.mean(last**2) / exact - 1.0) * np.sqrt(len(last) / 2) for exact in (1 / 0.75, 1.0)]
    assert abs(z[0]) < 4.5
    assert abs(z[1]) > 4.5  # control: BAOAB's, which has no error


def test_each_part_may_be_from_elsewhere():
    """Rule, noise and energy at once; walls turn the momentum."""
    settings = {"chains": 40, "steps": 30, "constraint": ls.Reflect({"x": (-0.5, 1.0)})}
    compiled, batched = both(Bowl(), BABO(0.1, 0.7, noise=WarmRim()), **settings)
    np.testing.assert_allclose(compiled.position, batched.position, rtol=0, atol=1e-12)
    plain = ls.simulate(Bowl(), BABO(0.1, 0.7), temperature=1.0, backend="batched", seed=1, **settings)
    assert not np.allclose(plain.position, batched.position, rtol=0, atol=1e-3)  # control: without that noise


def test_what_a_subclass_changes_is_not_compiled_as_it_was():
    for potential, rule in ((SPRING, Hotter(0.1, 0.7)), (ChangedBowl(), BABO(0.1, 0.7))):
        with pytest.raises(ConfigError, match="cannot run this"):
            ls.simulate(potential, rule, temperature=1.0, steps=1, backend="compiled")
        assert why_not_compiled(prepare(potential, rule, temperature=1.0, steps=1)[0]) is not None
    assert why_not_compiled(prepare(Bowl(), BABO(0.1, 0.7), temperature=1.0, steps=1)[0]) is None


def test_a_rule_and_a_noise_from_elsewhere_are_captured():
    """A step in place has the bits of single steps; only what changes nothing but its number is captured."""
    rule, settings = BABO(0.1, 0.7, noise=WarmRim()), {"temperature": 1.0, "chains": 8, "steps": 40, "seed": 1}
    here = ls.simulate(Bowl(), rule, backend="batched", **settings)
    with PretendedGPU() as gpu:
        there = ls.simulate(Bowl(), rule, device="cuda", **settings)
    assert gpu.counts["capture"] == 1
    np.testing.assert_allclose(there.position, here.position, rtol=0.0, atol=1e-5)
    plan = prepare(Bowl(), rule, temperature=1.0, chains=8, steps=10)[0]
    on_device = replace(plan, device=torch.device("cuda"))
    assert repeats(on_device)
    assert not repeats(replace(on_device, integrator=Hotter(0.1, 0.7)))
    stops = ls.HessianNoise(negative="raise")
    assert not repeats(replace(on_device, integrator=ls.EulerMaruyama(0.1, noise=stops)))


@pytest.mark.parametrize("noise", [ls.HessianNoise(isotropic=0.5), ls.ColoredNoise(1.0)], ids=["hessian", "colored"])
def test_noises_that_a_rule_cannot_take_are_refused(noise):
    with pytest.raises(ConfigError, match="homogeneous and white"):
        ls.BAOAB(0.1, 1.0, noise=noise)
    assert ls.EulerMaruyama(0.1, noise=noise).thermal_noise is noise
