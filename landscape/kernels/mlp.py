"""Loss, gradient and dynamics of plain multilayer perceptrons, one chain at a time.

Activations are held feature by feature, so that every inner loop runs over samples. Rows of features and the number of
samples are padded with zeros to multiples of 4 and 16, which leaves no remainder loops. Sums may be reordered and
multiply-adds fused; infinities and NaN keep their meaning.
"""

from __future__ import annotations

import numpy as np

from landscape.kernels.compilation import exact, exact_inline, reordered
from landscape.kernels.philox import fill_normals, fill_words
from landscape.kernels.tape import exponential
from landscape.kernels.update import DIFFUSION, LEIMKUHLER_MATTHEWS, update

__all__ = ["CROSS_ENTROPY", "RELU", "SQUARED_ERROR", "TANH", "mlp_energies", "mlp_gradient", "run_mlp"]

RELU, TANH = range(2)
CROSS_ENTROPY, SQUARED_ERROR = range(2)
_NOISE = 0  # stream of landscape.random


@exact_inline
def _padded(rows):  # type: ignore[no-untyped-def]
    return (rows + 3) // 4 * 4


@reordered
def _combine(out, row, weights, stride, rows_in, first_in, inputs, bias):  # type: ignore[no-untyped-def]
    """``out[row] = bias + sum_i weights[i stride] inputs[first_in + i]``, four inputs a pass."""
    samples = out.shape[1]
    for i in range(0, rows_in, 4):
        w0, w1, w2, w3 = (
            weights[i * stride], weights[(i + 1) * stride], weights[(i + 2) * stride], weights[(i + 3) * stride],
        )  # fmt: skip
        k = first_in + i
        if i == 0:
            for s in range(samples):
                out[row, s] = (
                    bias + w0 * inputs[k, s] + w1 * inputs[k + 1, s] + w2 * inputs[k + 2, s] + w3 * inputs[k + 3, s]
                )
        else:
            for s in range(samples):
                out[row, s] += w0 * inputs[k, s] + w1 * inputs[k + 1, s] + w2 * inputs[k + 2, s] + w3 * inputs[k + 3, s]


@reordered
def _products(delta, j, inputs, i, sums):  # type: ignore[no-untyped-def]
    """``sums[a, b] = sum_s delta[j + a, s] inputs[i + b, s]`` for a, b < 4."""
    zero = delta.dtype.type(0)
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = zero
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = zero
    for s in range(delta.shape[1]):
        d0, d1, d2, d3 = delta[j, s], delta[j + 1, s], delta[j + 2, s], delta[j + 3, s]
        x0, x1, x2, x3 = inputs[i, s], inputs[i + 1, s], inputs[i + 2, s], inputs[i + 3, s]
        s00 += d0 * x0
        s01 += d0 * x1
        s02 += d0 * x2
        s03 += d0 * x3
        s10 += d1 * x0
        s11 += d1 * x1
        s12 += d1 * x2
        s13 += d1 * x3
        s20 += d2 * x0
        s21 += d2 * x1
        s22 += d2 * x2
        s23 += d2 * x3
        s30 += d3 * x0
        s31 += d3 * x1
        s32 += d3 * x2
        s33 += d3 * x3
    sums[0, 0], sums[0, 1], sums[0, 2], sums[0, 3] = s00, s01, s02, s03
    sums[1, 0], sums[1, 1], sums[1, 2], sums[1, 3] = s10, s11, s12, s13
    sums[2, 0], sums[2, 1], sums[2, 2], sums[2, 3] = s20, s21, s22, s23
    sums[3, 0], sums[3, 1], sums[3, 2], sums[3, 3] = s30, s31, s32, s33


@reordered
def _row_sum(delta, row):  # type: ignore[no-untyped-def]
    total = delta.dtype.type(0)
    for s in range(delta.shape[1]):
        total += delta[row, s]
    return total


