"""Labels are read or refused, a mask is obeyed, and the temperature of a run is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape import potentials
from landscape.common.positions import ordered, plain_array
from landscape.errors import ConfigError, NonFiniteError, ShapeError
from landscape.potentials import Expression, Function
from landscape.probes import confinement, curvature, fluctuations, free_energy, rates

WELL = Expression("x**2 + 10*y**2 + x*y + x**4", coordinates=["x", "y"])
AT = np.array([[1.0, 2.0], [3.0, -1.0]])  # square: a transposed one has the same shape
LABELS = xr.DataArray(AT, dims=("chain", "coordinate"), coords={"coordinate": ["x", "y"]})
TURNED = {
    "permuted": LABELS[:, ::-1], "transposed": LABELS.T, "both": LABELS[:, ::-1].T,
    "unnamed order": xr.DataArray(AT.T, dims=("coordinate", "chain")), "table": LABELS[:, ::-1].to_pandas(),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNED)
def test_labels_of_positions(name):
    given = TURNED[name]
    for method in ("energy", "gradient", "hessian"):
        assert np.array_equal(getattr(WELL, method)(given), getattr(WELL, method)(AT)), method
    if name == "table":
        return
    for probe in (curvature.eigenvalues, curvature.extreme_eigenvalues, curvature.trace, curvature.diagonal):
        for key, values in probe(WELL, given).data_vars.items():
            np.testing.assert_allclose(values.values, probe(WELL, AT)[key].values, err_msg=key)
    one = given.isel(chain=0)
    assert float(free_energy.harmonic(WELL, one, 0.1).energy) == float(free_energy.harmonic(WELL, AT[0], 0.1).energy)
    distance = fluctuations.distance(given, LABELS.isel(chain=0)).distance
    np.testing.assert_allclose(distance, [0.0, np.hypot(2.0, 3.0)])
    ends = [given.isel(chain=i) for i in (0, 1)]
    band = ls.paths.neb(WELL, *ends, pivots=3, steps=1, lr=1e-3, end_tolerance=np.inf)
    assert band.pivots[-1].tolist() == AT[1].tolist()
    run = ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), steps=1, start=given)
    assert np.array_equal(
        run.last_position, ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), steps=1, start=AT).last_position
    )


def test_arrays_without_labels_are_read_as_they_lie():
    """The control: the same numbers in another order are another position."""
    assert not np.array_equal(WELL.energy(AT[:, ::-1]), WELL.energy(AT))
    assert not np.array_equal(WELL.energy(AT.T), WELL.energy(AT))
    assert np.array_equal(WELL.energy(LABELS.drop_vars("coordinate")[:, ::-1]), WELL.energy(AT[:, ::-1]))
    nameless = Function(lambda p: (p**2).sum(-1), dim=2)
    with pytest.raises(ShapeError, match="drop_vars"):  # its coordinates are called x0 and x1
        nameless.energy(LABELS)
    assert np.array_equal(nameless.energy(LABELS.drop_vars("coordinate")), (AT**2).sum(-1))


@pytest.mark.parametrize(
    "given",
    [
        LABELS.assign_coords(coordinate=["x", "z"]), LABELS.assign_coords(coordinate=["x", "x"]),
        LABELS.rename(coordinate="weight"), LABELS.assign_coords(coordinate=[1, 2]),
    ],
)  # fmt: skip
def test_other_labels_are_refused(given):
    for call in (WELL.energy, lambda at: curvature.trace(WELL, at), lambda at: free_energy.harmonic(WELL, at[0], 1.0)):
        with pytest.raises(ShapeError, match=r"label|dims"):
            call(given)


def test_a_run_goes_on_by_its_labels():
    """Momenta go with the positions; the control, permuted without labels, moves elsewhere."""
    rule = ls.BAOAB(dt=0.05, friction=1.0)
    run = ls.simulate(WELL, rule, steps=5, temperature=0.2, chains=2, seed=1)
    kept = {"steps": 5, "temperature": 0.2, "seed": 1, "state": "keep"}
    further = ls.simulate(WELL, rule, start=run, **kept).last_position
    turned = run.isel(coordinate=[1, 0]).transpose("coordinate", ...)
    assert np.array_equal(ls.simulate(WELL, rule, start=turned, **kept).last_position, further)
    wrong = run.isel(coordinate=[1, 0]).drop_vars("coordinate")
    assert not np.array_equal(ls.simulate(WELL, rule, start=wrong, **kept).last_position, further)


def test_labels_of_paths():
    path = ls.paths.straight_line(LABELS[0], LABELS[1, ::-1])
    assert path.names == ("x", "y")
    assert path.pivots.tolist() == AT.tolist()
    turned = ls.paths.Path(AT[:, ::-1].copy(), names=["y", "x"])
    found = confinement.along_path(WELL, turned, ["energy"])
    np.testing.assert_allclose(found.energy, WELL.energy(AT))
    np.testing.assert_allclose(curvature.trace(WELL, turned).trace, curvature.trace(WELL, path).trace)
    with pytest.raises(ShapeError, match="ordered"):
        ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), steps=1, constraint=ls.ProjectOntoPath(turned, every=1))


def test_masks():
    """A masked entry is not known; the number that lies under it never counts."""
    hidden = np.ma.masked_array([1.0, 1e6], mask=[False, True])
    assert np.isnan(WELL.energy(hidden))
    assert np.isnan(plain_array([hidden, hidden])[:, 1]).all()
    assert np.array_equal(plain_array(np.ma.masked_array([1, 2])), [1, 2])
    with pytest.raises(NonFiniteError):
        ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), steps=1, start=hidden)
    series = np.random.default_rng(0).normal(size=(3, 200))
    mask = np.zeros_like(series, bool)
    mask[1, 150] = True
    found = fluctuations.summary(np.ma.masked_array(np.where(mask, 1e6, series), mask))
    assert np.isnan(found["mean"][1])
    assert abs(found["mean"][0]) < 1.0
    assert fluctuations.summary(np.where(mask, 1e6, series))["mean"][1] > 1e3  # the control: without its mask


HALF = np.ma.masked_array([0.1, 5.0], mask=[False, True])
SQUARE = np.ma.masked_array(np.eye(2), mask=[[0, 0], [0, 1]])
PAIRS = np.ma.masked_array([[1.0, 2.0], [3.0, 1e6]], mask=[[0, 0], [0, 1]])


@pytest.mark.parametrize(
    "make",
    [
        lambda m: ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), temperature=m(HALF), steps=1),
        lambda m: ls.EulerMaruyama(dt=m(HALF)),
        lambda m: ls.BAOAB(dt=0.1, friction=m(HALF)),
        lambda m: ls.BAOAB(dt=0.1, friction=1.0, mass=m(HALF)),
        lambda m: ls.noise.CovarianceNoise(m(SQUARE)),
        lambda m: potentials.Quadratic(m(HALF)),
        lambda m: potentials.Expression("k*x**2", ["x"], {"k": m(HALF)}),
        lambda m: ls.piecewise({0: 1.0, 1.0: m(HALF)}),
        lambda m: ls.grid(temperature=m(HALF)),
        lambda m: potentials.NetworkLoss(torch.nn.Linear(2, 1), m(PAIRS), np.zeros((2, 1)), loss="mse"),
        lambda m: potentials.NetworkLoss(torch.nn.Linear(2, 2), np.ones((2, 2)), m(PAIRS), loss="mse"),
    ],
)
def test_masked_settings_and_data_are_refused(make):
    """What lies under a mask was taken for a temperature, a step, a stiffness or a sample."""
    make(lambda masked: masked.data)  # the control
    with pytest.raises((ConfigError, ShapeError), match=r"nan|finite|positive|masked"):
        make(lambda masked: masked)


def test_ragged_lists_and_words():
    for call in (
        lambda x: WELL.energy(x), lambda x: fluctuations.summary(x), lambda x: free_energy.profile(x, 1.0),
        lambda x: curvature.trace(WELL, x), lambda x: fluctuations.distance(x, [0.0]),
        lambda x: ls.paths.Path(x), lambda x: fluctuations.participation_ratio(x), lambda x: confinement.instability(x),
        lambda x: ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), steps=1, start=x), lambda x: rates.core_sets(x, "x < 0"),
    ):  # fmt: skip
        for wrong in ([[1.0, 2.0], [3.0]], [["a", "b"], ["c", "d"]], [[1j, 0], [0, 1]], [[None, 1], [2, 3]]):
            with pytest.raises((ShapeError, ConfigError)):
                call(wrong)


def test_orders_of_tensors():
    assert torch.equal(WELL.energy(torch.as_tensor(AT)), torch.as_tensor(WELL.energy(AT)))
    assert np.array_equal(ordered(LABELS.T, ["y", "x"]), AT[:, ::-1])


@pytest.fixture(scope="module")
def run():
    spring = ls.potentials.Quadratic([1.0])
    rule = ls.EulerMaruyama(dt=0.5)  # its law is exact: variance T / (1 - dt/4)
    return ls.simulate(spring, rule, temperature=[0.1] * 8 + [0.4] * 8, steps=4000, record=ls.Record(2), seed=2)


def test_a_run_has_its_own_temperature(run):
    """F = T x^2 / (2 variance) at the run's T; twice the temperature, which gave twice F, is refused."""
    x = run.position.sel(coordinate="x")
    for chosen in (x[8:], x[8:].drop_vars("temperature")):
        known = "temperature" in chosen.coords
        found = free_energy.profile(chosen, None if known else 0.4, bins=9, range=(-0.9, 0.9), zero="mean")
        theory = 0.5 * found.x**2 * (1 - 0.125)
        z = (found.free_energy - (theory - theory.mean())) / found.free_energy_stderr
        assert abs(z).max() < 4.5
        assert found.attrs["temperature"] == 0.4
    for heat in (0.1, 0.8):
        with pytest.raises(ConfigError, match="mbar"):
            free_energy.profile(x[8:], heat)
    with pytest.raises(ConfigError, match="several temperatures"):
        free_energy.profile(x, 0.4)
    with pytest.raises(ConfigError, match="several temperatures"):
        free_energy.profile(run, 0.4, coordinate="x")
    with pytest.raises(ConfigError, match="temperature = None is not"):
        free_energy.profile(x.values)


def test_energies_have_the_temperature_of_their_run(run):
    energy = run.energy[:8]
    assert np.allclose(fluctuations.summary(energy, 0.1).temperature, 0.1)
    with pytest.raises(ConfigError, match="the run is at"):
        fluctuations.summary(energy, 0.2)
    assert np.allclose(fluctuations.summary(energy.drop_vars("temperature"), 0.2).temperature, 0.2)


@pytest.mark.parametrize(
    "call",
    [
        lambda given: ls.cycle(low=given, high=1.0, period=1.0),
        lambda given: ls.EulerMaruyama(dt=given),
        lambda given: ls.simulate(ls.potentials.DoubleWell(), ls.EulerMaruyama(dt=0.01), steps=1, temperature=given),
        lambda given: ls.potentials.DoubleWell().energy(given[:, None]),
    ],
)
def test_records_are_no_numbers(call):
    """NumPy reads those of one field as numbers here and there."""
    records = np.array([(0.5,), (0.7,)], dtype=[("value", float)])
    with pytest.raises((ConfigError, ShapeError), match=r"number|records"):
        call(records)
    call(records["value"])  # control
