"""`landscape probe NAME RUN`: a command for every probe, ours and those that other packages register."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from landscape.cli.options import Force, Output
from landscape.cli.short_probes import SHORT, Short
from landscape.errors import ConfigError

__all__ = ["ProbeGroup", "probe_app"]

_Variable = Annotated[str | None, typer.Option(help="The variable of the file that is measured.", show_default=False)]
_Setting = Annotated[
    list[str] | None, typer.Option("--setting", "--set", help="A setting: --setting bins=20 (repeatable).")
]
_Snapshots = Annotated[
    int | None,
    typer.Option(
        help="At most so many snapshots of each chain; of a run without, where its chains ended.", min=1,
        show_default=False,
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A name of the command line, and what it stands for."""

    name: str
    probes: tuple[Any, ...]
    short: Short


class ProbeCommand(TyperCommand):
    """A probe as a command; an option that it does not have is told in one line, with the nearest that it has."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, options among the files."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            wrong = getattr(error, "option_name", None)
            if wrong is None or not hasattr(error, "possibilities"):
                raise
            from landscape.spec.building import suggest

            known = [one for parameter in self.params for one in parameter.opts if one.startswith("--")]
            raise ConfigError(
                f"{self.name} has no option {wrong}; expected one of {', '.join(known)}{suggest(wrong, known)}"
            ) from None


class ProbeGroup(TyperGroup):
    """A command for each probe; a room by itself stands for what is asked first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of rooms, and of all probes."""
        from landscape.workflows.probing import known_probes

        return [*SHORT, *known_probes()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a room or a probe, or one that says what is wrong with a probe of another package."""
        if cmd_name in SHORT:
            return _command(_asked(cmd_name, SHORT[cmd_name][""]))
        try:
            return _command(_asked(cmd_name, Short((cmd_name,))))
        except ConfigError as error:
            return _broken(cmd_name, error)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of a name, which of a room depends on what is asked for.

        Raises
        ------
        ConfigError
            For an unknown name, with the nearest.
        """
        name, rest = args[0], args[1:]
        if name in SHORT:
            from landscape.cli.short_probes import chosen
            from landscape.workflows.probing import known_probes

            short, rest = chosen(name, rest, known_probes())
            return name, _command(_asked(name, short)), rest
        return name, _command(_asked(name, Short((name,)))), rest


def _asked(name: str, short: Short) -> Asked:
    from landscape.workflows.probing import named_probe

    return Asked(name, tuple(map(named_probe, short.probes)), short)


def _command(asked: Asked) -> Any:
    from landscape.cli.probe_options import about, described, option
    from landscape.workflows.probing import named_probe

    probes = [*asked.probes, *(named_probe(asked.short.then[one.name]) for one in asked.probes if asked.short.then)]
    settings: dict[str, inspect.Parameter] = {}
    for one in reversed(probes):
        told = described(one.function)
        settings |= {name: option(parameter, told.get(name, "")) for name, parameter in one.settings.items()}
    for name, of in asked.short.options.items():
        plain = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        settings[name] = option(plain, f"Stands for {of}")
    reads = " or ".join(dict.fromkeys(one.reads.about for one in asked.probes))
    files = Annotated[list[Path], typer.Argument(help=f"Stored file (.nc): {reads}.", show_default=False)]

    def measure(**given: Any) -> None:
        from landscape.cli.probing import run_probe

        fixed = {name: given.pop(name, None) for name in ("files", "output", "force", "setting", "variable")}
        run_probe(asked.probes, asked.short, given, snapshots=given.pop("snapshots", None), **fixed)

    common = {"files": files, "output": Output, "force": Force, "variable": _Variable, "setting": _Setting}
    common |= {"snapshots": _Snapshots} if any(one.reads.thinned for one in asked.probes) else {}
    taken = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=kind,
            default={"files": inspect.Parameter.empty, "force": False}.get(name),
        )
        for name, kind in common.items()
    ]  # fmt: skip
    measure.__signature__ = inspect.Signature([*taken, *settings.values()])  # type: ignore[attr-defined]
    measure.__annotations__ = {one.name: one.annotation for one in (*taken, *settings.values())}
    main = asked.probes[-1]
    example = f"Example:  landscape probe {asked.name} run.nc{_needed(main)}"
    room = main.name.partition(".")[0] if "." in main.name else "other packages"
    panel = "Rooms" if asked.name in SHORT else room
    also = f"\n\nOther probes of the room by --quantity: see {room}.* above." if asked.name in SHORT else ""
    return _made(asked.name, measure, f"{about(main.function)}{also}\n\n{example}", panel)


def _needed(probe: Any) -> str:
    names = [name for name, one in probe.settings.items() if one.default is one.empty and name != "integrator"]
    return "".join(f" --{name.replace('_', '-')} {name.upper()}" for name in names)


def _broken(name: str, error: ConfigError) -> Any:
    def measure() -> None:
        raise error

    return _made(name, measure, "Cannot be loaded.", "other packages")


def _made(name: str, function: Callable[..., None], text: str, panel: str) -> Any:
    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command(name, cls=ProbeCommand, help=text, rich_help_panel=panel)(function)
    return typer.main.get_command(app)


probe_app = typer.Typer(
    cls=ProbeGroup,
    no_args_is_help=True,
    help="Measure something on a stored run: landscape probe NAME RUN [--setting key=value].\n\n"
    "Example:  landscape probe fluctuations network.nc",
)


@probe_app.callback()
def _root() -> None:
    pass
