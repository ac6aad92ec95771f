"""What a newcomer types: the version, and objects whose text makes them again."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import noise, potentials

NAMESPACE = {name: getattr(ls, name) for name in ls.__all__} | {
    name: getattr(potentials, name) for name in potentials.__all__
}
OBJECTS = [
    ls.Absorb({"x": (None, 1.0)}), ls.Reflect({"x": (0.0, None)}), ls.Periodic({"x": (0.0, 1.0)}),
    ls.Restrain("x", 0.5, 2.0), ls.Metadynamics("x", height=0.1, width=0.2, every=10),
    ls.BAOAB(dt=0.1, friction=1.0), ls.HMC(dt=0.1, leapfrog_steps=5), ls.MALA(dt=0.1), ls.NUTS(dt=0.1),
    ls.SGD(lr=0.1, momentum=0.9), ls.SGHMC(lr=0.1, friction=1.0), ls.SGLD(lr=0.1), ls.Adam(lr=0.1),
    ls.AdamW(lr=[0.1, 0.2]),
    ls.Diffusion(dt=0.1), ls.EulerMaruyama(dt=ls.piecewise({0.0: 0.1, 1.0: 0.2})), ls.Heun(dt=ls.ramp(0.1, 0.2, 3.0)),
    ls.LeimkuhlerMatthews(dt=0.1), ls.EulerMaruyama(dt=0.1, noise=ls.ColoredNoise(0.5)),
    ls.Mobility([["1", "0"], ["0", "2"]]), ls.Optimizer(torch.optim.SGD, lr=0.1, momentum=0.5),
    ls.Preconditioned(ls.EulerMaruyama(dt=0.1), [[2.0, 0.0], [0.0, 1.0]]),
    ls.ColoredNoise(0.5), ls.CovarianceNoise([[1.0, 0.0], [0.0, 2.0]]), ls.HessianNoise(["x"]), ls.ThermalNoise(),
    ls.TwoPointNoise(),
    ls.Moments("x"), ls.Histogram("x", bins=10, range=(0, 1)), ls.Autocorrelation("x"), ls.Residence("x", [0.0, 1.0]),
    ls.CoreSets({"left": (-1.2, -0.8), "right": (0.8, 1.2)}, of="x"), ls.Record(10, ["energy", ls.Moments("x")]),
    potentials.Expression("k*x**2", ["x"], {"k": 2.0}, bounds={"x": (-1, 1)}), potentials.DoubleWell(),
    potentials.Drift("-y", "x", coordinates=["x", "y"]), potentials.Quadratic([1.0, 2.0]), potentials.EntropicBarrier(),
    potentials.Valley("1 + y**2", bounds={"y": (-3, 3)}), potentials.Ring(), potentials.ExponentialWall(),
    potentials.Himmelblau(), potentials.MullerBrown(), potentials.Rosenbrock(), potentials.ThreeHole(),
    potentials.WolfeQuapp(),
]  # fmt: skip
NOT_PLAIN = {"ProjectOntoPath", "Function", "NetworkLoss", "Potential"}  # of a path, a callable, a module; abstract


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: type(one).__name__)
def test_the_text_of_an_object_makes_it(one):
    again = eval(repr(one), dict(NAMESPACE))  # noqa: S307  # that is what is tested
    assert type(again) is type(one) and repr(again) == repr(one)
    if hasattr(one, "spec"):
        assert again.spec() == one.spec()


def test_every_public_class_is_among_them():
    public = {name for name, one in NAMESPACE.items() if inspect.isclass(one)}
    assert (
        public - NOT_PLAIN
        == {name for name in public for one in OBJECTS if isinstance(one, NAMESPACE[name])} - NOT_PLAIN
    )
    assert set(noise.__all__) - {"Noise"} <= set(NAMESPACE)


def test_a_function_says_what_it_is_made_of():
    def bowl(x):
        return (x**2).sum(dim=-1)

    assert repr(potentials.Function(bowl, 2, coordinates=["x", "y"])).endswith("bowl, dim=2, coordinates=['x', 'y'])")


def test_the_version_is_that_of_the_distribution():
    assert ls.__version__ == version("landscape-langevin")


def test_a_profile_along_a_formula():
    """As along the callable; a name that is none is refused."""
    run = ls.simulate(
        potentials.Ring("50"), ls.EulerMaruyama(dt=1e-3), temperature=0.5, chains=8, steps=4000, start=[1.0, 0.0],
        record=ls.Record(20), backend="batched", seed=1,
    )  # fmt: skip
    settings = {"bins": 10, "range": (-np.pi, np.pi)}
    by_formula = ls.probes.free_energy.profile(run, 0.5, coordinate="atan2(y, x)", **settings)
    by_callable = ls.probes.free_energy.profile(
        run, 0.5, coordinate=lambda x: torch.atan2(x[..., 1], x[..., 0]), **settings
    )
    assert by_formula.free_energy.dims == ("q",)
    assert np.array_equal(by_formula["count"].values, by_callable["count"].values)
    assert by_formula["count"].sum() == 8 * 200
    other = ls.probes.free_energy.profile(run, 0.5, coordinate="atan2(x, y)", **settings)
    assert not np.array_equal(by_formula["count"].values, other["count"].values)  # the control
    for wrong in ("z", "atan2(z, x)", 3):
        with pytest.raises(ls.errors.LandscapeError, match=r"z|3"):
            ls.probes.free_energy.profile(run, 0.5, coordinate=wrong)
