"""Loss, gradient and dynamics of plain multilayer perceptrons, one chain at a time.

Activations are held feature by feature, so that every inner loop runs over samples. Rows of features and the number of
samples are padded with zeros to multiples of 4 and 16, which leaves no remainder loops. Sums may be reordered and
multiply-adds fused; infinities and NaN keep their meaning.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from landscape import random
from landscape.integrators.compiled_rule import BACK, DRIFT, KICK, LAST_KICK, PROPOSE, Stage
from landscape.kernels.compilation import exact, exact_inline, exact_inner, reordered
from landscape.kernels.metropolis import passes
from landscape.kernels.philox import fill_normals, fill_words
from landscape.kernels.tape import exponential
from landscape.kernels.update import propose, update, with_stage

__all__ = ["CROSS_ENTROPY", "RELU", "SQUARED_ERROR", "TANH", "loop_of", "mlp_energies", "mlp_gradient", "run_mlp"]

RELU, TANH = range(2)
CROSS_ENTROPY, SQUARED_ERROR = range(2)
_NOISE, _ACCEPTANCE = random.NOISE, random.ACCEPTANCE


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


@exact_inner
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


@exact_inner
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


@exact_inner
def _copy(target, source):  # type: ignore[no-untyped-def]
    # an assignment of arrays would compile the errors of arrays that do not fit
    for d in range(source.size):
        target[d] = source[d]


@exact_inner
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


@exact_inner
def _gradient(  # type: ignore[no-untyped-def]
    theta, network, decay, batch_labels, batch_values, weights, packed, rows, delta, scratch, sums, slope
):
    """Gradient at ``theta`` with weight decay, into ``slope``."""
    sizes, activation, kind = network
    mlp_gradient(
        theta, sizes, activation, kind, batch_labels, batch_values, weights, packed, rows, delta, scratch, sums, slope
    )
    if decay != 0.0:
        for d in range(theta.size):
            slope[d] += decay * theta[d]


@exact_inner
def _energy(theta, network, decay, labels, values, weights, packed, rows):  # type: ignore[no-untyped-def]
    """Energy at ``theta`` of the samples whose inputs are in ``rows``."""
    sizes, activation, kind = network
    first = _forward(theta, sizes, activation, packed, rows)
    energy = _loss(kind, rows, first, sizes[sizes.size - 1], labels, values, weights)
    if decay != 0.0:
        square = 0.0
        for d in range(theta.size):
            square += float(theta[d]) * float(theta[d])
        energy += 0.5 * decay * square
    return energy


@exact_inner
def _draw(words, made, noise, seed, chain, step, refinement, scale, antithetic):  # type: ignore[no-untyped-def]
    """Variates of one step of one chain, into ``noise (1, dim)``."""
    dim, per_call = noise.shape[1], made.shape[0]
    key = chain >> 1 if antithetic else chain
    calls_per = max(1, per_call // dim)
    for fine in range(refinement):
        at = step * refinement + fine
        fill_words(words, seed, _NOISE, key, at // calls_per, 0, 0, 0, 1)
        fill_normals(made, words)
        flat = made.reshape(made.size)
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
    if antithetic and chain & 1:
        for d in range(dim):
            noise[0, d] = -noise[0, d]


@exact
def run_mlp(  # type: ignore[no-untyped-def]
    network, decay, data, indices, x, m, v, noise_type, seed, noise_settings, rows_of_settings, settings, accepted,
    rule, chain, first_step, steps, records,
):  # fmt: skip
    """Advance the chains ``x (n, dim)`` by `steps` in place, like `formula.run_block`.

    ``rule = (gradients of a step, ahead, forceless, proposes)``, see `CompiledRule`.
    ``network`` = (sizes, activation, kind of loss); ``data`` = (inputs ``(features, samples)``, labels ``(samples)``,
    values ``(outputs, samples)``), of which labels or values are empty; ``indices (1 or n, steps, batch)`` holds the
    minibatches, with no steps for full-batch dynamics.
    """
    sizes = network[0]
    inputs, labels, values = data
    dt, amplitude, temperature = rows_of_settings
    position_every, energy_every, since, positions, energies = records
    refinement, scale, antithetic = noise_settings
    n, dim = x.shape
    per_call = 4 if noise_type.itemsize == 4 else 2
    words = np.empty((4, (dim + per_call - 1) // per_call), np.uint32)
    made = np.empty((per_call, words.shape[1]), noise_type.dtype)
    noise = np.zeros((1, dim), noise_type.dtype)
    stages, ahead, forceless, metropolis = rule

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
    # energies are those of all data: they need rows of their own where the dynamics sees minibatches
    all_rows = np.zeros((height if minibatch else 0, full_width), x.dtype)
    all_labels = np.zeros(full_width, np.int64)
    all_values = np.zeros((values.shape[0], full_width), x.dtype)
    all_weights = np.zeros(full_width)
    all_weights[:samples] = 1.0 / samples
    if minibatch:
        _load_batch(np.arange(samples), inputs, labels, values, all_rows, all_labels, all_values)
    else:
        _load_batch(np.arange(samples), inputs, labels, values, rows, all_labels, all_values)
        _load_batch(np.arange(samples), inputs, labels, values, rows, batch_labels, batch_values)
    view = all_rows if minibatch else rows
    typed = np.empty(3, x.dtype)
    dt_row, amplitude_row = np.empty((1, dim), x.dtype), np.empty((1, dim), x.dtype)
    setting_rows = np.empty((settings.shape[0], dim), x.dtype)
    extra = dim if metropolis else 0
    kept, kept_slope = np.empty((extra, 1), x.dtype), np.empty((extra, 1), x.dtype)
    momentum, stretch, ratio = np.empty((extra, 1), x.dtype), np.ones(extra, x.dtype), np.empty(1)
    gradients, noises = slope.reshape(dim, 1), noise.reshape(dim, 1)
    word = np.empty((4, 1), np.uint32)

    for c in range(n):
        theta, column = x[c], x[c].reshape(dim, 1)
        dt_of, amplitude_of, heat = dt[:, c : c + 1], amplitude[:, c : c + 1], temperature[:, c : c + 1]
        position_draw, energy_draw, at, energy = 0, 0, 0, 0.0
        noisy = False
        for k in range(amplitude.shape[0]):
            noisy = noisy or amplitude[k, c] != 0.0
        for j in range(settings.shape[0]):
            setting_rows[j, :] = settings[j, c]
        if ahead and first_step == 0 and noisy:
            _draw(words, made, noise, seed, chain + c, first_step, refinement, scale, antithetic)
            for d in range(dim):
                m[c, d] = noise[0, d]
        if metropolis:
            _gradient(
                theta, network, decay, batch_labels, batch_values, weights, packed, rows, delta, scratch, sums, gradient
            )
            energy = _energy(theta, network, decay, all_labels, all_values, all_weights, packed, view)
            _copy(kept[:, 0], theta)
            _copy(kept_slope[:, 0], gradient)
        for k in range(steps):
            step = first_step + k
            if k == 0 or dt.shape[0] > 1:
                at = k
                dt_row[:] = dt[at, c]
                amplitude_row[:] = amplitude[at, c]
            if noisy:
                _draw(words, made, noise, seed, chain + c, step + ahead, refinement, scale, antithetic)
            if metropolis:
                ratio[0] = 0.0
                for d in range(dim):
                    propose(
                        1, PROPOSE, column, d, kept, kept_slope, gradients, d, noises, dt_of, amplitude_of,
                        heat, at, momentum, ratio, stretch,
                    )  # fmt: skip
                for made_gradients in range(stages):
                    for d in range(dim):
                        propose(
                            1, DRIFT, column, d, kept, kept_slope, gradients, d, noises, dt_of, amplitude_of,
                            heat, at, momentum, ratio, stretch,
                        )  # fmt: skip
                    _gradient(
                        theta, network, decay, batch_labels, batch_values, weights, packed, rows, delta, scratch, sums,
                        gradient,
                    )  # fmt: skip
                    kick = LAST_KICK if made_gradients == stages - 1 else KICK
                    for d in range(dim):
                        propose(
                            1, kick, column, d, kept, kept_slope, gradients, d, noises, dt_of, amplitude_of,
                            heat, at, momentum, ratio, stretch,
                        )  # fmt: skip
                for d in range(dim):
                    propose(
                        1, BACK, column, d, kept, kept_slope, gradients, d, noises, dt_of, amplitude_of, heat,
                        at, momentum, ratio, stretch,
                    )  # fmt: skip
                new_energy = _energy(theta, network, decay, all_labels, all_values, all_weights, packed, view)
                fill_words(word, seed, _ACCEPTANCE, chain + c, step, 0, 0, 0, 0)
                if passes(new_energy - energy, ratio[0], heat[at, 0], word, 0):
                    accepted[c] += 1.0
                    energy = new_energy
                    _copy(kept[:, 0], theta)
                    _copy(kept_slope[:, 0], gradient)
                else:
                    _copy(theta, kept[:, 0])
            else:
                for stage in range(stages):
                    if not forceless:
                        if minibatch and stage == 0:
                            batch = indices[c if indices.shape[0] > 1 else 0, k]
                            _load_batch(batch, inputs, labels, values, rows, batch_labels, batch_values)
                        _gradient(
                            theta, network, decay, batch_labels, batch_values, weights, packed, rows, delta, scratch,
                            sums, gradient,
                        )  # fmt: skip
                    update(
                        dim, stage, x, c, slope, 0, noise, 0, dt_row, amplitude_row, 0, setting_rows, typed, m,
                        v, step,
                    )  # fmt: skip
            if position_every > 0 and (since + k + 1) % position_every == 0:
                _copy(positions[c, position_draw], theta)
                position_draw += 1
            if energy_every > 0 and (since + k + 1) % energy_every == 0:
                energies[c, energy_draw] = _energy(
                    theta, network, decay, all_labels, all_values, all_weights, packed, view
                )
                energy_draw += 1


@cache
def loop_of(stage: Stage, proposes: bool) -> Any:
    """`run_mlp` for the rule of a stage."""
    return with_stage(run_mlp, stage, **{"propose" if proposes else "update": exact_inline(stage)})


@exact
def mlp_energies(network, decay, data, x):  # type: ignore[no-untyped-def]
    """Energies of the chains ``x (n, dim)`` on all data, as `run_mlp` records them."""
    sizes = network[0]
    inputs, labels, values = data
    height, place = 0, 0
    for layer in range(sizes.size):
        height += _padded(sizes[layer])
        if layer:
            place += _padded(sizes[layer - 1]) * _padded(sizes[layer])
    samples = inputs.shape[1]
    width = (samples + 15) // 16 * 16
    packed, rows = np.zeros(place, x.dtype), np.zeros((height, width), x.dtype)
    all_labels, all_values = np.zeros(width, np.int64), np.zeros((values.shape[0], width), x.dtype)
    weights, energies = np.zeros(width), np.empty(x.shape[0])
    weights[:samples] = 1.0 / samples
    _load_batch(np.arange(samples), inputs, labels, values, rows, all_labels, all_values)
    for c in range(x.shape[0]):
        energies[c] = _energy(x[c], network, decay, all_labels, all_values, weights, packed, rows)
    return energies
