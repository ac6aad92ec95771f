"""Weights from files of torch, Lightning or safetensors, read without running code."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from torch import Tensor, nn

from landscape.checks import an_instance
from landscape.common.arguments import guarded
from landscape.errors import ConfigError, ShapeError, StorageError

__all__ = ["load_weights"]

_WRAPPINGS: Final = ("state_dict", "model_state_dict", "model", "module")
_COUNTERS: Final = "num_batches_tracked"  # of batch normalisation; older files lack them, and nothing here uses them


@guarded
def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """A copy of a module with the weights and buffers of a file, such as a start for `NetworkLoss`.

    Parameters
    ----------
    module : torch.nn.Module
        Of the architecture that the weights belong to; it is not changed.
    path : path
        A file of `torch.save(module.state_dict(), path)`, a checkpoint that has such a table under ``state_dict``
        (Lightning), ``model_state_dict``, ``model`` or ``module``, or under any other key if only one table fits the
        module, or a safetensors file. A prefix of all names, such as Lightning's ``model.`` or DataParallel's
        ``module.``, is found by itself; what has other prefixes is left.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    StorageError
        If the file is missing, damaged, or a pickle that holds more than tensors and plain data: no code is run.
    ConfigError
        If the names do not fit the module.
    ShapeError
        If a tensor has another shape, naming it.

    Examples
    --------
    >>> import os, tempfile
    >>> trained = nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "last.ckpt")
    ...     torch.save({"epoch": 3, "state_dict": {f"model.{k}": v for k, v in trained.state_dict().items()}}, path)
    ...     loaded = load_weights(nn.Linear(2, 1), path)
    >>> bool((loaded.weight == trained.weight).all())
    True
    """
    an_instance("module", module, nn.Module, called="torch.nn.Module")
    own = {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    found = _fitting_table(own, _read(Path(path)), str(path))
    for name, value in found.items():
        if value.shape != own[name].shape:
            raise ShapeError(
                f"{name!r} has shape {tuple(value.shape)} in {str(path)!r} and {tuple(own[name].shape)} in the module: "
                "make the module with the sizes it was trained with"
            )
    loaded = copy.deepcopy(module)
    loaded.load_state_dict(found, strict=False)
    return loaded


def _read(path: Path) -> Any:
    """What a file of weights holds: tables of tensors and plain data."""
    try:
        with path.open("rb") as file:
            beginning = file.read(9)
        if beginning[8:] == b"{":  # after the length of its header
            return dict(safetensors.torch.load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise StorageError(f"cannot read weights from {str(path)!r}: {error.strerror or error}") from error
    except Exception as error:  # damaged files raise whatever they break
        raise StorageError(
            f"{str(path)!r} is not a file of weights alone ({type(error).__name__}): it is damaged, or a pickle that "
            "would run code, and was not loaded. Save torch.save(model.state_dict(), path), or safetensors"
        ) from error
    for key in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return content


def _tables(content: Any, path: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every table of tensors in a file, with the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        yield from _tables(value, f"{path}.{key}".removeprefix("."))


def _fitting_table(own: Mapping[str, Tensor], content: Any, file: str) -> dict[str, Tensor]:
    """The tensors of the module by its names for them: of the outermost table, or of the one that fits."""
    tables = dict(_tables(content))
    if "" in tables or len(tables) < 2:
        return _without_prefix(own, next(iter(tables.values()), {}), file)
    fitting: dict[str, dict[str, Tensor]] = {}
    for key, tensors in tables.items():
        with suppress(ConfigError):
            fitting[key] = _without_prefix(own, tensors, file)
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise ConfigError(f"{file!r} holds weights of the module under several keys: {list(fitting)}; save one alone")
    return _without_prefix(own, max(tables.values(), key=len), file)


def _without_prefix(own: Mapping[str, Tensor], given: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The tensors of the module, by its names for them."""
    prefixes = {name.removesuffix(wanted) for wanted in own for name in given if name.endswith(wanted)}
    fitting = {}
    for prefix in sorted(p for p in prefixes if p == "" or p.endswith(".")):
        found = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
        if not _missing(own, found) and not found.keys() - own.keys():
            fitting[prefix] = found
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise ConfigError(
            f"{path!r} holds weights of the module under several prefixes: {list(fitting)}; save one alone"
        )
    missing, unknown = _missing(own, given), sorted(given.keys() - own.keys())
    raise ConfigError(
        f"the names in {path!r} are not those of the module: it needs {_some(missing)}, the file has {_some(unknown)}; "
        "give the module that was trained"
    )


def _missing(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Names that were not found; of tied weights one name is enough."""
    known = {id(own[name]) for name in found if name in own}
    return [name for name, value in own.items() if id(value) not in known and not name.endswith(_COUNTERS)]


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "no others"
