"""Counter-based random numbers: a pure function of (seed, stream, chain, step), the same bits wherever they are drawn.

The generator is Philox-4x32 with ten rounds (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). The key is the seed; the counter is (call, step, stream, chain), so any draw can be made again without a
history, in any order, on any number of threads. This module is the torch form, for every device; `kernels.philox` is
the compiled form for the CPU. Both use only additions, multiplications and square roots in a fixed order, so they give
identical bits.

Normal variates come from the Box-Muller transform. With 32-bit resolution ("float32") a variate uses one random word
and is truncated at sqrt(2 ln 2^33) = 6.76 standard deviations; with 53-bit resolution ("float64") it uses two and is
truncated at sqrt(2 ln 2^54) = 8.65.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from landscape.errors import ConfigError

__all__ = ["Precision", "check_seed", "normals", "permutation", "random_words", "signs", "steps_per_call", "uniforms"]

Precision = Literal["float32", "float64"]

MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS: Final = (0x9E3779B9, 0xBB67AE85)
ROUNDS: Final = 10
MASK: Final = 0xFFFFFFFF

# Streams keep draws for different purposes apart.
NOISE, PERMUTATION, REPLACEMENT, AUGMENTATION, ACCEPTANCE, CROSSING, INITIAL, SWAP = range(8)
PROBES, LABELS, BALL, EXIT_POINT, SUBSETS = 16, 17, 18, 19, 20
LEVEL_CROSSING = 24

# Chebyshev fits on the reduced intervals, relative errors in brackets; computed in 40 digits.
# log(1 + f)/f for f in [sqrt(1/2) - 1, sqrt(2) - 1]  [3e-8]
LOG_32: Final = (
    0.9999999741310671, -0.4999999638212389, 0.3333419328613508, -0.2500135218549606, 0.1995593335838325,
    -0.16577992896798863, 0.14977401280127375, -0.14269258206218832, 0.08533313082996152,
)  # fmt: skip
# sin(pi t/2)/t [3e-9] and cos(pi t/2) [4e-8] in powers of t^2 for |t| <= 1/2
SIN_32: Final = (1.5707963219532366, -0.6459634776648118, 0.07968021764775542, -0.004602149212814176)
COS_32: Final = (0.9999999723284944, -1.2336970074214912, 0.25359857130254576, -0.020408158392998334)
# log((1 + s)/(1 - s))/s in powers of s^2 for |s| <= (sqrt(2) - 1)/(sqrt(2) + 1)  [8e-21]
LOG_64: Final = (
    2.0, 0.6666666666666666, 0.40000000000007496, 0.2857142856881913, 0.2222222267692954, 0.18181773738016305,
    0.1538716092613408, 0.13248763083460116, 0.13262103674021808,
)  # fmt: skip
SIN_64: Final = (
    1.5707963267948966, -0.6459640975062463, 0.07969262624616692, -0.004681754135314827, 0.0001604411847266723,
    -3.598842717144858e-06, 5.691927850489633e-08, -6.627624938992472e-10,
)  # fmt: skip
COS_64: Final = (
    1.0, -1.2337005501361697, 0.2536695079010467, -0.02086348076331121, 0.0009192602741831558,
    -2.520203677046026e-05, 4.710609726757823e-07, -6.321256869628588e-09,
)  # fmt: skip
LN2: Final = math.log(2.0)
SQRT_HALF_BITS_32: Final = 0x3F3504F3
SQRT_HALF_BITS_64: Final = 0x3FE6A09E667F3BCD


def check_seed(seed: int, name: str = "seed") -> int:
    """A seed as an integer in [0, 2^64).

    Raises
    ------
    ConfigError
        If it is not an integer in that range.
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= int(seed) < 2**64:
        raise ConfigError(f"{name} must be an integer from 0 to 2**64 - 1, got {seed!r}")
    return int(seed)


