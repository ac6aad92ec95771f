"""Data sets that need no files of the user's: Gaussian inputs with random labels, and handwritten digits."""

from __future__ import annotations

import numpy as np
import torch

from landscape.checks import true_or_false, whole_number
from landscape.errors import DatasetNotFound
from landscape.potentials.datasets.data import Data, dataset
from landscape.potentials.datasets.selection import generator

__all__ = ["digits", "random_labels"]


@dataset
def random_labels(samples: int = 300, features: int = 10, *, classes: int = 3, seed: int = 0) -> Data:
    """Gaussian inputs, N(0, 1) in each feature, with labels drawn uniformly and independently of them.

    A network can only learn them by heart.

    Parameters
    ----------
    samples : int
        Number of samples.
    features : int
        Number of features.
    classes : int
        Number of classes.
    seed : int
        Seed of inputs and labels; the labels do not depend on `features`.

    Returns
    -------
    Data
        Inputs ``(samples, features)``, float32; nothing is held out.

    Raises
    ------
    ConfigError
        If one of them is no such number.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise: 300 samples, 10 features, 3 classes.

    Examples
    --------
    >>> data = random_labels(100_000, 1, classes=2)
    >>> abs(data.inputs.std().item() - 1) < 0.01, abs(data.targets.double().mean().item() - 0.5) < 0.01
    (True, True)
    """
    given = {"samples": samples, "features": features, "classes": classes}
    sizes = {name: whole_number(name, value) for name, value in given.items()}
    inputs = generator(seed, 0).standard_normal((samples, features)).astype(np.float32)
    targets = generator(seed, 1).integers(classes, size=samples, dtype=np.int64)
    return Data(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        classes=int(classes),
        name="random labels",
        recipe={"kind": "random_labels"} | sizes | {"seed": int(seed)},
    )


@dataset
def digits(train: int = 1400, seed: int = 0, *, flat: bool = True, standardize: bool = False) -> Data:
    """The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn.

    Parameters
    ----------
    train : int
        How many are for training, from 1 to 1797; the others are for evaluation.
    flat : bool
        64 features per sample; otherwise images ``(1, 8, 8)``.

    Returns
    -------
    Data
        Inputs ``(train, 64)`` or ``(train, 1, 8, 8)``, float32.

    Raises
    ------
    DatasetNotFound
        If scikit-learn is not installed.
    ConfigError
        If an argument makes no sense.

    References
    ----------
    Alpaydin, Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.

    Examples
    --------
    >>> digits(1000)
    Data('digits', 1000 samples of shape (64,), 10 classes, 797 for evaluation)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DatasetNotFound(
            'the digits come with scikit-learn, which is not installed: pip install "landscape-langevin[digits]"'
        ) from None
    images, labels = load_digits(return_X_y=True)
    whole_number("train", train, most=len(labels))
    true_or_false("flat", flat)
    order = torch.from_numpy(generator(seed).permutation(len(labels)))
    inputs = torch.from_numpy(images / 16).to(torch.float32)[order]  # grey levels run from 0 to 16
    targets = torch.from_numpy(labels).to(torch.int64)[order]
    if not flat:
        inputs = inputs.reshape(-1, 1, 8, 8)
    rest = len(labels) - train
    data = Data(
        inputs[:train],
        targets[:train],
        classes=10,
        name="digits",
        evaluation_inputs=inputs[train:] if rest else None,
        evaluation_targets=targets[train:] if rest else None,
        class_names=tuple("0123456789"),
        recipe={"kind": "digits", "train": int(train), "seed": int(seed), "flat": flat},
    )
    return data.standardize() if standardize else data
