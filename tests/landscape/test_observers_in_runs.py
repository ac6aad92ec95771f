"""Observers inside a run give, to the last bit, what they give after the fact on the recorded trajectory."""

import tracemalloc

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.potentials import Expression, Function, NetworkLoss, architectures, datasets
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, z_score


def well():
    return Expression("(x**2 - 1)**2 + y**2", ["x", "y"])


def radius(potential, position):
    return position.norm(dim=-1)


OBSERVERS = {
    "moments": ls.Moments("position", covariance=True, every=1),
    "heat": ls.Moments("energy", every=3),
    "histogram": ls.Histogram("x", bins=12, range=(-2.0, 2.0), every=2),
    "plane": ls.Histogram(["x", "y"], bins=6, range=((-2.0, 2.0), (-2.0, 2.0)), every=5),
    "correlation": ls.Autocorrelation("energy", points=8, levels=4, every=1),
    "cells": ls.Residence("x", edges=[0.0], every=1),
    "radius": ls.Moments(radius, every=7),
    "at the record": ls.Histogram("y", bins=5, range=(-1.0, 1.0)),
}


def samples_of(observer, run):
    every = observer.every or 10
    chosen = slice(every - 1, None, every)
    if observer.of == "energy":
        return run.energy.values[:, chosen]
    position = run.position.values[:, chosen]
    if callable(observer.of):
        return np.linalg.norm(position, axis=-1)
    if observer.of == "position":
        return position
    names = [observer.of] if isinstance(observer.of, str) else list(observer.of)
    return position[:, :, [["x", "y"].index(name) for name in names]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("steps", [200, 187])
def test_streamed_is_after_the_fact(backend, steps):
    settings = {"temperature": 0.4, "chains": 3, "steps": steps, "seed": 4, "backend": backend}
    whole = ls.simulate(well(), ls.EulerMaruyama(0.02), record=ls.Record(1), **settings)
    record = ls.Record(10, {"energy": None, **OBSERVERS})
    run = ls.simulate(well(), ls.EulerMaruyama(0.02), record=record, **settings)
    assert run.energy.values.tobytes() == whole.energy.values[:, 9::10].tobytes()
    for name, observer in OBSERVERS.items():
        spacing = 0.02 * (observer.every or 10)
        after = observer.apply(samples_of(observer, whole), spacing=spacing, name=name)
        for variable in after.data_vars:
            streamed, kept = run[variable].values, after[variable].values
            if observer.of is radius:
                np.testing.assert_allclose(streamed, kept, rtol=1e-12)  # torch's norm and numpy's
            else:
                assert streamed.tobytes() == kept.tobytes(), variable


def test_several_of_one_source_and_names():
    record = ls.Record(5, [ls.Moments("x", every=1), ls.Histogram("x", range=(-2, 2)), "energy"])
    run = ls.simulate(well(), ls.EulerMaruyama(0.02), temperature=0.4, steps=20, record=record)
    assert {"x_mean", "x_variance", "x_count", "energy"} <= set(run.data_vars)
    assert run.x_mean.dims == ("chain",)


def test_a_constant_average_of_a_function_and_a_network():
    bowl = Function(lambda x: (x**2).sum(-1) / 2, 2, coordinates=["x", "y"])
    record = ls.Record(100, [ls.Moments("x", every=5)])
    run = ls.simulate(bowl, ls.EulerMaruyama(0.1), temperature=1.0, chains=200, steps=2000, record=record, seed=3)
    second = run.x_variance.values + run.x_mean.values**2
    assert abs(z_score(second, 1 / (1 - 0.1 / 2))) < Z_MAX
    assert abs(z_score(1.2 * second, 1 / (1 - 0.1 / 2))) > Z_CONTROL
    torch.manual_seed(0)
    loss = NetworkLoss(architectures.mlp((10, 4, 3)), datasets.random_labels(samples=30))
    record = ls.Record(10, {"energy": None, "loss": ls.Moments("energy", every=10)})
    run = ls.simulate(loss, ls.SGD(0.05), steps=50, record=record)
    np.testing.assert_allclose(run.loss_mean, run.energy.mean("draw"), rtol=1e-12)


def test_equipartition_without_a_trajectory():
    """<x dV/dx> = T of a quadratic, by a million steps that keep nothing."""
    spring = Expression("2*x**2", ["x"])
    record = ls.Record(50_000, [ls.Moments("x", every=1)])
    run = ls.simulate(spring, ls.LeimkuhlerMatthews(0.1), temperature=0.5, chains=20, steps=50_000, record=record)
    second = run.x_variance.values + run.x_mean.values**2
    assert abs(z_score(second, 0.5 / 4)) < Z_MAX
    assert abs(z_score(1.05 * second, 0.5 / 4)) > Z_CONTROL


@pytest.mark.slow
def test_memory_does_not_grow_with_steps():
    def peak(steps):
        record = ls.Record(steps, [ls.Moments("x", every=1), ls.Histogram("x", range=(-2, 2), every=1)])
        tracemalloc.start()
        ls.simulate(well(), ls.EulerMaruyama(0.02), temperature=0.4, chains=4, steps=steps, record=record)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1000)
    few, many = peak(2_000_000), peak(8_000_000)
    assert many < few + 2**20
