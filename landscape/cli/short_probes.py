"""Short names of `landscape probe`: a room for what is asked first of a run, its other probes by ``--quantity``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from landscape.errors import ConfigError

__all__ = ["SHORT", "Short", "chosen"]


@dataclass(frozen=True, slots=True)
class Short:
    """What a short name stands for.

    Attributes
    ----------
    probes : tuple of str
        The first of these that the file suits is meant.
    then : mapping of str to str
        A probe that is asked besides, of its result where it reads one, else of the same run.
    settings : mapping
        Settings that are not the defaults of the probe, unless given.
    options : mapping of str to str
        Further options, and the settings that they stand for.
    ending : str, optional
        Of the file, after the name of the run; by default the name of the probe.
    stored : bool
        Whether a result is stored that nobody gave an --output for.
    """

    probes: tuple[str, ...]
    then: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    ending: str | None = None
    stored: bool = True


_SUMMARY = Short(
    ("fluctuations.summary",), {"fluctuations.summary": "fluctuations.temperature_scan"}, {"by": "temperature"},
    stored=False,
)  # fmt: skip
_ALONG = Short(
    ("confinement.along_path", "confinement.drift"),
    {"confinement.along_path": "confinement.barriers", "confinement.drift": "confinement.relaxation"},
    options={"labels": "settings.fisher_trace.labels"}, ending="confinement",
)  # fmt: skip
_SPECTRA = Short(("curvature.eigenvalues",), {"curvature.eigenvalues": "curvature.temperature_scaling"})
_PROFILE = Short(("free_energy.metadynamics", "free_energy.profile"), settings={"zero": "mean"}, ending="free-energy")

# room: what its name stands for by itself, and after a flag or a --quantity
SHORT: Mapping[str, Mapping[str, Short]] = {
    "fluctuations": {
        "": _SUMMARY,
        "summary": _SUMMARY,
        "diffusion": Short(("fluctuations.diffusion",), stored=False),
        "entropy_production": Short(("fluctuations.entropy_production",), stored=False),
    },
    "curvature": {"": _SPECTRA, "eigenvalues": _SPECTRA},
    "free-energy": {
        "": _PROFILE,
        "--work": Short(("free_energy.work_average",), ending="work"),
        "--mbar": Short(("free_energy.mbar",), options={"bins": "at"}),
    },
    "confinement": {"": _ALONG},
    "rates": {"": Short(("rates.core_sets",))},
}
_QUANTITY = ("-q", "--quantity")


def chosen(name: str, arguments: list[str], known: list[str]) -> tuple[Short, list[str]]:
    """What a room stands for among these arguments, and the arguments that are left.

    Raises
    ------
    ConfigError
        For a quantity that is none of the `known` probes.

    Examples
    --------
    >>> chosen("rates", ["run.nc", "-q", "escape_rate", "--force"], ["rates.escape_rate"])[1]
    ['run.nc', '--force']
    """
    room = SHORT[name]
    for flag in (one for one in room if one.startswith("--")):
        if flag in arguments:
            return room[flag], [one for one in arguments if one != flag]
    place = next((i for i, one in enumerate(arguments[:-1]) if one in _QUANTITY), None)
    if name == "confinement" or place is None:  # whose quantities are those along the path
        return room[""], arguments
    quantity = arguments[place + 1]
    full = f"{name.replace('-', '_')}.{quantity}"
    if full not in known:
        quantities = [one.partition(".")[2] for one in known if one.startswith(full.partition(".")[0] + ".")]
        raise ConfigError(f"--quantity must be one of {', '.join(quantities)}, got {quantity!r}")
    return room.get(quantity, Short((full,))), [*arguments[:place], *arguments[place + 2 :]]
