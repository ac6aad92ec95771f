"""Compiled form of `landscape.random`: Philox words and normal variates in loops that vectorise.

Written as plain arithmetic because the compiler has no vector library for log, sin and cos. No fused multiply-add is
allowed here (no fast-math), so the bits equal those of the torch form.
"""

from __future__ import annotations

import numpy as np
from numba import float32, int32, int64, types, uint32, uint64
from numba.extending import intrinsic, overload

from landscape import random as reference
from landscape.kernels.compilation import exact_inline, exact_inner

__all__ = ["fill_normals", "fill_variates", "fill_words", "uniform", "variate"]

_M0, _M1 = (np.uint64(value) for value in reference.MULTIPLIERS)
_W0, _W1 = (np.uint32(value) for value in reference.KEY_INCREMENTS)
_32 = np.uint64(32)

_LOG_32 = tuple(np.float32(c) for c in reference.LOG_32)
_SIN_32 = tuple(np.float32(c) for c in reference.SIN_32)
_COS_32 = tuple(np.float32(c) for c in reference.COS_32)
_LOG_64, _SIN_64, _COS_64 = reference.LOG_64, reference.SIN_64, reference.COS_64
_LN2_32, _LN2_64 = np.float32(reference.LN2), reference.LN2
_HALF_32, _HALF_64 = np.int32(reference.SQRT_HALF_BITS_32), np.int64(reference.SQRT_HALF_BITS_64)


def _bit_cast(source, target):  # type: ignore[no-untyped-def]
    @intrinsic
    def cast(typing_context, value):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            number = context.cast(builder, arguments[0], signature.args[0], source)
            return builder.bitcast(number, context.get_value_type(target))

        return target(value), generate

    return cast


float32_to_bits = _bit_cast(types.float32, types.int32)
bits_to_float32 = _bit_cast(types.int32, types.float32)
float64_to_bits = _bit_cast(types.float64, types.int64)
bits_to_float64 = _bit_cast(types.int64, types.float64)


@exact_inline
def _round(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    p0 = uint64(c0) * _M0
    p1 = uint64(c2) * _M1
    return uint32(uint32(p1 >> _32) ^ c1 ^ k0), uint32(p1), uint32(uint32(p0 >> _32) ^ c3 ^ k1), uint32(p0)


@exact_inner
def fill_words(words, seed, stream, chain, step, call, chain_stride, step_stride, call_stride):  # type: ignore[no-untyped-def]
    """Words of counter (call, step, stream, chain) + i * strides into ``words[:, i]``, uint32 ``(4, n)``.

    `step` carries into its high word where it crosses a multiple of 2^32; it and its strides stay below 2^56.
    """
    k0, k1 = uint32(seed), uint32(seed >> _32)
    # Round keys in scalars, ahead of the loop: inside it they would be read from memory for every element.
    a1, b1 = uint32(k0 + _W0), uint32(k1 + _W1)
    a2, b2 = uint32(a1 + _W0), uint32(b1 + _W1)
    a3, b3 = uint32(a2 + _W0), uint32(b2 + _W1)
    a4, b4 = uint32(a3 + _W0), uint32(b3 + _W1)
    a5, b5 = uint32(a4 + _W0), uint32(b4 + _W1)
    a6, b6 = uint32(a5 + _W0), uint32(b5 + _W1)
    a7, b7 = uint32(a6 + _W0), uint32(b6 + _W1)
    a8, b8 = uint32(a7 + _W0), uint32(b7 + _W1)
    a9, b9 = uint32(a8 + _W0), uint32(b8 + _W1)
    low, high = uint32(step), uint32(uint32(uint64(step) >> _32) | uint32(uint32(stream) << uint32(24)))
    first_call, first_chain = uint32(call), uint32(chain)
    d_call, d_step, d_chain = uint32(call_stride), uint32(step_stride), uint32(chain_stride)
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(w0.size):
        n = uint32(i)
        c0, c1 = uint32(first_call + n * d_call), uint32(low + n * d_step)
        c2, c3 = uint32(high + uint32(c1 < low)), uint32(first_chain + n * d_chain)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a1, b1)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a2, b2)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a3, b3)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a4, b4)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a5, b5)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a6, b6)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a7, b7)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a8, b8)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, a9, b9)
        w0[i], w1[i], w2[i], w3[i] = c0, c1, c2, c3


@exact_inline
def _radius_32(word):  # type: ignore[no-untyped-def]
    u = float32(word) * float32(2.0**-32) + float32(2.0**-33)
    bits = int32(float32_to_bits(u) - _HALF_32)
    exponent = int32(bits >> int32(23))
    f = bits_to_float32(int32(int32(bits & int32(0x7FFFFF)) + _HALF_32)) - float32(1.0)
    p = _LOG_32[8]
    p = p * f + _LOG_32[7]
    p = p * f + _LOG_32[6]
    p = p * f + _LOG_32[5]
    p = p * f + _LOG_32[4]
    p = p * f + _LOG_32[3]
    p = p * f + _LOG_32[2]
    p = p * f + _LOG_32[1]
    p = p * f + _LOG_32[0]
    square = (p * f + float32(exponent) * _LN2_32) * float32(-2.0)
    return np.sqrt(square if square > float32(0.0) else float32(0.0))