@exact
def _cross_entropy_slope(logits, first, classes, labels, weights, delta, scratch):  # type: ignore[no-untyped-def]
    """Derivative of the weighted cross-entropy by the logits, relative to the label's own logit throughout."""
    own, top, total = scratch[0], scratch[1], scratch[2]
    samples = weights.size
    for s in range(samples):
        own[s] = logits[first + labels[s], s]
        top[s] = -np.inf
        total[s] = 0.0
    for c in range(classes):
        for s in range(samples):
            margin = logits[first + c, s] - own[s]
            margin = margin if labels[s] != c else -np.inf
            top[s] = margin if margin > top[s] else top[s]
    for c in range(classes):
        for s in range(samples):
            e = exponential(logits[first + c, s] - own[s] - top[s])
            e = 0.0 if (labels[s] == c or e <= 1e-30) else e  # NaN stays
            delta[first + c, s] = e
            total[s] += e
    for s in range(samples):
        own[s] = weights[s] / (1.0 + exponential(-top[s]) / total[s])  # weight times the probability of all others
        total[s] = own[s] / total[s]
    # Slopes that cannot count are zero: as subnormal numbers they would slow every product after them tenfold.
    least = 1e-30 if delta.itemsize == 4 else 1e-280
    for c in range(classes):
        for s in range(samples):
            slope = delta[first + c, s] * total[s] if labels[s] != c else -own[s]
            delta[first + c, s] = 0.0 if abs(slope) <= least else slope


@exact
def _loss(kind, outputs, first, width, labels, values, weights):  # type: ignore[no-untyped-def]
    """Weighted loss in float64."""
    total = 0.0
    for s in range(weights.size):
        if weights[s] == 0.0:
            continue
        if kind == SQUARED_ERROR:
            for k in range(width):
                residual = float(outputs[first + k, s]) - float(values[k, s])
                total += float(weights[s]) * residual * residual / width
        else:
            own, top = float(outputs[first + labels[s], s]), -np.inf
            for c in range(width):
                if c != labels[s]:
                    top = max(top, float(outputs[first + c, s]) - own)
            rest = 0.0
            for c in range(width):
                if c != labels[s]:
                    rest += np.exp(float(outputs[first + c, s]) - own - top)
            if rest > 0.0:  # softplus(top + log rest)
                a = top + np.log(rest)
                total += float(weights[s]) * (np.log1p(np.exp(-abs(a))) + max(a, 0.0))
            elif rest != rest or own != own:
                total = np.nan
    return total


@reordered
def _forward(theta, sizes, activation, packed, rows):  # type: ignore[no-untyped-def]
    """Fill ``rows`` from its first (input) rows on; the weights go, padded, to ``packed``."""
    offset, place, first = 0, 0, 0
    layers = sizes.size - 1
    for layer in range(layers):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        p_in, p_out = _padded(n_in), _padded(n_out)
        biases = offset + n_in * n_out
        for j in range(n_out):
            for i in range(n_in):
                packed[place + j * p_in + i] = theta[offset + j * n_in + i]
            row = first + p_in + j
            _combine(rows, row, packed[place + j * p_in :], 1, p_in, first, rows, theta[biases + j])
            if layer < layers - 1:
                if activation == RELU:
                    for s in range(rows.shape[1]):
                        value = rows[row, s]
                        rows[row, s] = value if not value < 0 else rows.dtype.type(0)
                else:
                    for s in range(rows.shape[1]):
                        value = rows[row, s]
                        rows[row, s] = 1.0 - 2.0 / (exponential(2.0 * value) + 1.0)
        offset = biases + n_out
        place += p_in * p_out
        first += p_in
    return first


