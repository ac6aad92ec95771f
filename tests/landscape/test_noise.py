"""Random numbers: known answers, moments, tails, independence, and the same Brownian path at two step sizes."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

import landscape as ls
from landscape.errors import LandscapeError
from landscape.kernels.draws import draw_normals
from landscape.potentials import Expression
from landscape.random import normals, random_words, steps_per_call
from tests.cases import BACKENDS, P_CONTROL, P_MIN, Z_CONTROL, Z_MAX

PRECISIONS = ("float32", "float64")
CUT = {"float32": math.sqrt(2 * math.log(2.0**33)), "float64": math.sqrt(2 * math.log(2.0**54))}
MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox-4x32-10 as Salmon et al. (2011) define it, in whole numbers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(right >> 32) ^ c[1] ^ k[0], right & MASK, (left >> 32) ^ c[3] ^ k[1], left & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(seed, stream, chain, step, call):
    chain, step, call = (torch.tensor(number, dtype=torch.int64) for number in (chain, step, call))
    return random_words(seed, stream, chain, step, call).tolist()


# -- the generator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MASK, MASK, MASK, MASK), (MASK, MASK), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, answer):
    call, low, mixed, chain = counter
    step, stream = low | (mixed & 0xFFFFFF) << 32, mixed >> 24
    assert tuple(words(key[0] | key[1] << 32, stream, chain, step, call)) == answer
    assert tuple(philox(counter, key)) == answer


def test_words_against_the_definition():
    rng = np.random.default_rng(1)
    for _ in range(40):
        seed = int(rng.integers(0, 2**64, dtype=np.uint64))
        stream, chain, call = int(rng.integers(256)), int(rng.integers(2**32)), int(rng.integers(2**32))
        step = int(rng.integers(2**56))
        counter = (call, step & MASK, step >> 32 | stream << 24, chain)
        assert words(seed, stream, chain, step, call) == philox(counter, (seed & MASK, seed >> 32))


def test_words_broadcast():
    chain, step, call = torch.arange(3)[:, None, None], torch.arange(4)[:, None] + 2**33, torch.arange(5)
    block = random_words(17, 3, chain, step, call)
    assert block.shape == (3, 4, 5, 4)
    assert block[2, 1, 4].tolist() == words(17, 3, 2, 2**33 + 1, 4)


def test_bad_seeds_are_refused():
    bowl = Expression("x**2/2", ["x"])
    for seed in (-1, 2**64, 1.5, "one"):
        with pytest.raises(LandscapeError):
            ls.simulate(bowl, ls.EulerMaruyama(0.1), temperature=1.0, steps=1, seed=seed)


# -- torch and compiled draws are the same bits -----------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 8, 883])
def test_two_forms_one_stream(dim, precision):
    chains = np.array([0, 1, 2, 7, 1000, 2**20, 2**32 - 1])
    for seed in (0, 5, 2**63 + 11):
        for step in (0, 1, 2, 3, 4, 1001, 2**32 - 1, 2**32, 2**40 + 3):
            one = normals(seed, torch.from_numpy(chains), step, dim, precision=precision).numpy()
            other = draw_normals(seed, chains, step, dim, precision)
            assert one.dtype == other.dtype == np.dtype(precision)
            assert one.shape == other.shape == (len(chains), dim)
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_chains_are_drawn_alone_or_together(dim, precision):
    together = draw_normals(3, np.arange(101), 6, dim, precision)
    for chain in (0, 1, 50, 100):
        alone = draw_normals(3, np.array([chain]), 6, dim, precision)
        assert alone.tobytes() == together[chain].tobytes()
    backwards = draw_normals(3, np.arange(101)[::-1].copy(), 6, dim, precision)
    assert np.array_equal(backwards[::-1], together)


def test_steps_that_share_a_call():
    """A call gives four words: four variates of 32 bits, two of 53; steps share it where they fit in."""
    assert [steps_per_call(dim, "float32") for dim in (1, 2, 3, 4, 5, 883)] == [4, 2, 1, 1, 1, 1]
    assert [steps_per_call(dim, "float64") for dim in (1, 2, 3, 4, 5, 883)] == [2, 1, 1, 1, 1, 1]
    for precision in PRECISIONS:
        for dim in (1, 2, 3):
            rows = [draw_normals(8, np.arange(50), step, dim, precision) for step in range(12)]
            values = np.concatenate(rows, axis=1)
            assert np.unique(values).size == values.size


# -- the law ----------------------------------------------------------------------------------------------------------


def sample(precision, dim=4, chains=50_000, steps=5, seed=3, start=0):
    """Variates ``(step, chain, coordinate)`` in double precision."""
    numbers = np.arange(chains)
    return np.stack([draw_normals(seed, numbers, start + n, dim, precision) for n in range(steps)]).astype(float)


def moment_scores(x):
    """z-scores of the first four moments of a standard normal sample."""
    x = x.ravel()
    scale = math.sqrt(x.size)
    return np.array(
        [
            x.mean() * scale,
            (np.mean(x**2) - 1) * scale / math.sqrt(2),
            np.mean(x**3) * scale / math.sqrt(15),
            (np.mean(x**4) - 3) * scale / math.sqrt(96),
        ]
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_moments(dim, precision):
    x = sample(precision, dim, chains=400_000 // (dim * 8), steps=8)
    assert np.all(np.abs(moment_scores(x)) < Z_MAX)
    for coordinate in range(dim):
        assert np.all(np.abs(moment_scores(x[..., coordinate])) < Z_MAX)
    for step in range(8):
        assert np.all(np.abs(moment_scores(x[step])) < Z_MAX)
    assert abs(moment_scores(1.05 * x)[1]) > Z_CONTROL
    assert abs(moment_scores(x + 0.03)[0]) > Z_CONTROL


@pytest.mark.parametrize("precision", PRECISIONS)
def test_distribution(precision):
    x = sample(precision, chains=10_000).ravel()
    assert kstest(x, "norm").pvalue > P_MIN
    assert kstest(x**2, "chi2", args=(1,)).pvalue > P_MIN
    assert kstest(1.05 * x, "norm").pvalue < P_CONTROL
    one_per_chain = sample(precision, dim=1, chains=200_000, steps=1, seed=2**40 + 1).ravel()
    assert kstest(one_per_chain, "norm").pvalue > P_MIN


def test_two_precisions_one_law():
    single = sample("float32", chains=10_000, seed=8).ravel()
    double = sample("float64", chains=10_000, seed=9).ravel()
    assert kstest(single, double).pvalue > P_MIN
    assert np.all(np.abs((moment_scores(single) - moment_scores(double)) / math.sqrt(2)) < Z_MAX)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tails(precision):
    """Counts beyond 3, 4 and 5 standard deviations, both sides; nothing beyond the documented cut."""
    x = sample(precision, dim=8, chains=125_000, steps=8, seed=12).ravel()
    for edge in (1.0, 2.0, 3.0, 4.0, 5.0):
        for side in (x > edge, x < -edge):
            expected = x.size * norm.sf(edge)
            assert abs(np.count_nonzero(side) - expected) < Z_MAX * math.sqrt(expected) + 1
    assert round(CUT[precision], 2) == {"float32": 6.76, "float64": 8.65}[precision]
    assert np.abs(x).max() < CUT[precision]
    assert np.abs(x).max() > 4.5
    wider = np.count_nonzero(np.abs(1.05 * x) > 4.0)
    expected = 2 * x.size * norm.sf(4.0)
    assert wider - expected > Z_CONTROL * math.sqrt(expected)


def test_resolution():
    single, double = (
        draw_normals(1, np.arange(1000), 0, 4, "float32"),
        draw_normals(1, np.arange(1000), 0, 4, "float64"),
    )
    assert np.unique(single).size == single.size
    assert np.count_nonzero(double == double.astype(np.float32)) < 5
    low_bits = double.view(np.uint64) & 1
    assert abs(low_bits.sum() - 2000) < Z_MAX * math.sqrt(1000)


# -- independence -----------------------------------------------------------------------------------------------------


def correlation_scores(a, b):
    """z-scores of correlations between a and b, between their squares, and of each with the other's square."""
    a, b = a.ravel(), b.ravel()
    scale = math.sqrt(a.size)
    powers = [(a, b, 1.0), (a**2 - 1, b**2 - 1, 2.0), (a, b**2 - 1, math.sqrt(2)), (a**2 - 1, b, math.sqrt(2))]
    return np.array([np.mean(f * g) / spread * scale for f, g, spread in powers])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_independence_within_a_seed(dim, precision):
    x = sample(precision, dim, chains=100_000 // dim, steps=9, seed=31)
    for lag in (1, 2, 3, 4, 5, 8):  # steps, inside a call and across calls
        assert np.all(np.abs(correlation_scores(x[lag:], x[:-lag])) < Z_MAX)
    for lag in (1, 2, 3, 4, 7, 16, 64):  # chains
        assert np.all(np.abs(correlation_scores(x[:, lag:], x[:, :-lag])) < Z_MAX)
    for i in range(dim):  # coordinates
        for j in range(i):
            assert np.all(np.abs(correlation_scores(x[..., i], x[..., j])) < Z_MAX)
            assert np.all(np.abs(correlation_scores(x[1:, :, i], x[:-1, :, j])) < Z_MAX)
    mixed = math.sqrt(1 - 0.03**2) * x[1:] + 0.03 * x[:-1]
    assert abs(correlation_scores(mixed, x[:-1])[0]) > Z_CONTROL


@pytest.mark.parametrize("precision", PRECISIONS)
def test_independence_between_seeds(precision):
    base = sample(precision, seed=100, steps=4)
    for seed in (101, 102, 100 + 2**16, 100 + 2**32, 100 + 2**63):
        assert np.all(np.abs(correlation_scores(base, sample(precision, seed=seed, steps=4))) < Z_MAX)


def test_independence_between_streams_and_precisions():
    chains = torch.arange(100_000)
    base = normals(4, chains, 9, 3).numpy().astype(float)
    for stream in (1, 2, 16, 255):
        other = normals(4, chains, 9, 3, stream=stream).numpy().astype(float)
        assert np.all(np.abs(correlation_scores(base, other)) < Z_MAX)


def test_sums_over_chains_and_steps():
    """A hidden pattern shows in block sums even where pairs look independent."""
    x = sample("float32", dim=2, chains=4096, steps=64, seed=77)
    for sums in (
        x.sum(axis=0) / 8.0,
        x.sum(axis=1) / 64.0,
        x[::4].sum(axis=0) / 4.0,
        x[:, ::32].sum(axis=1) / math.sqrt(128),
    ):
        assert np.all(np.abs(moment_scores(sums)) < Z_MAX)


# -- the noise object and the path behind it --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("refinement", [1, 2, 3, 7])
@pytest.mark.parametrize("dim", [1, 3])
def test_coarse_increments_are_sums_of_fine_ones(dim, refinement, precision):
    chains = torch.arange(1500)
    coarse = ls.ThermalNoise(precision, refinement)
    for step in (0, 1, 5):
        parts = [
            normals(6, chains, refinement * step + part, dim, precision=precision).double()
            for part in range(refinement)
        ]
        expected = torch.stack(parts).sum(0) / math.sqrt(refinement)
        assert torch.allclose(coarse.draw(6, chains, step, dim).double(), expected, rtol=0, atol=2e-6)
    x = np.stack([coarse.draw(6, chains, step, dim).numpy() for step in range(40)]).astype(float)
    assert np.all(np.abs(moment_scores(x)) < Z_MAX)
    assert np.all(np.abs(correlation_scores(x[1:], x[:-1])) < Z_MAX)


def test_bad_noise_is_refused():
    for settings in ({"precision": "float16"}, {"refinement": 0}, {"refinement": -2}, {"refinement": 1.5}):
        with pytest.raises(LandscapeError):
            ls.ThermalNoise(**settings)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("names", [["x"], ["x", "y"], ["x", "y", "z"]], ids=len)
def test_the_noise_of_a_step_is_that_of_its_number(names, precision, backend):
    """One step of free diffusion is sqrt(2 T dt) xi(seed, chain, step) for every symbol in it."""
    flat, start, dim = Expression("0*x", names), np.linspace(0.1, 0.3, len(names)), len(names)
    for temperature, dt, seed in ((0.5, 0.01, 3), (2.0, 0.01, 3), (0.5, 0.07, 3), (0.5, 0.01, 2**40)):
        run = ls.simulate(
            flat,
            ls.Diffusion(dt, ls.ThermalNoise(precision)),
            temperature=temperature,
            start=start,
            chains=9,
            steps=6,
            seed=seed,
            backend=backend,
        )
        xi = np.stack([draw_normals(seed, np.arange(9), n, dim, precision).astype(float) for n in range(6)], axis=1)
        expected = start + math.sqrt(2 * temperature * dt) * np.cumsum(xi, axis=1)
        assert np.allclose(run.position, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("refinement", [2, 3, 4, 16])
def test_diffusion_rides_one_path_at_two_steps(refinement, precision, backend):
    flat, dt = Expression("0*x + 0*y", ["x", "y"]), 0.08
    settings = {"temperature": 0.7, "chains": 20, "seed": 15, "backend": backend}
    coarse = ls.simulate(flat, ls.Diffusion(dt, ls.ThermalNoise(precision, refinement)), steps=12, **settings)
    fine = ls.simulate(
        flat,
        ls.Diffusion(dt / refinement, ls.ThermalNoise(precision)),
        steps=12 * refinement,
        record=ls.Record(refinement),
        **settings,
    )
    rounding = {"float32": 3e-6, "float64": 1e-13}[precision]
    assert np.allclose(coarse.time, fine.time)
    assert np.allclose(coarse.position, fine.position, rtol=0, atol=rounding)
    other = ls.simulate(flat, ls.Diffusion(dt, ls.ThermalNoise(precision)), steps=12, **settings)
    assert np.abs(other.position - fine.position).max() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_precision_and_noise_precision_are_apart(backend):
    """float32 noise moves a float64 state by its exact value; the two kinds of noise are two paths."""
    flat = Expression("0*x", ["x"])
    settings = {"temperature": 0.5, "chains": 5, "steps": 4, "start": [0.0], "backend": backend}
    runs = {p: ls.simulate(flat, ls.Diffusion(1.0, ls.ThermalNoise(p)), **settings) for p in PRECISIONS}
    first = {p: runs[p].position.values[:, 0, 0] for p in PRECISIONS}
    assert np.array_equal(first["float32"], first["float32"].astype(np.float32))
    assert not np.array_equal(first["float64"], first["float64"].astype(np.float32))
    assert all(run.position.dtype == np.float64 for run in runs.values())
