"""What other packages register: `landscape plugins`."""

from __future__ import annotations

import inspect

from rich.table import Table
from rich.text import Text

from landscape.cli.console import console
from landscape.cli.messages import warn
from landscape.errors import ConfigError
from landscape.spec import plugins

__all__ = ["list_plugins"]


def list_plugins() -> None:
    """Print what is registered, and warn of what cannot be used."""
    table = Table(*("group", "name", "package", "about"), box=None, header_style="bold", pad_edge=False)
    broken = []
    for group in plugins.GROUPS:
        for plugin in plugins.installed(group):
            try:
                about = inspect.getdoc(plugin.load()) or ""
            except ConfigError as error:
                broken.append(str(error))
                continue
            table.add_row(group, *map(Text, (plugin.name, plugin.package, about.partition("\n")[0])))
    if table.row_count:
        console.print(table)
    else:
        console.print("no other package registers anything; CONTRIBUTING.md shows how one does")
    for message in broken:
        warn(message)