def steps_per_call(dim: int, precision: Precision) -> int:
    """How many successive steps of `dim` variates one four-word call serves (more than one for small `dim`)."""
    variates = 4 if precision == "float32" else 2
    return max(1, variates // dim)


def calls_per_step(dim: int, precision: Precision) -> int:
    """How many four-word calls one step of `dim` variates takes (1 where one call serves several steps)."""
    variates = 4 if precision == "float32" else 2
    return -(-dim // variates)


def random_words(seed: int, stream: int, chain: Tensor, step: Tensor, call: Tensor) -> Tensor:
    """Four random 32-bit words per counter, as int64 in [0, 2^32), shape ``(..., 4)``.

    Parameters
    ----------
    seed : int
        The 64-bit key.
    stream : int
        Purpose of the draw, 0 to 255.
    chain, step, call : int64 tensors, broadcast against each other
        chain and call below 2^32, step below 2^56.
    """
    chain, step, call = torch.broadcast_tensors(chain, step, call)
    c0, c1, c2, c3 = call, step & MASK, (step >> 32) | (stream << 24), chain
    k0, k1 = seed & MASK, seed >> 32
    for _ in range(ROUNDS):
        # The product of two 32-bit words wraps to a negative int64 at times; shift and mask still give its bits.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & MASK, (k1 + KEY_INCREMENTS[1]) & MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


def normals(
    seed: int, chains: Tensor, step: int | Tensor, dim: int, *, precision: Precision = "float32", stream: int = NOISE
) -> Tensor:
    """Independent standard normal variates for one step of several chains.

    Parameters
    ----------
    seed : int
    chains : int64 tensor, shape ``(n,)``
        Numbers of the chains; its device is where the variates are made.
    step : int, or int64 scalar on the device of `chains`
    dim : int
    precision : {"float32", "float64"}
        Resolution, see the module's description; also the dtype of the result.

    Returns
    -------
    tensor, shape ``(n, dim)``

    Examples
    --------
    >>> chains = torch.arange(1000)
    >>> xi = normals(7, chains, step=3, dim=5)
    >>> bool(torch.equal(xi[2:4], normals(7, chains[2:4], step=3, dim=5)))
    True
    """
    per_call = steps_per_call(dim, precision)
    calls = torch.arange(calls_per_step(dim, precision), device=chains.device)
    words = random_words(seed, stream, chains[:, None], _scalar(step // per_call, chains), calls[None, :])
    variates = _normals_32(words) if precision == "float32" else _normals_64(words)
    flat = variates.transpose(1, 2).reshape(len(chains), -1)  # word by word, so that each word is a contiguous run
    return _columns(flat, (step % per_call) * dim, dim)


def _scalar(value: int | Tensor, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full((), value, dtype=torch.int64, device=like.device)


def _columns(table: Tensor, first: int | Tensor, count: int) -> Tensor:
    if isinstance(first, Tensor):
        return table.index_select(1, first + torch.arange(count, device=table.device))
    return table[:, first : first + count]


def signs_per_call(dim: int) -> int:
    """How many successive steps of `dim` signs one call of 128 bits serves, a power of two."""
    return 1 << max(0, (128 // dim).bit_length() - 1) if dim <= 128 else 1


def signs(seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
    """Independent variates of +1 and -1 with equal probability for one step, float32 ``(n, dim)``: one bit each.

    Examples
    --------
    >>> sorted(signs(7, torch.arange(100), step=3, dim=2).unique().tolist())
    [-1.0, 1.0]
    """
    per_call = signs_per_call(dim)
    calls = torch.arange(-(-dim // 128), device=chains.device)
    words = random_words(seed, NOISE, chains[:, None], _scalar(step // per_call, chains), calls[None, :])
    bits = (words[..., None] >> torch.arange(32, device=chains.device)) & 1
    return 1.0 - 2.0 * _columns(bits.reshape(len(chains), -1), (step % per_call) * dim, dim).to(torch.float32)


def uniforms(
    seed: int, chains: Tensor, step: int | Tensor, *, stream: int, call: int = 0, second: bool = False
) -> Tensor:
    """One uniform variate in (0, 1) per chain for one step, float64 ``(n,)``: the first of a call, or the second."""
    words = random_words(seed, stream, chains, _scalar(step, chains), _scalar(call, chains))[:, 2 * second :]
    return ((words[:, 0] << 21) | (words[:, 1] >> 11)).to(torch.float64) * 2.0**-53 + 2.0**-54


def normals_of_calls(seed: int, chains: Tensor, step: int | Tensor, calls: Tensor, *, stream: int) -> Tensor:
    """One standard normal variate for each call ``(n, k)`` or ``(k,)``, float64 ``(n, k)``."""
    return _normals_64(random_words(seed, stream, chains[:, None], _scalar(step, chains), calls))[..., 0]


def permutation(seed: int, keys: Tensor, epoch: int, length: int, stream: int = PERMUTATION) -> Tensor:
    """A random order of ``range(length)`` per key, shape ``(n, length)``: the rank order of 64-bit random numbers."""
    calls = torch.arange(-(-length // 2), device=keys.device)
    at = torch.full((), epoch, dtype=torch.int64, device=keys.device)
    words = random_words(seed, stream, keys[:, None], at, calls[None, :])
    high, low = words[..., 0::2], words[..., 1::2]
    numbers = (high << 32) | low
    return numbers.reshape(len(keys), -1)[:, :length].argsort(dim=-1, stable=True)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def _sqrt(x: Tensor) -> Tensor:
    # On the CPU torch may call a vector library whose square root is off by one bit; numpy's is correctly rounded.
    return torch.from_numpy(np.sqrt(x.numpy())) if x.device.type == "cpu" else x.sqrt()


def _box_muller(radius: Tensor, t: Tensor, quadrant: Tensor, sin: Sequence[float], cos: Sequence[float]) -> Tensor:
    """Radius times (cos, sin) of the angle (quadrant + t) pi/2, up to a symmetry of the square."""
    z = t * t
    s, c = _polynomial(z, sin) * t, _polynomial(z, cos)
    swap, negative = (quadrant & 1) != 0, (quadrant & 2) != 0
    a, b = torch.where(swap, s, c), torch.where(swap, c, s)
    a, b = torch.where(negative, -a, a), torch.where(negative, -b, b)
    return torch.stack((radius * a, radius * b), dim=-1)


def _normals_32(words: Tensor) -> Tensor:
    w, angle = words[..., 0::2], words[..., 1::2]
    u = w.to(torch.float32) * 2.0**-32 + 2.0**-33
    bits = u.view(torch.int32) - SQRT_HALF_BITS_32
    exponent = bits >> 23
    f = ((bits & 0x7FFFFF) + SQRT_HALF_BITS_32).view(torch.float32) - 1.0
    log = _polynomial(f, LOG_32) * f + exponent.to(torch.float32) * LN2
    radius = _sqrt((log * -2.0).clamp_min(0.0))
    t = (angle & 0x3FFFFFFF).to(torch.float32) * 2.0**-30 - 0.5
    return _box_muller(radius, t, angle >> 30, SIN_32, COS_32).flatten(-2)


def _normals_64(words: Tensor) -> Tensor:
    w0, w1, w2, w3 = words.unbind(-1)
    u = ((w0 << 21) | (w1 >> 11)).to(torch.float64) * 2.0**-53 + 2.0**-54
    bits = u.view(torch.int64) - SQRT_HALF_BITS_64
    exponent = bits >> 52
    m = ((bits & 0xFFFFFFFFFFFFF) + SQRT_HALF_BITS_64).view(torch.float64)
    s = (m - 1.0) / (m + 1.0)
    log = _polynomial(s * s, LOG_64) * s + exponent.to(torch.float64) * LN2
    radius = _sqrt((log * -2.0).clamp_min(0.0))
    t = (((w2 & 0x3FFFFFFF) << 21) | (w3 >> 11)).to(torch.float64) * 2.0**-51 - 0.5
    return _box_muller(radius, t, w2 >> 30, SIN_64, COS_64)
