"""Flips and crops against a loop, as a function of their words alone."""

import pytest
import torch
from torch.func import vmap

from landscape.errors import ConfigError, ShapeError
from landscape.potentials.datasets import FlipCrop

LARGEST = 2**32 - 1


def words(*shape, seed=0):
    return torch.randint(0, 2**32, (*shape, 4), generator=torch.Generator().manual_seed(seed))


def images(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_loop(inputs, random, *, padding, fill, flip=True):
    """Pad, cut a window, mirror: one image and one pixel at a time."""
    batch, channels, height, width = inputs.shape
    result = torch.empty_like(inputs)
    for n in range(batch):
        first, second, third, _ = random[n].tolist()
        a, b = second * (2 * padding + 1) // 2**32, third * (2 * padding + 1) // 2**32
        for c in range(channels):
            padded = torch.full((height + 2 * padding, width + 2 * padding), float(fill[c]))
            padded[padding : padding + height, padding : padding + width] = inputs[n, c]
            window = padded[a : a + height, b : b + width]
            result[n, c] = window.flip(1) if flip and first >= 2**31 else window
    return result


@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (40, 1, 5, 7), (40, 2, 3, 2)])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("fill", [0.0, -0.5, (0.25, 1.0, -2.0)])
def test_against_a_loop(shape, padding, flip, fill):
    fill = fill[: shape[1]] if isinstance(fill, tuple) else fill
    inputs, random = images(*shape), words(shape[0])
    each = fill if isinstance(fill, tuple) else (fill,) * shape[1]
    expected = by_loop(inputs, random, padding=padding, fill=each, flip=flip)
    assert FlipCrop(padding, fill=fill, flip=flip)(inputs, random).equal(expected)
    if flip:  # controls: the loop notices another padding and another word
        assert not FlipCrop(padding + 1, fill=fill)(inputs, random).equal(expected)
        assert not FlipCrop(padding, fill=fill)(inputs, random.roll(1, 0)).equal(expected)


@pytest.mark.parametrize("word", [0, 2**31 - 1, 2**31, LARGEST])
def test_extreme_words(word):
    inputs = images(1, 2, 6, 6)
    random = torch.tensor([[word, word, LARGEST - word, 0]])
    assert FlipCrop(2)(inputs, random).equal(by_loop(inputs, random, padding=2, fill=(0, 0)))


def test_offsets_and_flips_are_uniform():
    n, padding = 20_000, 2
    marked = torch.zeros(n, 1, 5, 5)
    marked[:, :, 2, 2] = 1  # stays inside for every offset, and where it is tells the offset
    moved = FlipCrop(padding, flip=False)(marked, words(n)).flatten(1).argmax(1)
    counts = moved.bincount(minlength=25).double()
    p = 1 / 25
    assert ((counts - n * p).abs() / (n * p * (1 - p)) ** 0.5).max() < 4.5
    edge = torch.zeros(n, 1, 1, 2)
    edge[..., 0] = 1
    flipped = FlipCrop(0)(edge, words(n))[..., 1].sum().item()
    assert abs(flipped - n / 2) / (n / 4) ** 0.5 < 4.5


def test_equal_words_give_equal_images_in_any_batch():
    inputs, random = images(6, 3, 8, 8), words(6)
    together = FlipCrop()(inputs, random)
    alone = torch.cat([FlipCrop()(inputs[i : i + 1], random[i : i + 1]) for i in range(6)])
    assert together.equal(alone)
    state = torch.get_rng_state()
    assert FlipCrop()(inputs, random).equal(together) and torch.get_rng_state().equal(state)
    changed = random.clone()
    changed[:, 3] += 1  # the last word has no use
    assert FlipCrop()(inputs, changed & LARGEST).equal(together)


def test_under_vmap_and_with_leading_dimensions():
    inputs, random = images(2, 5, 3, 8, 8), words(2, 5)
    transform = FlipCrop(3, fill=(1.0, 2.0, 3.0))
    expected = torch.stack([transform(inputs[chain], random[chain]) for chain in range(2)])
    assert vmap(transform)(inputs, random).equal(expected)
    assert vmap(transform, in_dims=(None, 0))(inputs[0], random)[1].equal(transform(inputs[0], random[1]))
    assert transform(inputs, random).equal(expected)


def test_dtype_and_inputs_are_kept():
    inputs = images(2, 3, 8, 8).double()
    kept = inputs.clone()
    assert FlipCrop(fill=0.1)(inputs, words(2)).dtype == torch.float64
    assert inputs.equal(kept)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_bits_on_the_gpu():
    inputs, random = images(50, 3, 8, 8), words(50)
    there = FlipCrop(4, fill=(0.1, 0.2, 0.3))(inputs.cuda(), random.cuda())
    assert there.cpu().equal(FlipCrop(4, fill=(0.1, 0.2, 0.3))(inputs, random))


def test_description():
    transform = FlipCrop(3, fill=[0.5, 1.0], flip=False)
    spec = transform.spec()
    assert spec == {"kind": "FlipCrop", "padding": 3, "fill": [0.5, 1.0], "flip": False}
    spec.pop("kind")
    assert FlipCrop(**spec) == transform and hash(transform) == hash(FlipCrop(**spec))


@pytest.mark.parametrize(
    "options",
    [{"padding": -1}, {"padding": 1.5}, {"fill": float("nan")}, {"fill": "black"}, {"fill": ()}, {"flip": "left"}],
)
def test_wrong_settings_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        FlipCrop(**options)


@pytest.mark.parametrize(
    ("inputs", "random"),
    [
        (torch.zeros(8, 8), words(8)),
        (torch.zeros(2, 3, 8, 8), words(3)),
        (torch.zeros(2, 3, 8, 8), words(2).int()),
        (torch.zeros(2, 3, 8, 8), words(2)[:, :3]),
        (torch.zeros(2, 2, 8, 8), words(2)),
    ],
)
def test_wrong_shapes_are_refused(inputs, random):
    with pytest.raises(ShapeError, match="give"):
        FlipCrop(fill=(0.0, 1.0, 2.0))(inputs, random)
