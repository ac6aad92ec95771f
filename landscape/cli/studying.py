"""`landscape study`: the stages of a configuration file or preset, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from landscape.cli.console import console
from landscape.cli.simulating import assign, read_config
from landscape.common.text import duration
from landscape.errors import ConfigError
from landscape.workflows import presets
from landscape.workflows.study import stages_of, study
from landscape.workflows.study_costs import costs

__all__ = ["override", "run_study"]


def run_study(
    config: str, output: Path | None, assignments: list[str], *, dry_run: bool, redo: bool,
    checkpoint_every: int | None = None,
) -> None:  # fmt: skip
    """Run a study, or print what its stages will cost."""
    is_file = config.endswith(".toml") or Path(config).exists()
    spec = presets.complete(read_config(Path(config))) if is_file else presets.load(config)
    for text in assignments:
        override(spec, text)
    if dry_run:
        _show_costs(spec)
        return
    folder = output or Path(Path(config).stem)
    study(spec, output=folder, redo=redo, checkpoint_every=checkpoint_every, note=console.print)
    console.print(f"all stages are in [bold]{folder}[/bold]")


def override(spec: dict[str, Any], text: str) -> None:
    """Set one key of a study: ``NAME.key=value`` of a stage, anything else of the defaults.

    Examples
    --------
    >>> spec = {"defaults": {"potential": {"kind": "Ring"}}, "stage": [{"name": "left", "task": "minimize"}]}
    >>> override(spec, "potential.radius=2.0")
    >>> override(spec, "left.steps=100")
    >>> spec["defaults"]["potential"]["radius"], spec["stage"][0]["steps"]
    (2.0, 100)
    """
    name, dot, rest = text.partition(".")
    stages = [one for one in spec.get("stage", []) if isinstance(one, dict) and one.get("name") == name]
    if not dot or "=" in name:
        raise ConfigError(f"--set takes potential.key=value, TASK.key=value or STAGE.key=value; got {text!r}")
    if stages:
        assign(stages[0], rest)
    else:
        assign(spec.setdefault("defaults", {}), text)


def _show_costs(spec: dict[str, Any]) -> None:
    table = Table("stage", "task", "time, at most", "memory", box=None, header_style="bold", pad_edge=False)
    total = 0.0
    for cost in costs(stages_of(spec)):
        total += cost.seconds
        table.add_row(cost.name, cost.task, duration(cost.seconds), f"{cost.bytes / 2**30:.2f} GiB")
    console.print(table)
    console.print(f"about {duration(total)} on this machine, from one measured step; nothing was run")
