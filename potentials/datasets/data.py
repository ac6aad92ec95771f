"""A labelled data set in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec

import torch
from torch import Tensor

from landscape.checks import whole_number
from landscape.common.arguments import guarded, guarded_class
from landscape.common.docstrings import completed
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.datasets.selection import balanced_indices, random_indices

__all__ = ["Data", "dataset"]

_P = ParamSpec("_P")
_USUAL = {
    "samples": "samples : int or None\n    So many images, equally many of each class; None = all.",
    "seed": "seed : int\n    Which.",
    "download": "download : bool\n    Fetch it into `root` if it is not there. Nothing is ever fetched otherwise.",
    "standardize": "standardize : bool\n    Mean 0 and variance 1 per channel (`Data.standardize`); else from 0 to 1.",
}
_SECTIONS = {
    "Returns": "Data\n    Inputs ``(samples, channels, height, width)``, float32.",
    "Raises": "DatasetNotFound\n    If it is not there.\nStorageError\n    If a file is damaged.\n"
    "ConfigError\n    If an argument makes no sense.",
}


def dataset(function: Callable[_P, Data]) -> Callable[_P, Data]:
    """A function that makes data: its arguments are guarded, and its docstring gets what all of them share.

    Examples
    --------
    >>> @dataset
    ... def none(seed: int = 0) -> Data:
    ...     "Nothing."
    >>> "DatasetNotFound" in none.__doc__
    True
    """
    function.__doc__ = completed(function, _USUAL, _SECTIONS)
    return guarded(function)


@guarded_class
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Data:
    """Inputs with their class labels, and held-out ones for evaluation.

    Attributes
    ----------
    inputs : tensor ``(samples, ...)``, float32 unless made by hand
        Features ``(samples, features)`` or images ``(samples, channels, height, width)``, from 0 to 1.
    targets : int64 tensor ``(samples,)``
        Class of each sample, from 0 to ``classes - 1``.
    classes : int
        Number of classes.
    name : str
        What it is, for titles.
    evaluation_inputs, evaluation_targets : tensor or None
        The same for samples that are held out.
    class_names : tuple of str or None
        Names of the classes.
    mean, deviation : tensor ``(channels,)`` or None
        What `standardize` subtracted and divided by.
    skipped : tuple of str
        Damaged files left out, where the reader was told to skip them.
    recipe : mapping
        What `spec` returns.

    Raises
    ------
    ShapeError
        If inputs and targets do not fit.
    ConfigError
        If names do not fit the classes, or one of the two held-out parts is missing.

    Examples
    --------
    >>> Data(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), classes=2, name="corners")
    Data('corners', 4 samples of shape (2,), 2 classes, 0 for evaluation)
    """

    inputs: Tensor
    targets: Tensor
    classes: int
    name: str
    evaluation_inputs: Tensor | None = None
    evaluation_targets: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    mean: Tensor | None = None
    deviation: Tensor | None = None
    skipped: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole_number("classes", self.classes)
        _check_pair("", self.inputs, self.targets, self.classes)
        if (self.evaluation_inputs is None) != (self.evaluation_targets is None):
            raise ConfigError("only one of evaluation_inputs and evaluation_targets was given: give both or neither")
        if self.evaluation_inputs is not None and self.evaluation_targets is not None:
            _check_pair("evaluation_", self.evaluation_inputs, self.evaluation_targets, self.classes)
            if self.evaluation_inputs.shape[1:] != self.inputs.shape[1:]:
                raise ShapeError(
                    f"evaluation_inputs have shape {tuple(self.evaluation_inputs.shape[1:])} per sample, inputs "
                    f"{tuple(self.inputs.shape[1:])}: give both the same"
                )
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ConfigError(f"{len(self.class_names)} class_names for classes = {self.classes}: give one for each")

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        held_out = 0 if self.evaluation_inputs is None else len(self.evaluation_inputs)
        return (
            f"Data({self.name!r}, {len(self)} samples of shape {tuple(self.inputs.shape[1:])}, {self.classes} classes, "
            f"{held_out} for evaluation)"
        )

    def spec(self) -> dict[str, Any]:
        """A plain dict (JSON types only) from which `from_spec` makes the same data again.

        Raises
        ------
        ConfigError
            If the data were put together by hand.

        Examples
        --------
        >>> from landscape.potentials import datasets
        >>> datasets.random_labels(12, 5).spec()
        {'kind': 'random_labels', 'samples': 12, 'features': 5, 'classes': 3, 'seed': 0}
        """
        if not self.recipe:
            raise ConfigError(
                f"the data {self.name!r} were put together by hand: make them with a function of "
                "landscape.potentials.datasets, or pass recipe="
            )
        return copy.deepcopy(dict(self.recipe))

    def subset(self, samples: int, seed: int = 0, *, balanced: bool = False) -> Data:
        """Fewer training samples, drawn without replacement; the evaluation samples stay.

        Parameters
        ----------
        samples : int
            How many.
        seed : int
            Which; the same number gives the same samples, in their former order.
        balanced : bool
            Equal numbers of each class (one more of the first ones where there is a rest).

        Returns
        -------
        Data
            Those samples.

        Raises
        ------
        ConfigError
            If that many are not there.

        Examples
        --------
        >>> data = Data(torch.zeros(6, 1), torch.tensor([0, 1, 0, 1, 0, 1]), classes=2, name="six")
        >>> data.subset(4, balanced=True).targets.bincount().tolist()
        [2, 2]
        """
        if balanced:
            names = self.class_names or range(self.classes)
            chosen = balanced_indices(self.targets.numpy(force=True), samples, seed=seed, names=names)
        else:
            chosen = random_indices(len(self), samples, seed=seed)
        index = torch.from_numpy(chosen).to(self.targets.device)
        done = {"kind": "subset", "samples": int(samples), "seed": int(seed), "balanced": bool(balanced)}
        return replace(self, inputs=self.inputs[index], targets=self.targets[index], recipe=self._then(done))

    def standardize(self) -> Data:
        """Inputs with mean 0 and variance 1 in each channel: (x - mean_c) / deviation_c.

        Mean and deviation (divisor n) are those of all training samples and pixels of channel c, the second axis;
        for flat inputs every feature is a channel. The evaluation samples are shifted and scaled by the same numbers.
        A channel that is constant is only shifted.

        Returns
        -------
        Data
            With `mean` and `deviation` set.

        Raises
        ------
        ConfigError
            If they were standardised before.

        Examples
        --------
        >>> data = Data(torch.tensor([[0.0, 5.0], [4.0, 5.0]]), torch.tensor([0, 1]), classes=2, name="two")
        >>> data.standardize().inputs.tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        """
        if self.mean is not None:
            raise ConfigError(f"the data {self.name!r} are standardised already: call standardize once")
        mean, deviation = _moments(self.inputs)
        shape = (-1,) + (1,) * (self.inputs.ndim - 2)
        shift, scale = (value.to(self.inputs.dtype).reshape(shape) for value in (mean, deviation))
        held_out = self.evaluation_inputs
        return replace(
            self,
            inputs=(self.inputs - shift) / scale,
            evaluation_inputs=None if held_out is None else (held_out - shift) / scale,
            mean=shift.flatten(),
            deviation=scale.flatten(),
            recipe=self._then({"kind": "standardize"}),
        )

    def _then(self, step: dict[str, Any]) -> dict[str, Any]:
        if not self.recipe:
            return {}
        return {**self.recipe, "then": [*self.recipe.get("then", []), step]}


def _check_pair(prefix: str, inputs: Tensor, targets: Tensor, classes: int) -> None:
    for name, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise ShapeError(f"{prefix}{name} is a {type(value).__name__}: give a torch tensor")
    if not inputs.is_floating_point() or inputs.ndim < 2:
        raise ShapeError(
            f"{prefix}inputs are {inputs.dtype} of shape {tuple(inputs.shape)}: give floating-point numbers of shape "
            "(samples, features) or (samples, channels, height, width)"
        )
    if targets.dtype != torch.int64 or targets.shape != inputs.shape[:1]:
        raise ShapeError(
            f"{prefix}targets are {targets.dtype} of shape {tuple(targets.shape)}: give torch.int64 of shape "
            f"({len(inputs)},), one for each sample"
        )
    if len(inputs) == 0:
        raise ShapeError(f"{prefix}inputs have no samples: give at least one")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise ConfigError(f"{prefix}targets run from {low} to {high}: give labels from 0 to {classes - 1}")


def _moments(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel in float64, in pieces so that no float64 copy of everything is held."""
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    count = inputs.numel() / inputs.shape[1]
    pieces = torch.split(inputs, 4096)
    mean = torch.stack([piece.double().sum(axes) for piece in pieces]).sum(0) / count
    centre = mean.reshape((-1,) + (1,) * (inputs.ndim - 2))
    square = torch.stack([((piece.double() - centre) ** 2).sum(axes) for piece in pieces]).sum(0) / count
    deviation = square.sqrt()
    # below the rounding of float32 a channel is constant
    constant = deviation <= 1e-6 * mean.abs().clamp(min=1e-30)
    return mean, torch.where(constant, torch.ones_like(deviation), deviation)
