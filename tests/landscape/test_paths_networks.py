"""Paths of networks: minibatches shared or not, pivot by pivot or at once, statistics of batch normalisation."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import CheckpointError, ConfigError
from landscape.paths import Path, auto_neb, bezier, neb, straight_line, string
from landscape.paths.evaluation import Slopes, batch_of
from landscape.potentials import NetworkLoss, architectures, datasets
from landscape.storage.interruption import Cadence, Interruption

FAR = {"end_tolerance": 1e9}  # ends of these tests are not minima


def small(batch_size=None, **settings):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (40,), generator=generator)
    module = architectures.mlp([5, 6, 3])
    return NetworkLoss(module, inputs, targets, batch_size=batch_size, dtype=torch.float64, **settings)


def normalised(policy, batch_size=None, module=None, **settings):
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(12, 3, 8, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 10, (12,), generator=generator)
    module = module or architectures.resnet_cifar(8, width=2)
    return NetworkLoss(
        module, inputs, targets, batch_size=batch_size, batchnorm=policy, dtype=torch.float64, **settings
    )


def ends_of(loss, spread=0.3):
    generator = torch.Generator().manual_seed(5)
    here = loss.position()
    return [here + spread * torch.randn(here.shape, generator=generator, dtype=here.dtype) for _ in range(2)]


# -- minibatches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pivots_at_once", [None, 1, 3])
def test_pivots_of_a_step_share_its_minibatch(pivots_at_once):
    loss = small(batch_size=8)
    pivots = straight_line(*ends_of(loss), 5).pivots
    for step in (0, 3, 7):
        slopes = Slopes(loss, seed=11, own_batches=False, pivots_at_once=pivots_at_once)
        energies, gradients = slopes(pivots, step)
        keys = loss.batch_keys(1, 11, (11,))
        for i, pivot in enumerate(pivots):
            energy, gradient = loss.batch_energy_and_gradient(pivot[None], step=step, keys=keys)
            np.testing.assert_allclose(energies[i], energy[0], rtol=1e-12)
            np.testing.assert_allclose(gradients[i], gradient[0], atol=1e-12)


def test_pivots_may_have_minibatches_of_their_own():
    loss = small(batch_size=8)
    same = ends_of(loss)[0].expand(5, -1)
    shared = Slopes(loss, seed=1, own_batches=False, pivots_at_once=None)(same, 2)[0]
    own = [Slopes(loss, seed=1, own_batches=True, pivots_at_once=n)(same, 2)[0] for n in (None, 2)]
    assert len(set(shared.tolist())) == 1
    assert len(set(own[0].tolist())) == 5
    np.testing.assert_allclose(own[0], own[1], rtol=1e-12)


@pytest.mark.parametrize("method", [string, neb])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_pivot_by_pivot_gives_the_same_path(method, batch_size):
    loss = small(batch_size=batch_size)
    settings = {"pivots": 5, "steps": 10, "lr": 0.05, "momentum": 0.5, **FAR}
    together = method(loss, *ends_of(loss), **settings)
    alone = method(loss, *ends_of(loss), pivots_at_once=1, **settings)
    np.testing.assert_allclose(together.pivots, alone.pivots, atol=1e-10)
    np.testing.assert_allclose(together.energies, loss.energy(together.pivots), rtol=1e-12)  # on all data
    if batch_size:
        other = method(loss, *ends_of(loss), seed=1, **settings)
        own = method(loss, *ends_of(loss), own_batches=True, **settings)
        assert not torch.allclose(together.pivots, other.pivots)
        assert not torch.allclose(together.pivots, own.pivots)


def test_large_networks_go_pivot_by_pivot():
    assert batch_of(small(), 9, None) == 9
    large = architectures.resnet_cifar(8, width=8, norm="none")
    loss = NetworkLoss(large, torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    assert loss.dim < 20_000
    assert batch_of(loss, 9, None) == 9
    wide = NetworkLoss(architectures.wide_resnet(10, 1, norm="none"), torch.zeros(2, 3, 4, 4), torch.zeros(2).long())
    assert batch_of(wide, 9, None) == 1
    assert batch_of(wide, 9, 4) == 4


def test_epochs_are_counted_in_batches():
    loss = small(batch_size=16)  # 3 batches of the 40 samples
    path = auto_neb(loss, *ends_of(loss), cycles=[(0.05, "2 epochs"), (0.01, 4)], **FAR)
    assert path.history.cycle_steps.values.tolist() == [6, 4]
    full = auto_neb(small(), *ends_of(loss), cycles=[(0.05, "1 epoch")], **FAR)
    assert full.history.cycle_steps.values.tolist() == [1]
    assert path.history.iteration.values.tolist() == list(range(10))
    assert path.history.cycle_of.values.tolist() == [0] * 6 + [1] * 4


def test_the_loss_of_a_network_is_lowered_in_its_own_dtype():
    loss = NetworkLoss(architectures.mlp([5, 6, 3]), torch.randn(40, 5, generator=torch.Generator().manual_seed(0)),
                       torch.arange(40) % 3, batch_size=10)  # fmt: skip
    path = bezier(loss, *ends_of(loss), steps=200, lr=0.1, **FAR)
    assert path.pivots.dtype == torch.float64
    assert torch.equal(path.pivots, path.pivots.float().double())
    line = straight_line(*ends_of(loss), 17)
    assert float(path.energies.mean()) < float(loss.energy(line.pivots).mean())


def test_weight_decay_acts_on_the_weights_of_the_curve():
    """(w/2)|c(t)|^2 alone has its lowest mean at theta = -(a + b) <w0 w1>/<w1^2> = -(3/4)(a + b)."""
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.Linear(3, 1, bias=False).double()
    loss = NetworkLoss(
        module, torch.zeros(4, 3, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64), loss="mse",
        weight_decay=0.5,
    )  # fmt: skip
    a, b = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    path = bezier(loss, a, b, pivots=3, steps=1000, lr=0.5, points=8, **FAR)
    control = 2 * path.pivots[1] - (a + b) / 2
    np.testing.assert_allclose(control, -0.75 * (a + b), atol=0.05 * float((a + b).abs().max()))


# -- batch normalisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "batch_size"), [("reestimate", None), ("reestimate", 6), ("batch", 6)])
def test_statistics_are_reestimated_at_every_pivot_and_are_no_coordinates(policy, batch_size, tmp_path):
    loss = normalised(policy, batch_size)
    path = string(loss, *ends_of(loss), pivots=4, steps=3, lr=0.01, **FAR)
    assert path.pivots.shape == (4, sum(p.numel() for p in loss.module.parameters()))
    means = [name for name in path.buffers if name.endswith("running_mean")]
    assert len(means) == 7
    for i, pivot in enumerate(path.pivots):
        for name, value in loss.buffers_at(pivot).items():
            np.testing.assert_array_equal(path.buffers[name][i], value)
    assert not torch.allclose(path.buffers[means[0]][0], path.buffers[means[0]][2])
    np.testing.assert_allclose(path.energies, loss.energy(path.pivots), rtol=1e-12)
    assert path.attributes["batchnorm"] == policy
    path.save(tmp_path / "path.nc")
    same = Path.load(tmp_path / "path.nc")
    assert set(same.buffers) == set(path.buffers)
    assert all(torch.equal(same.buffers[name], path.buffers[name]) for name in path.buffers)
    module = loss.module_at(path.pivots[2])
    np.testing.assert_allclose(dict(module.named_buffers())[means[0]], path.buffers[means[0]][2], rtol=1e-6)


def test_with_and_without_reestimation_are_different_quantities():
    loss = normalised("reestimate")
    path = string(loss, *ends_of(loss), pivots=3, steps=2, lr=0.01, **FAR)
    without = normalised("frozen")
    other = string(without, path, steps=1, lr=1e-12, **FAR)
    assert other.buffers == {}
    assert other.attributes["batchnorm"] == "frozen"
    np.testing.assert_allclose(other.energies, without.energy(path.pivots), rtol=1e-6)
    assert float((other.energies - path.energies).abs().min()) > 1e-3


def test_the_module_is_left_alone():
    loss = normalised("reestimate", 6)
    before = {name: value.clone() for name, value in loss.module.state_dict().items()}
    auto_neb(loss, *ends_of(loss), cycles=[(0.01, 2)], **FAR)
    assert all(torch.equal(value, before[name]) for name, value in loss.module.state_dict().items())


# -- two minima of the digits -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """Two independent minima: minibatch descent, then momentum on all data."""
    sizes = [64, 32, 32, 10]
    loss = NetworkLoss(architectures.mlp(sizes), datasets.digits(), batch_size=128, weight_decay=1e-3)
    x = torch.stack([loss.layout.flatten(architectures.mlp(sizes, seed=seed)) for seed in (1, 2)])
    keys = loss.batch_keys(2, 0)
    for step in range(600):
        x = x - 0.2 * loss.step_gradient(x, step=step, keys=keys)
    velocity = torch.zeros_like(x)
    for _ in range(1500):
        velocity = 0.9 * velocity + loss.gradient(x)
        x = x - 0.05 * velocity
    return loss, x


@pytest.mark.slow
def test_independent_minima_of_the_digits_are_joined(digits):
    loss, ends = digits
    assert float(loss.gradient(ends).norm(dim=1).max()) < 1e-2
    linear = float(straight_line(*ends).profile(loss, between=39).barrier)
    assert linear > 0.5
    path = auto_neb(loss, *ends, cycles=[(0.1, 400), (0.1, 400), (0.05, 300), (0.02, 300)])
    left = float(path.profile(loss).barrier)
    assert left < 0.1 * linear
    assert bool(path.history.converged)
    first = float(path.history.cycle_highest[0]) - float(path.energies[[0, -1]].max())
    assert first > left  # the inserted pivots helped
    brief = auto_neb(loss, *ends, cycles=[(0.1, 5)])  # control
    assert not bool(brief.history.converged)
    assert float(brief.profile(loss).barrier) > 0.3 * linear


@pytest.mark.slow
def test_observables_do_not_change_when_both_ends_are_permuted(digits):
    loss, ends = digits
    rng = np.random.default_rng(0)
    orders = {"0": rng.permutation(32), "2": rng.permutation(32)}
    permuted = [ls.paths.permute(loss, end, orders) for end in ends]
    paths = [string(loss, *pair, pivots=7, steps=50, lr=0.05) for pair in (ends, permuted)]
    np.testing.assert_allclose(paths[0].energies, paths[1].energies, rtol=1e-4)
    assert paths[0].length == pytest.approx(paths[1].length, rel=1e-5)
    wrong = ls.paths.permute(loss, ends[0], orders)  # control: only one end permuted
    assert abs(straight_line(wrong, ends[1]).length / straight_line(*ends).length - 1) > 1e-3


@pytest.mark.slow
def test_alignment_lowers_the_barrier_of_the_digits(digits):
    loss, ends = digits
    aligned = ls.paths.align(loss, *ends)
    assert float(loss.energy(aligned)) == pytest.approx(float(loss.energy(ends[1])), rel=1e-5)
    assert float((aligned - ends[0]).norm()) < 0.95 * float((ends[1] - ends[0]).norm())
    before, after = (float(straight_line(ends[0], end).profile(loss).barrier) for end in (ends[1], aligned))
    assert after < 0.9 * before


# -- interrupted searches ---------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for a kill."""


