"""Warnings point at the user's line, from whatever depth they come."""

import warnings
from contextlib import contextmanager

import pytest
import torch

import landscape as ls
from landscape.common.notices import warn
from landscape.potentials import Expression, NetworkLoss


@contextmanager
def wrapped():
    yield


def dropout():
    x = torch.ones(4, 2)
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
    ls.train(NetworkLoss(module, x, torch.arange(4) % 2), ls.SGD(lr=0.1), epochs=1)


def unconverged():
    ls.minimize(Expression("x**4", ["x"]), start=[3.0], method="gd", lr=1e-6, steps=2)


def skewed():
    ls.probes.curvature.trace(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), method="exact")


@pytest.mark.parametrize("call", [dropout, unconverged, skewed])
def test_the_line_that_called_is_named(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrapped()(call)()
    assert caught
    assert {one.filename for one in caught} == {__file__}


def test_a_caller_of_ones_own_is_not_passed_over():
    with pytest.warns(UserWarning, match="here") as caught:
        warn("here")
    assert caught[0].filename == __file__
