"""A chain that leaves the numbers: step, chain and coordinate, and nothing of it on disk."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import LandscapeError, NonFiniteError
from landscape.potentials import Expression, Function
from tests.landscape.reliability import runs
from tests.landscape.reliability.runs import BACKENDS

CHAINS, BAD, STEP = 64, 41, 37


def cliff() -> Expression:
    """A slope along y, 0.1 a step at lr = 0.1; V is NaN once y < 0."""
    return Expression("x**2/2 + y + 1e-9*y**1.5", ["x", "y"])


def hidden_nan() -> Function:
    """A force that is NaN beyond y = -1, and an energy that is not."""

    class Force(torch.autograd.Function):
        @staticmethod
        def forward(context, y):
            context.save_for_backward(y)
            return y * 1.0

        @staticmethod
        def backward(context, seed):
            (y,) = context.saved_tensors
            return torch.where(y < -1.0, torch.nan, seed)

    return Function(lambda x: 0.5 * x[..., 0] ** 2 + Force.apply(x[..., 1]), dim=2)


def starts(height: float) -> np.ndarray:
    start = np.tile([0.3, 90.0], (CHAINS, 1))
    start[BAD, 1] = height
    return start


def everything_finite(folder) -> bool:
    """What is in the parts, the state and the checkpoint of a folder."""
    from safetensors.numpy import load_file

    with ls.open(folder) as run:
        stored = [run[name].values for name in run.variables if run[name].dtype.kind == "f"]
    tensors = [array for file in folder.glob("*.safetensors") for array in load_file(file).values()]
    stored += [array for array in tensors if array.dtype.kind == "f"]
    return all(np.isfinite(array).all() for array in stored)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("every", [None, 10, 36])
def test_a_potential_that_ends(every, backend, tmp_path):
    """After 37 steps of 0.1 from 3.65 the height is -0.05, and V is NaN there."""
    settings = {"start": starts(3.65), "backend": backend, "output": tmp_path / "run", "checkpoint_every": every}
    with pytest.raises(NonFiniteError) as error:
        ls.simulate(cliff(), ls.SGD(lr=0.1), steps=120, **settings)
    assert (error.value.step, error.value.chain) == (STEP, BAD), str(error.value)
    assert "chain 41" in str(error.value) and f"step {STEP}" in str(error.value)
    with ls.open(tmp_path / "run") as kept:
        assert kept.sizes["draw"] == STEP - 1
        assert kept.attrs["steps_done"] == STEP - 1 or every is None
    assert everything_finite(tmp_path / "run")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_coordinate(backend, tmp_path):
    """dy/dt = y^3 is infinite in finite time: y, not x."""
    start = np.tile([0.3, 0.0], (CHAINS, 1))
    start[BAD, 1] = 1.5
    hill = Expression("x**2/2 - y**4/4", ["x", "y"])
    with pytest.raises(NonFiniteError) as error:
        ls.simulate(
            hill, ls.SGD(lr=0.1), start=start, steps=100, backend=backend, output=tmp_path / "run", checkpoint_every=4,
            record=ls.Record(observables=["position"]),
        )  # fmt: skip
    assert (error.value.step, error.value.chain, error.value.coordinate) == (10, BAD, "y")
    assert everything_finite(tmp_path / "run")


def test_a_force_that_is_nan(tmp_path):
    """In the step from y = -1.05 to y = NaN: 21 steps of 0.1 from 1.05 stand on -1.05."""
    with pytest.raises(NonFiniteError) as error:
        ls.simulate(
            hidden_nan(), ls.SGD(lr=0.1), start=starts(1.05), steps=100, output=tmp_path / "run", checkpoint_every=7
        )
    assert (error.value.step, error.value.chain, error.value.coordinate) in [(22, BAD, 1), (22, BAD, "x1")], error.value
    with ls.open(tmp_path / "run") as kept:
        assert kept.attrs["steps_done"] == 21
    assert everything_finite(tmp_path / "run")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_start_that_is_not_finite(value, backend, tmp_path):
    with pytest.raises(LandscapeError) as error:
        ls.simulate(cliff(), ls.SGD(lr=0.1), start=starts(value), steps=10, backend=backend, output=tmp_path / "run")
    assert isinstance(error.value, NonFiniteError)
    assert (error.value.step, error.value.chain, error.value.coordinate) == (0, BAD, "y")
    assert not list((tmp_path / "run").glob("draw*"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stop", [20, 80])
def test_only_the_chain_that_diverged_is_masked(stop, backend, tmp_path):
    """Also over a restart, before or after the step of the divergence; the others are the bits that they are alone."""
    settings = {"start": starts(3.65), "backend": backend, "seed": 2}

    def call(steps=120, **output):
        return ls.simulate(cliff(), ls.SGD(lr=0.1), steps=steps, on_nonfinite="drop", **settings, **output)

    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 2**14)
        with runs.killed_at_commit(patch, stop):
            call(output=tmp_path / "run", checkpoint_every=20)
        ls.resume(tmp_path / "run", checkpoint_every=60)
        call(output=tmp_path / "whole")
    assert runs.differing(runs.digests(tmp_path / "run"), runs.digests(tmp_path / "whole")) == []
    memory = call()
    with ls.open(tmp_path / "run") as run:
        assert runs.differing(runs.bits(run), runs.bits(memory)) == []
        masked = ~np.isfinite(run.position.values).all(-1)
    assert masked[BAD, STEP - 1 :].all() and not masked[BAD, : STEP - 1].any()
    assert not np.delete(masked, BAD, axis=0).any()
    others = ls.simulate(
        cliff(), ls.SGD(lr=0.1), steps=120, **{**settings, "start": np.delete(starts(3.65), BAD, axis=0)}
    )
    if backend == "compiled":
        assert (np.delete(memory.position.values, BAD, axis=0) == others.position.values).all()