CYCLES = [(0.2, 7), (0.1, 5), (0.3, 6), (0.05, 4)]


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize(("killed", "every", "again"), [
    (14, None, 12),  # by the clock: in so short a search only the ends of cycles are written
    (3, None, 0),
    (14, 2, 14),
    (14, 3, 12),
    (5, 1, 5),  # in the first cycle, whose history has no closed cycle yet
    (6, 4, 4),
    (21, 4, 20),
    (12, 1, 12),  # before the first step of the third cycle
])  # fmt: skip
def test_an_interrupted_search_goes_on_to_the_same_bits(batch_size, killed, every, again, tmp_path, monkeypatch):
    loss = small(batch_size=batch_size)
    settings = {"cycles": CYCLES, "threshold": 0.0, "momentum": 0.5, "tolerance": 1e-12, **FAR}
    whole = auto_neb(loss, *ends_of(loss), **settings)
    saved = {"checkpoint": tmp_path / "state.nc", "checkpoint_every": every}
    calls = []
    call = Slopes.__call__

    def noted(self, pivots, step):
        calls.append(step)
        if len(calls) == killed + 1:
            raise KilledError
        return call(self, pivots, step)

    monkeypatch.setattr(Slopes, "__call__", noted)
    with pytest.raises(KilledError):
        auto_neb(loss, *ends_of(loss), **saved, **settings)
    assert calls == list(range(killed + 1))
    resumed = auto_neb(loss, *ends_of(loss), **saved, **settings)
    assert calls[killed + 1 :] == list(range(again, 22))  # nothing is lost but the steps since the last writing
    assert torch.equal(resumed.pivots, whole.pivots)
    assert resumed.history.identical(whole.history)


