"""Strings and bands on surfaces whose saddles are known, and their single steps against the equations."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import NonFiniteError
from landscape.paths import Path, auto_neb, bezier, neb, polychain, straight_line, string
from landscape.paths.automated_band import split_shares
from landscape.paths.tangents import improved_tangents, perpendicular

SADDLE = -40.664844  # Muller-Brown, between A and C, with the length of the path A-C-B
LENGTH = 2.6988275


@pytest.fixture(scope="module")
def surface():
    return ls.potentials.toys.MullerBrown()


# (x^2 - 1)^2 (1 + 0.3 x) along a floor that bends in the other coordinates: minima at x = -1 and 1, V = 0; at the
# saddle 1.5 x^2 + 4 x - 0.3 = 0.
SADDLE_X = (-4 + np.sqrt(17.8)) / 3
SADDLE_V = (SADDLE_X**2 - 1) ** 2 * (1 + 0.3 * SADDLE_X)


def bent_well(dim):
    names = [f"x{i}" for i in range(dim)]
    rng = np.random.default_rng(dim)
    stiffness, bend = rng.uniform(2, 6, dim).round(2), (rng.uniform(-1, 1, dim) / dim**0.5).round(3)
    terms = [f"{k}*({name} - {c}*(1 - x0**2))**2" for name, k, c in zip(names[1:], stiffness, bend, strict=False)]
    well = ls.potentials.Expression(" + ".join(["(x0**2 - 1)**2*(1 + 0.3*x0)", *terms]), names)
    saddle = np.concatenate([[SADDLE_X], bend[: dim - 1] * (1 - SADDLE_X**2)])
    ends = np.zeros((2, dim))
    ends[:, 0] = -1, 1
    return well, ends, saddle


@pytest.mark.parametrize("dim", [3, 50])
def test_the_wells_are_what_they_are_said_to_be(dim):
    well, ends, saddle = bent_well(dim)
    assert abs(well.gradient(saddle)).max() < 1e-13
    assert (np.linalg.eigvalsh(well.hessian(saddle)) < 0).sum() == 1
    assert well.energy(saddle) == pytest.approx(SADDLE_V, abs=1e-14)
    for end in ends:
        assert abs(well.gradient(end)).max() == 0
        assert np.linalg.eigvalsh(well.hessian(end)).min() > 0
    assert straight_line(*ends).highest(well)[1] > SADDLE_V + 0.3  # a straight line does not do


# -- Muller-Brown -----------------------------------------------------------------------------------------------------


@pytest.mark.always
def test_string_on_muller_brown(surface):
    a, b, _ = surface.minima()
    path = string(surface, a, b, pivots=33, steps=1000, lr=1e-4)
    assert path.spline.highest(surface)[1] == pytest.approx(SADDLE, abs=1e-3)
    assert path.length == pytest.approx(LENGTH, rel=0.01)
    assert path.spline.length == pytest.approx(LENGTH, rel=0.01)
    assert float(path.spline.project(surface.minima()[2])[1]) < 1e-3  # it goes through C, which nobody named
    early = string(surface, a, b, pivots=33, steps=20, lr=1e-4)  # control
    assert early.spline.highest(surface)[1] > SADDLE + 0.1
    norms = path.history.history_perpendicular_gradient
    assert norms[0].max() > 20 * norms[-1].max()


def test_string_rests_beside_the_path_by_an_error_of_the_step(surface):
    a, b, _ = surface.minima()
    path = string(surface, a, b, pivots=33, steps=600, lr=1e-4)
    finer = string(surface, path, steps=600, lr=5e-5)
    residues = [float(one.history.history_perpendicular_gradient[-1].max()) for one in (path, finer)]
    assert residues[0] / residues[1] == pytest.approx(2.0, rel=0.2)


def test_band_with_climbing_image_on_muller_brown(surface):
    a, b, _ = surface.minima()
    path = neb(surface, a, b, pivots=65, steps=1500, lr=1e-4)
    top = path.pivots[path.energies.argmax()]
    assert float(path.energies.max()) == pytest.approx(SADDLE, abs=1e-6)
    assert float((top - surface.saddles()[1]).abs().max()) < 1e-6
    assert path.spline.highest(surface)[1] == pytest.approx(SADDLE, abs=1e-3)
    assert path.length == pytest.approx(LENGTH, rel=0.01)
    chords = path.pivots.diff(dim=0).norm(dim=1)
    assert float(chords.max() / chords.min()) < 1.6  # the springs keep them together
    flat = neb(surface, a, b, pivots=65, steps=1500, lr=1e-4, climbing=False)  # control
    assert abs(float(flat.energies.max()) - SADDLE) > 1e-3


def test_automated_band_on_muller_brown(surface):
    a, b, _ = surface.minima()
    path = auto_neb(surface, a, b, cycles=[(1e-4, 300)] * 3)
    assert path.highest(surface)[1] == pytest.approx(SADDLE, abs=0.5)
    assert float(path.history.cycle_highest[0]) > SADDLE + 5  # control: the first pivots alone do not reach it
    refined = neb(surface, path, steps=1000, lr=1e-4)
    assert len(refined) == len(path)
    assert refined.spline.highest(surface)[1] == pytest.approx(SADDLE, abs=1e-3)
    assert float(refined.energies.max()) == pytest.approx(SADDLE, abs=1e-6)
    assert abs(path.highest(surface)[1] - SADDLE) > 1e-2  # control: it needed the refinement


@pytest.mark.parametrize("dim", [3, 50])
def test_saddles_in_more_dimensions(dim):
    well, ends, saddle = bent_well(dim)
    strung = string(well, *ends, pivots=15, steps=150, lr=0.03)
    assert strung.spline.highest(well)[1] == pytest.approx(SADDLE_V, abs=1e-3)
    band = neb(well, *ends, pivots=9, steps=250, lr=0.03)
    assert float(band.energies.max()) == pytest.approx(SADDLE_V, abs=1e-6)
    np.testing.assert_allclose(band.pivots[band.energies.argmax()], saddle, atol=1e-6)
    automatic = auto_neb(well, *ends, cycles=[(0.03, 80)] * 3)
    assert automatic.highest(well)[1] == pytest.approx(SADDLE_V, abs=0.05)
    refined = neb(well, automatic, steps=200, lr=0.03)
    assert float(refined.energies.max()) == pytest.approx(SADDLE_V, abs=1e-3)
    assert string(well, *ends, pivots=21, steps=3, lr=0.03).highest(well)[1] > SADDLE_V + 0.05  # control


def test_ends_stay_to_the_bit(surface):
    a, b, _ = surface.minima()
    for path in (
        string(surface, a, b, pivots=7, steps=20, lr=1e-4, momentum=0.5),
        neb(surface, a, b, pivots=7, steps=20, lr=1e-4, spring=3.0),
        auto_neb(surface, a, b, cycles=[(1e-4, 10)] * 2),
        bezier(surface, a, b, steps=20, lr=1e-6, bends=2),
    ):
        assert torch.equal(path.pivots[[0, -1]], torch.stack([a, b]))
        assert path.pivots.dtype == torch.float64
        np.testing.assert_allclose(path.energies, surface.energy(path.pivots), rtol=1e-14)


def test_a_tolerance_stops_early():
    well, ends, _ = bent_well(3)
    path = neb(well, *ends, pivots=9, steps=5000, lr=0.03, climbing=False, tolerance=1e-4)
    made = int(path.history.cycle_steps[0])
    assert 10 < made < 1000
    assert int(neb(well, path, steps=3, lr=0.03, climbing=False).history.cycle_steps[0]) == 3
    again = neb(well, path, steps=100, lr=0.03, climbing=False, tolerance=1.1e-4)
    assert int(again.history.cycle_steps[0]) == 0


# -- the equations ----------------------------------------------------------------------------------------------------


def henkelman_jonsson(pivots, energies, swapped=False):
    """Equations 8 to 11 of the paper, pivot by pivot."""
    tangents = []
    for i in range(1, len(pivots) - 1):
        plus, minus = pivots[i + 1] - pivots[i], pivots[i] - pivots[i - 1]
        low, here, high = energies[i - 1], energies[i], energies[i + 1]
        if high > here > low:
            tangent = plus
        elif high < here < low:
            tangent = minus
        else:
            largest, smallest = (f(abs(high - here), abs(low - here)) for f in (max, min))
            if (high > low) != swapped:
                tangent = plus * largest + minus * smallest
            else:
                tangent = plus * smallest + minus * largest
        tangents.append(tangent / np.linalg.norm(tangent))
    return np.array(tangents)


def test_improved_tangents():
    rng = np.random.default_rng(0)
    pivots, energies = rng.normal(size=(40, 3)), rng.normal(size=40)
    found = improved_tangents(torch.from_numpy(pivots), torch.from_numpy(energies)).numpy()
    np.testing.assert_allclose(found, henkelman_jonsson(pivots, energies), atol=1e-14)
    assert abs(found - henkelman_jonsson(pivots, energies, swapped=True)).max() > 0.1  # control
    huge = improved_tangents(torch.from_numpy(pivots), torch.from_numpy(1e300 * energies)).numpy()
    np.testing.assert_allclose(huge, found, atol=1e-14)
    even = improved_tangents(torch.from_numpy(pivots), torch.ones(40))  # no slope at all: the chord of the neighbours
    chord = pivots[2:] - pivots[:-2]
    np.testing.assert_allclose(even, chord / np.linalg.norm(chord, axis=1, keepdims=True), atol=1e-14)


@pytest.mark.parametrize(("spring", "lr", "momentum"), [(3.0, 1e-3, 0.0), (7.0, 1e-3, 0.0), (3.0, 2e-3, 0.4)])
@pytest.mark.parametrize("climbing", [False, True])
def test_steps_of_the_band(spring, lr, momentum, climbing):
    """Two steps against the equation of the docstring; of two, the second is in the half that climbs."""
    well, _, _ = bent_well(3)
    rng = np.random.default_rng(3)
    pivots = np.linspace([-1.0, 0, 0], [1.0, 0, 0], 8) + 0.1 * rng.normal(size=(8, 3))
    band = neb(
        well, Path(pivots), steps=2, lr=lr, spring=spring, momentum=momentum, climbing=climbing, end_tolerance=1e9
    )
    velocity = 0.0
    for step in range(2):
        gradient, energies = well.gradient(pivots)[1:-1], well.energy(pivots)
        tangents = henkelman_jonsson(pivots, energies)
        along = (gradient * tangents).sum(1, keepdims=True) * tangents
        chords = np.linalg.norm(np.diff(pivots, axis=0), axis=1)[:, None]
        force = -(gradient - along) + spring * (chords[1:] - chords[:-1]) * tangents
        if climbing and step == 1:
            top = energies.argmax() - 1
            force[top] = -gradient[top] + 2 * along[top]
        velocity = momentum * velocity + force
        pivots = pivots.copy()
        pivots[1:-1] += lr * velocity
    np.testing.assert_allclose(band.pivots, pivots, atol=1e-14)


@pytest.mark.parametrize(("lr", "momentum"), [(0.01, 0.0), (0.03, 0.0), (0.01, 0.7)])
def test_steps_of_the_string_between_equal_chords(lr, momentum):
    well, ends, _ = bent_well(3)
    path = straight_line(*ends, 6)
    one = string(well, path, steps=1, lr=lr, momentum=momentum)
    moved = path.pivots.numpy().copy()
    moved[1:-1] -= lr * well.gradient(moved[1:-1])
    from scipy.interpolate import CubicSpline

    knots = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(moved, axis=0), axis=1))])
    expected = CubicSpline(knots, moved, bc_type="natural")(np.linspace(0, knots[-1], 6))
    np.testing.assert_allclose(one.pivots, expected, atol=1e-13)
    assert momentum == 0 or not torch.allclose(
        string(well, path, steps=2, lr=lr, momentum=momentum).pivots, string(well, path, steps=2, lr=lr).pivots
    )


def test_a_step_of_the_automated_band():
    """Three even pivots come first; they move across the path only, and back to their shares of its length."""
    well, ends, _ = bent_well(3)
    path = auto_neb(well, *ends, cycles=[(0.02, 1)])
    pivots = straight_line(*ends, 5).pivots
    tangents = improved_tangents(pivots, well.energy(pivots))
    moved = pivots.clone()
    moved[1:-1] -= 0.02 * perpendicular(well.gradient(pivots)[1:-1], tangents)
    polyline = Path(moved)
    np.testing.assert_allclose(path.pivots, polyline.at(torch.linspace(0, 1, 5) * polyline.length), atol=1e-6)


@pytest.mark.parametrize(("insert", "threshold", "expected"), [
    (2, 0.1, [0.1, 0.1, 0.1, 0.7 * 0.3, 0.3 * 0.3, 0.4]),
    (1, 0.1, [0.2, 0.1, 0.7 * 0.3, 0.3 * 0.3, 0.4]),
    (2, 0.3, [0.2, 0.1, 0.7 * 0.3, 0.3 * 0.3, 0.4]),
    (4, 0.01, [0.1, 0.1, 0.1, 0.7 * 0.3, 0.3 * 0.3, 0.9 * 0.4, 0.1 * 0.4]),
    (0, 0.1, [0.2, 0.1, 0.3, 0.4]),
])  # fmt: skip
def test_where_pivots_are_inserted(insert, threshold, expected):
    """Scores 0.2 at the middle of segment 0, none, 0.5 at 7/10 of segment 2 and 0.05 at 9/10 of segment 3."""
    shares = torch.tensor([0.2, 0.1, 0.3, 0.4], dtype=torch.float64)
    ends = torch.tensor([0.0, 3.0, 1.0, 10.0, 5.0], dtype=torch.float64)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    dense = ends[:-1, None] + t * ends.diff()[:, None]
    for segment, point, score in ((0, 5, 0.2), (2, 7, 0.5), (2, 3, 0.4), (3, 9, 0.05)):
        dense[segment, point] += score * 10.0  # the range of the pivots
    found = split_shares(shares, dense, insert=insert, threshold=threshold)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    scaled = split_shares(shares, 1e-6 * dense - 3.0, insert=insert, threshold=threshold)
    np.testing.assert_allclose(scaled, expected, atol=1e-12)  # scores have no units


def test_a_flat_path_gets_no_pivots():
    dense = torch.ones(3, 11, dtype=torch.float64)
    assert len(split_shares(torch.full((3,), 1 / 3), dense, insert=2, threshold=0.1)) == 3


def test_the_best_cycle_is_kept():
    """A second cycle at a rate that is too large makes the path worse."""
    well, ends, _ = bent_well(3)
    path = auto_neb(well, *ends, cycles=[(0.03, 100), (0.3, 5)])
    highest = path.history.cycle_highest.values
    assert highest[1] > highest[0] + 1e-4
    assert path.highest(well)[1] == pytest.approx(highest[0], abs=0.05)
    assert len(path) == int(path.history.cycle_pivots[0])
    np.testing.assert_allclose(path.pivots, auto_neb(well, *ends, cycles=[(0.03, 100)]).pivots)


# -- Bezier curves and chains -----------------------------------------------------------------------------------------

CONTROL = {  # integrals over t of w_1^2, w_1 and w_0 w_1 = w_1 w_2 for one bend
    bezier: (2 / 15, 1 / 3, 1 / 10),
    polychain: (1 / 3, 1 / 2, 1 / 12),
}


@pytest.mark.parametrize("method", CONTROL)
@pytest.mark.parametrize("center", [0.7, -1.5])
def test_curves_find_the_lowest_mean_of_a_bowl(method, center):
    """V = (k/2)(x - c)^2: the mean over t is lowest where theta <w1^2> = c <w1> - (a + b) <w0 w1>."""
    bowl = ls.potentials.Expression("1.5*(x - c)**2", ["x"], {"c": center})
    square, mean, cross = CONTROL[method]
    exact = (center * mean - (1.0 + 3.0) * cross) / square
    extra = {"pivots": 3} if method is bezier else {}
    found = []
    for seed in range(12):
        path = method(bowl, [1.0], [3.0], steps=400, lr=0.2, points=4, seed=seed, end_tolerance=1e9, **extra)
        middle = float(path.pivots[1, 0])
        found.append(2 * middle - 2.0 if method is bezier else middle)  # c(1/2) = (a + 2 theta + b)/4
    found = np.array(found)
    z = (found.mean() - exact) / (found.std(ddof=1) / np.sqrt(len(found)))
    assert abs(z) < 4.5
    assert found.std() < 0.1 * abs(exact - 2.0)
    wrong = (center * mean - (1.0 + 3.0) * cross * 2.0) / square  # control
    assert abs(found.mean() - wrong) / (found.std(ddof=1) / np.sqrt(len(found))) > 8


def test_curves_are_keyed_by_their_seed():
    well, ends, _ = bent_well(3)
    paths = [bezier(well, *ends, steps=20, lr=0.02, seed=seed).pivots for seed in (1, 1, 2)]
    assert torch.equal(paths[0], paths[1])
    assert not torch.equal(paths[0], paths[2])


def test_more_bends_lie_lower(surface):
    a, b, _ = surface.minima()
    means = []
    for bends in (1, 5):
        path = polychain(surface, a, b, bends=bends, steps=1500, lr=2e-4, points=8)
        assert len(path) == bends + 2
        means.append(float(path.profile(surface).energy.mean()))
    line = float(straight_line(a, b).profile(surface, between=99).energy.mean())
    assert means[1] < means[0] - 5 < line - 10


# -- divergence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [string, neb])
def test_a_rate_that_is_too_large_is_named(surface, method):
    a, b, _ = surface.minima()
    with pytest.raises(NonFiniteError, match="lower lr") as error:
        method(surface, a, b, pivots=9, steps=2000, lr=1.0)
    assert error.value.step > 0
