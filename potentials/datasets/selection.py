"""Seeded choices of samples, independent of every global random state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.checks import whole_number
from landscape.errors import ConfigError

__all__ = ["balanced_indices", "generator", "quotas", "random_indices"]


def generator(seed: int, *stream: int) -> np.random.Generator:
    """A private counter-based generator; different `stream` numbers give independent draws.

    Raises
    ------
    ConfigError
        If `seed` is not a whole number of at least 0.

    Examples
    --------
    >>> bool(generator(0, 1).integers(10) == generator(0, 1).integers(10))
    True
    """
    return np.random.Generator(np.random.Philox([whole_number("seed", seed, least=0), *stream]))


def quotas(samples: int, counts: Sequence[int], names: Sequence[Any]) -> list[int]:
    """How many of `samples` each class gives: equal numbers, one more for the first classes where there is a rest.

    Parameters
    ----------
    samples : int
        Total number.
    counts : sequence of int
        How many each class has.
    names : sequence
        Names of the classes, for the message.

    Raises
    ------
    ConfigError
        Naming the first class that has too few.

    Examples
    --------
    >>> quotas(7, [5, 5, 5], "abc")
    [3, 2, 2]
    """
    whole_number("samples", samples)
    share, rest = divmod(samples, len(counts))
    wanted = [share + (label < rest) for label in range(len(counts))]
    for name, want, have in zip(names, wanted, counts, strict=True):
        if want > have:
            raise ConfigError(
                f"{samples} samples need {want} of class {name!r}, which has {have}: ask for fewer samples"
            )
    return wanted


def balanced_indices(labels: NDArray[np.int64], samples: int, *, seed: int, names: Sequence[Any]) -> NDArray[np.int64]:
    """Indices of `samples` samples with equal numbers of each class, ascending.

    Parameters
    ----------
    labels : int64 array ``(n,)``
        Class of each sample.
    samples : int
        How many to take.
    seed : int
        Which to take.
    names : sequence
        Names of the classes; as many as there are classes.

    Returns
    -------
    int64 array ``(samples,)``

    Raises
    ------
    ConfigError
        If a class has too few.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> labels[balanced_indices(labels, 4, seed=0, names="ab")].tolist()
    [0, 0, 1, 1]
    """
    members = [np.flatnonzero(labels == label) for label in range(len(names))]
    wanted = quotas(samples, [len(member) for member in members], names)
    chosen = [
        generator(seed, label).permutation(member)[:want]
        for label, (member, want) in enumerate(zip(members, wanted, strict=True))
    ]
    return np.sort(np.concatenate(chosen))


def random_indices(total: int, samples: int, *, seed: int) -> NDArray[np.int64]:
    """Indices of `samples` of `total` samples without replacement, ascending.

    Raises
    ------
    ConfigError
        If `total` is smaller.

    Examples
    --------
    >>> random_indices(3, 3, seed=0).tolist()
    [0, 1, 2]
    """
    whole_number("samples", samples)
    if samples > total:
        raise ConfigError(f"samples = {samples}, but there are {total}: ask for fewer samples")
    return np.sort(generator(seed).permutation(total)[:samples])