def test_a_search_that_is_interrupted_again_and_again(tmp_path, monkeypatch):
    """Killed every fifth step, written every third: it ends, and where an undisturbed one does."""
    loss = small(batch_size=8)
    settings = {"cycles": CYCLES, "threshold": 0.0, "momentum": 0.5, **FAR}
    whole = auto_neb(loss, *ends_of(loss), **settings)
    call, calls = Slopes.__call__, []

    def frail(self, pivots, step):
        calls.append(step)
        if len(calls) % 5 == 0:
            raise KilledError
        return call(self, pivots, step)

    monkeypatch.setattr(Slopes, "__call__", frail)
    for _ in range(20):
        try:
            found = auto_neb(loss, *ends_of(loss), checkpoint=tmp_path / "state.nc", checkpoint_every=3, **settings)
        except KilledError:
            continue
        break
    assert torch.equal(found.pivots, whole.pivots) and found.history.identical(whole.history)
    assert len(calls) > 25


def test_a_state_of_another_search_is_refused(tmp_path):
    loss = small(batch_size=8)
    settings = {"cycles": CYCLES[:1], **FAR}
    saved = tmp_path / "state.nc"
    auto_neb(loss, *ends_of(loss), checkpoint=saved, **settings)
    with pytest.raises(CheckpointError, match="other settings"):
        auto_neb(loss, *ends_of(loss), checkpoint=saved, **(settings | {"seed": 1}))
    with pytest.raises(CheckpointError, match="other ends"):
        auto_neb(loss, *reversed(ends_of(loss)), checkpoint=saved, **settings)
    with pytest.raises(ConfigError, match="checkpoint_every"):
        auto_neb(loss, *ends_of(loss), checkpoint=saved, checkpoint_every=0, **settings)


def test_when_a_state_is_written(monkeypatch):
    """By steps; or by the clock, and then writing takes at most a twentieth of the time."""
    clock, written = [0.0], []
    monkeypatch.setattr("landscape.engine.pace.time.monotonic", lambda: clock[0])

    def write():
        written.append(clock[0])
        clock[0] += duration

    duration, cadence = 0.0, Cadence(write, 3, Interruption())
    for _ in range(10):
        cadence()
    assert len(written) == 3
    written.clear()
    duration, cadence = 1.0, Cadence(write, None, Interruption())
    for _ in range(200):
        clock[0] += 1.0
        cadence()
    assert written == [60.0, 121.0, 182.0]
    written.clear()
    clock[0], duration = 0.0, 10.0
    cadence = Cadence(write, None, Interruption())
    for _ in range(500):
        clock[0] += 1.0
        cadence()
    assert written == [60.0, 270.0, 480.0]
