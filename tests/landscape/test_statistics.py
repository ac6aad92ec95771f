"""Errors of independent numbers cover, lines have the errors that they claim, and arguments are refused in words."""

import inspect

import numpy as np
import pytest
import torch

from landscape.checks import an_instance, finite_number, whole_number
from landscape.common.docstrings import completed
from landscape.errors import ConfigError
from landscape.probes import curvature, free_energy
from landscape.statistics import NORMAL, equal_rows, pseudo_values, standard_error, student_factor, weighted_line

REPEATS = 20_000


def test_errors_of_means_of_five_cover():
    x = np.random.default_rng(1).normal(2.0, 3.0, size=(5, REPEATS))
    off, error = np.abs(x.mean(axis=0) - 2.0), standard_error(x)
    assert abs(np.mean(off < NORMAL * error) - 0.95) < 4.5 * np.sqrt(0.05 * 0.95 / REPEATS)
    # control: without Student's factor they do not
    assert np.mean(off < NORMAL * error / student_factor(4.0)) < 0.9
    assert np.array_equal(standard_error(x.T, axis=1), error)
    assert np.isnan(standard_error(x[:1])).all()


def test_pseudo_values_take_the_bias_of_a_variance_away():
    """Of the variance of divisor n, mean of the pseudo-values: that of divisor n - 1."""
    x = np.random.default_rng(2).normal(size=7)
    less = np.array([np.delete(x, i).var() for i in range(7)])
    found = pseudo_values(x.var(), less).mean()
    assert np.isclose(found, x.var(ddof=1))
    assert not np.isclose(found, x.var())


def test_lines_have_the_errors_that_they_claim():
    rng = np.random.default_rng(3)
    x, sigma = np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.1, 0.3, 0.2, 0.4])
    y = 1.0 + 2.0 * x[:, None] + sigma[:, None] * rng.normal(size=(4, REPEATS))
    line = weighted_line(x[:, None], y, np.broadcast_to(sigma[:, None] ** -2, y.shape))
    for value, true, scale in (
        (line.slope, 2.0, line.spread),
        (line.level, 1.0 + 2.0 * line.middle, line.total),
    ):
        z = (value - true) * np.sqrt(scale)
        assert abs(z.mean()) < 4.5 / np.sqrt(REPEATS)
        assert abs(z.var() - 1.0) < 4.5 * np.sqrt(2.0 / REPEATS)
    assert abs(line.chi_square.mean() - 2.0) < 4.5 * np.sqrt(4.0 / REPEATS)
    even = weighted_line(x[:, None], y, np.ones_like(y))  # control: errors of one size are not those of the points
    assert abs(((even.slope - 2.0) * np.sqrt(even.spread)).var() - 1.0) > 0.5


def test_rows_that_are_alike():
    found = equal_rows([0.2, 0.1, 0.2], [1.0, 1.0, 2.0])
    assert [(row, chains.tolist()) for row, chains in found] == [
        ((0.1, 1.0), [1]),
        ((0.2, 1.0), [0]),
        ((0.2, 2.0), [2]),
    ]


@pytest.mark.parametrize("good", [2, 2.0, np.float32(2.0), np.array(2), torch.tensor(2.0)])
def test_numbers(good):
    assert finite_number("dt", good, above=0, most=2) == 2.0


@pytest.mark.parametrize("bad", [0, -1.0, np.nan, np.inf, True, "1", None, [1.0], np.ones(1), 1j])
def test_what_is_no_positive_number(bad):
    with pytest.raises(ConfigError, match=r"dt = .* is not a positive number: change dt"):
        finite_number("dt", bad, above=0)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"least": 1}, "of at least 1"),
        ({"above": -1, "below": 0.0}, "above -1 and below 0"),
        ({"most": -0.5}, "of at most -0.5"),
    ],
)
def test_bounds_are_said(bounds, words):
    with pytest.raises(ConfigError, match=f"tail = 0.5 is not a finite number {words}"):
        finite_number("tail", 0.5, **bounds)


@pytest.mark.parametrize("bad", [0, 1.0, True, "1", None])
def test_what_is_no_count(bad):
    assert whole_number("steps", np.int64(3)) == 3
    with pytest.raises(ConfigError, match=r"steps = .* is not a positive whole number"):
        whole_number("steps", bad)


def test_what_is_of_another_kind():
    with pytest.raises(ConfigError, match=r"module must be a Module, got 3 \(int\)"):
        an_instance("module", 3, torch.nn.Module)

    class Unspeakable:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(ConfigError, match="Unspeakable"):  # not whatever its own words raise
        an_instance("module", Unspeakable(), torch.nn.Module)


def test_docstrings_tell_of_shared_parameters_once():
    text = inspect.getdoc(curvature.trace)
    assert text.count("chunk_size : int, optional") == 1
    assert text.index("positions :") < text.index("method :") < text.index("dtype :") < text.index("Returns")
    # what a function says itself stays
    assert "Trace of each layer's diagonal block." in text
    assert "instead of the whole" in inspect.getdoc(curvature.eigenvalues)
    assert inspect.getdoc(free_energy.mean_force).count("temperature :") == 1

    def half(number, digits=3):
        """Half."""

    assert completed(half, {"other": "other : int"}, {}) == "Half.\n"
    assert "digits : int" in completed(half, {"digits": "digits : int"}, {"Warns": "UserWarning"})