@reordered
def mlp_gradient(theta, sizes, activation, kind, labels, values, weights, packed, rows, delta, scratch, sums, gradient):  # type: ignore[no-untyped-def]
    """Gradient of the weighted loss; ``rows`` holds the inputs in its first rows."""
    first = _forward(theta, sizes, activation, packed, rows)
    layers = sizes.size - 1
    width = sizes[layers]
    if kind == CROSS_ENTROPY:
        _cross_entropy_slope(rows, first, width, labels, weights, delta, scratch)
    else:
        for k in range(width):
            for s in range(weights.size):
                delta[first + k, s] = weights[s] * (rows[first + k, s] - values[k, s]) * (2.0 / width)
    offset, place = theta.size, packed.size
    for layer in range(layers - 1, -1, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        p_in, p_out = _padded(n_in), _padded(n_out)
        below = first - p_in
        offset -= (n_in + 1) * n_out
        place -= p_in * p_out
        for j in range(n_out):
            gradient[offset + n_in * n_out + j] = _row_sum(delta, first + j)
        for j in range(0, n_out, 4):
            for i in range(0, n_in, 4):
                _products(delta, first + j, rows, below + i, sums)
                for a in range(min(4, n_out - j)):
                    for b in range(min(4, n_in - i)):
                        gradient[offset + (j + a) * n_in + i + b] = sums[a, b]
        if layer > 0:
            for i in range(n_in):
                row = below + i
                _combine(delta, row, packed[place + i :], p_in, p_out, first, delta, theta.dtype.type(0))
                if activation == RELU:
                    for s in range(delta.shape[1]):
                        slope = delta[row, s]
                        delta[row, s] = slope if rows[row, s] > 0 else delta.dtype.type(0)
                else:
                    for s in range(delta.shape[1]):
                        delta[row, s] = delta[row, s] * (1 - rows[row, s] * rows[row, s])
        first = below


@exact
def _load_batch(indices, inputs, labels, values, rows, batch_labels, batch_values):  # type: ignore[no-untyped-def]
    for f in range(inputs.shape[0]):
        for s in range(indices.size):
            rows[f, s] = inputs[f, indices[s]]
    if labels.size:
        for s in range(indices.size):
            batch_labels[s] = labels[indices[s]]
    for k in range(values.shape[0]):
        for s in range(indices.size):
            batch_values[k, s] = values[k, indices[s]]


@exact
def run_mlp(  # type: ignore[no-untyped-def]
    sizes, activation, kind, decay, inputs, labels, values, indices, x, m, v, noise_type, seed, refinement, chain,
    first_step, steps, scheme, settings, dt, amplitude, every, positions, energies,
):  # fmt: skip
    """Advance the chains ``x (n, dim)`` by `steps` in place, like `run_formula`.

    ``inputs (features, samples)`` with ``labels (samples)`` or ``values (outputs, samples)`` hold the data;
    ``indices (1 or n, steps, batch)`` the minibatches, with no steps for full-batch dynamics.
    """
    n, dim = x.shape
    per_call = 4 if noise_type.itemsize == 4 else 2
    calls, calls_per = (dim + per_call - 1) // per_call, max(1, per_call // dim)
    words = np.empty((4, calls), np.uint32)
    made = np.empty((per_call, calls), noise_type.dtype)
    noise = np.zeros((1, dim), noise_type.dtype)
    scale = np.full(1, 1.0 / np.sqrt(refinement)).astype(noise_type.dtype)[0]
    ahead = 1 if scheme == LEIMKUHLER_MATTHEWS else 0

    height, place = 0, 0
    for layer in range(sizes.size):
        height += _padded(sizes[layer])
        if layer:
            place += _padded(sizes[layer - 1]) * _padded(sizes[layer])
    samples = inputs.shape[1]
    minibatch = indices.shape[1] > 0
    count = indices.shape[2] if minibatch else samples
    width = (count + 15) // 16 * 16
    full_width = (samples + 15) // 16 * 16
    packed, slope = np.zeros(place, x.dtype), np.empty((1, dim), x.dtype)
    gradient = slope[0]
    rows, delta = np.zeros((height, width), x.dtype), np.zeros((height, width), x.dtype)
    scratch, sums = np.empty((3, width)), np.empty((4, 4), x.dtype)
    weights, batch_labels = np.zeros(width, x.dtype), np.zeros(width, np.int64)
    batch_values = np.zeros((values.shape[0], width), x.dtype)
    weights[:count] = 1.0 / count
    every_sample = np.arange(samples)
    # energies are those of all data: they need rows of their own where the dynamics sees minibatches
    all_rows = np.zeros((height if minibatch else 0, full_width), x.dtype)
    all_labels = np.zeros(full_width, np.int64)
    all_values = np.zeros((values.shape[0], full_width), x.dtype)
    all_weights = np.zeros(full_width)
    all_weights[:samples] = 1.0 / samples
    if minibatch:
        _load_batch(every_sample, inputs, labels, values, all_rows, all_labels, all_values)
    else:
        _load_batch(every_sample, inputs, labels, values, rows, all_labels, all_values)
        batch_labels[:] = all_labels
        batch_values[:] = all_values
    typed = np.empty(3, x.dtype)
    dt_row, amplitude_row = np.empty(dim, x.dtype), np.empty(dim, x.dtype)

    for c in range(n):
        theta = x[c]
        dt_row[:] = dt[c]
        amplitude_row[:] = amplitude[c]
        record = 0
        for k in range(-1 if ahead and first_step == 0 else 0, steps):
            if amplitude[c] != 0.0:
                for fine in range(refinement):
                    at = (first_step + k + ahead) * refinement + fine
                    fill_words(words, seed, _NOISE, chain + c, at // calls_per, 0, 0, 0, 1)
                    fill_normals(made, words)
                    flat = made.reshape(per_call * calls)
                    shift = (at % calls_per) * dim
                    if fine == 0:
                        for d in range(dim):
                            noise[0, d] = flat[shift + d]
                    else:
                        for d in range(dim):
                            noise[0, d] = noise[0, d] + flat[shift + d]
                if refinement > 1:
                    for d in range(dim):
                        noise[0, d] = noise[0, d] * scale
            if k < 0:
                for d in range(dim):
                    m[c, d] = noise[0, d]
                continue
            if scheme != DIFFUSION:
                if minibatch:
                    batch = indices[c if indices.shape[0] > 1 else 0, k]
                    _load_batch(batch, inputs, labels, values, rows, batch_labels, batch_values)
                mlp_gradient(
                    theta, sizes, activation, kind, batch_labels, batch_values, weights, packed, rows, delta, scratch,
                    sums, gradient,
                )  # fmt: skip
                if decay != 0.0:
                    for d in range(dim):
                        gradient[d] += decay * theta[d]
            update(
                scheme, x, c, slope, 0, noise, 0, dt_row, amplitude_row, settings, typed, m, v, first_step + k
            )  # fmt: skip
            if (k + 1) % every == 0:
                if positions.shape[1]:
                    positions[c, record] = theta
                if energies.shape[1]:
                    view = all_rows if minibatch else rows
                    first = _forward(theta, sizes, activation, packed, view)
                    energies[c, record] = _loss(
                        kind, view, first, sizes[sizes.size - 1], all_labels, all_values, all_weights
                    )
                    if decay != 0.0:
                        square = 0.0
                        for d in range(dim):
                            square += float(theta[d]) * float(theta[d])
                        energies[c, record] += 0.5 * decay * square
                record += 1


@exact
def mlp_energies(sizes, activation, kind, decay, inputs, labels, values, x):  # type: ignore[no-untyped-def]
    """Energies of the chains ``x (n, dim)`` on all data, as `run_mlp` records them."""
    n, dim = x.shape
    height, place = 0, 0
    for layer in range(sizes.size):
        height += _padded(sizes[layer])
        if layer:
            place += _padded(sizes[layer - 1]) * _padded(sizes[layer])
    samples = inputs.shape[1]
    width = (samples + 15) // 16 * 16
    packed, rows = np.zeros(place, x.dtype), np.zeros((height, width), x.dtype)
    all_labels, all_values = np.zeros(width, np.int64), np.zeros((values.shape[0], width), x.dtype)
    weights, energies = np.zeros(width), np.empty(n)
    weights[:samples] = 1.0 / samples
    _load_batch(np.arange(samples), inputs, labels, values, rows, all_labels, all_values)
    for c in range(n):
        first = _forward(x[c], sizes, activation, packed, rows)
        energies[c] = _loss(kind, rows, first, sizes[sizes.size - 1], all_labels, all_values, weights)
        if decay != 0.0:
            square = 0.0
            for d in range(dim):
                square += float(x[c, d]) * float(x[c, d])
            energies[c] += 0.5 * decay * square
    return energies