@exact_inline
def _direction_32(word):  # type: ignore[no-untyped-def]
    t = float32(int32(word & uint32(0x3FFFFFFF))) * float32(2.0**-30) - float32(0.5)
    z = t * t
    s = _SIN_32[3]
    s = s * z + _SIN_32[2]
    s = s * z + _SIN_32[1]
    s = (s * z + _SIN_32[0]) * t
    c = _COS_32[3]
    c = c * z + _COS_32[2]
    c = c * z + _COS_32[1]
    c = c * z + _COS_32[0]
    swap = uint32(word & uint32(0x40000000)) != uint32(0)
    sign = int32(word & uint32(0x80000000))
    a, b = (s, c) if swap else (c, s)
    return (
        bits_to_float32(int32(float32_to_bits(a) ^ sign)),
        bits_to_float32(int32(float32_to_bits(b) ^ sign)),
    )


@exact_inner
def _fill_normals_32(normals, words):  # type: ignore[no-untyped-def]
    """Four float32 variates per call: ``normals (4, n)`` from ``words (4, n)``."""
    for pair in range(2):
        radius_words, angle_words = words[2 * pair], words[2 * pair + 1]
        first, second = normals[2 * pair], normals[2 * pair + 1]
        for i in range(radius_words.size):
            radius = _radius_32(radius_words[i])
            a, b = _direction_32(angle_words[i])
            first[i], second[i] = radius * a, radius * b


@exact_inner
def _fill_normals_64(normals, words):  # type: ignore[no-untyped-def]
    """Two float64 variates per call: ``normals (2, n)`` from ``words (4, n)``."""
    first, second = normals[0], normals[1]
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(first.size):
        u = float((int64(w0[i]) << int64(21)) | (int64(w1[i]) >> int64(11))) * 2.0**-53 + 2.0**-54
        bits = float64_to_bits(u) - _HALF_64
        exponent = bits >> int64(52)
        m = bits_to_float64((bits & int64(0xFFFFFFFFFFFFF)) + _HALF_64)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        p = _LOG_64[8]
        p = p * z + _LOG_64[7]
        p = p * z + _LOG_64[6]
        p = p * z + _LOG_64[5]
        p = p * z + _LOG_64[4]
        p = p * z + _LOG_64[3]
        p = p * z + _LOG_64[2]
        p = p * z + _LOG_64[1]
        p = p * z + _LOG_64[0]
        square = (p * s + float(exponent) * _LN2_64) * -2.0
        radius = np.sqrt(square if square > 0.0 else 0.0)
        angle = (int64(w2[i] & uint32(0x3FFFFFFF)) << int64(21)) | (int64(w3[i]) >> int64(11))
        t = float(angle) * 2.0**-51 - 0.5
        z = t * t
        s = _SIN_64[7]
        c = _COS_64[7]
        s, c = s * z + _SIN_64[6], c * z + _COS_64[6]
        s, c = s * z + _SIN_64[5], c * z + _COS_64[5]
        s, c = s * z + _SIN_64[4], c * z + _COS_64[4]
        s, c = s * z + _SIN_64[3], c * z + _COS_64[3]
        s, c = s * z + _SIN_64[2], c * z + _COS_64[2]
        s, c = s * z + _SIN_64[1], c * z + _COS_64[1]
        s, c = (s * z + _SIN_64[0]) * t, c * z + _COS_64[0]
        swap = uint32(w2[i] & uint32(0x40000000)) != uint32(0)
        negative = uint32(w2[i] & uint32(0x80000000)) != uint32(0)
        a, b = (s, c) if swap else (c, s)
        a, b = (-a, -b) if negative else (a, b)
        first[i], second[i] = radius * a, radius * b


def fill_normals(normals, words):  # type: ignore[no-untyped-def]
    """Variates from words, in the resolution of ``normals``: float32 ``(4, n)`` or float64 ``(2, n)``."""
    (_fill_normals_32 if normals.dtype == np.float32 else _fill_normals_64)(normals, words)


@overload(fill_normals)
def _compile_fill_normals(normals, words):  # type: ignore[no-untyped-def]
    if normals.dtype == types.float32:
        return lambda normals, words: _fill_normals_32(normals, words)
    return lambda normals, words: _fill_normals_64(normals, words)


@exact_inline
def uniform(words, i):  # type: ignore[no-untyped-def]
    """The uniform variate in (0, 1) of words ``[:, i]``."""
    return float((int64(words[0, i]) << int64(21)) | (int64(words[1, i]) >> int64(11))) * 2.0**-53 + 2.0**-54


def fill_variates(made, words):  # type: ignore[no-untyped-def]
    """Normal variates as `fill_normals`, or the words themselves where `made` holds words: signs are their bits."""
    if made.dtype == np.uint32:
        made[:] = words
    else:
        fill_normals(made, words)


@overload(fill_variates)
def _compile_fill_variates(made, words):  # type: ignore[no-untyped-def]
    if made.dtype == types.uint32:

        def copy(made, words):  # type: ignore[no-untyped-def]
            for w in range(words.shape[0]):
                for i in range(words.shape[1]):
                    made[w, i] = words[w, i]

        return copy
    return lambda made, words: fill_normals(made, words)


def variate(tile, block, word, call, i, bit):  # type: ignore[no-untyped-def]
    """One variate of a tile ``(blocks, words, calls, n)`` of normal variates, or of words whose bits are signs."""
    value = tile[block, word, call, i]
    return 1.0 - 2.0 * ((value >> bit) & 1) if tile.dtype == np.uint32 else value


@overload(variate, inline="always")
def _compile_variate(tile, block, word, call, i, bit):  # type: ignore[no-untyped-def]
    if tile.dtype == types.uint32:
        return lambda tile, block, word, call, i, bit: (
            float32(1.0) - float32(2.0) * float32((tile[block, word, call, i] >> uint32(bit)) & uint32(1))
        )
    return lambda tile, block, word, call, i, bit: tile[block, word, call, i]
