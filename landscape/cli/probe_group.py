"""`landscape probe`: our own probes, and those that other packages register."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from landscape import plugins

__all__ = ["ProbeGroup"]


class ProbeGroup(TyperGroup):
    """The commands of this package, and after them one for each registered probe; nothing is imported to list them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all probes."""
        return [*super().list_commands(ctx), *plugins.names("probes")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Our probe of that name, else the one that is registered."""
        ours = super().get_command(ctx, cmd_name)
        if ours is not None:
            return ours
        plugin = plugins.find("probes", cmd_name)
        return None if plugin is None else _command(plugin)


def _command(plugin: plugins.Plugin) -> Any:
    def probe(
        run: Annotated[Path, typer.Argument(help="A stored run (.nc).", show_default=False)],
        output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write.")] = None,
        assign: Annotated[
            list[str] | None, typer.Option("--set", help="A setting of the probe: --set bins=20 (repeatable).")
        ] = None,
        force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    ) -> None:
        from landscape.cli.third_party import run_probe

        run_probe(plugin, run, output, assign or [], force=force)

    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    about = (
        f"The probe {plugin.name} of the package {plugin.package}.\n\nExample:  landscape probe {plugin.name} run.nc"
    )
    app.command(plugin.name, help=about)(probe)
    return typer.main.get_command(app)
