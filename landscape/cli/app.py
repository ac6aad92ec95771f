"""Commands, each with an example in its help. Heavy modules load inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from landscape.cli.exit_codes import DONE, INTERRUPTED, POINTS_FAILED, TERMINATED, UNEXPECTED, code_of
from landscape.cli.messages import complain
from landscape.cli.options import Checkpoint, Force, Output, Run
from landscape.cli.probe_group import probe_app
from landscape.cli.reproducing import titles
from landscape.storage.interruption import Interruption, notes_of

__all__ = ["app", "run"]

app = typer.Typer(
    name="landscape",
    help="Stochastic dynamics on energy landscapes. Begin with: [bold]landscape demo[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(probe_app, name="probe")


def run(arguments: list[str] | None = None) -> int:
    """Run the command line on arguments; the exit code."""
    try:
        command = typer.main.get_command(app)  # whose own `main` would drop what an interruption says
        given = sys.argv[1:] if arguments is None else list(arguments)
        # a command that keeps something has an interruption of its own inside this one
        with Interruption(), command.make_context("landscape", given) as context:
            result = command.invoke(context)
        return result if isinstance(result, int) else DONE
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort) as stop:
        complain(notes_of(stop) or "interrupted: nothing was written")
        return INTERRUPTED
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        complain(notes_of(stop) or "interrupted: nothing was written")
        return TERMINATED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error, whichever package it is from
            error.show()
            return int(error.exit_code)
        code = code_of(error)
        if code == UNEXPECTED:
            raise_or_explain(error)
        else:
            complain(str(error))
        return code


def raise_or_explain(error: Exception) -> None:
    """Print an unexpected error with its traceback: somebody has to be able to report it."""
    import traceback

    traceback.print_exception(error, file=sys.stderr)
    complain(f"unexpected {type(error).__name__}: {error}")


def _version(value: bool) -> None:
    if value:
        from landscape.common.version import package_version

        typer.echo(f"landscape {package_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    data: Annotated[
        str,
        typer.Option(help='"random-labels", "digits", or a path: an image folder, an archive of one, a CIFAR folder.'),
    ] = "random-labels",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("landscape-demo"),
    seed: Annotated[int, typer.Option(help="Of data, weights and noise.")] = 0,
    samples: Annotated[int, typer.Option(help="Images used, where --data is a path or digits.", min=20)] = 300,
    quick: Annotated[bool, typer.Option(help="A tenth of the steps: a first look in a few seconds.")] = False,
) -> None:
    """Simulate a toy valley and a trained network, and measure their fluctuations.

    Trains a small network to its minimum, explores it by Langevin dynamics at four temperatures, simulates the valley
    1/2 g(y) x^2 beside it, and writes one netCDF file per run, a figure and a table of theory against measurement.

    Example:  landscape demo --data digits
    """
    from landscape.cli.demo import run_demo

    run_demo(data, output, seed=seed, samples=samples, quick=quick)


@app.command()
def simulate(
    config: Annotated[Path, typer.Argument(help="A specification in TOML.", show_default=False)],
    output: Output = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: --set integrator.dt=1e-3 (repeatable).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show specification, memory and an estimate of time; run nothing.")
    ] = False,
    checkpoint_every: Checkpoint = None,
    force: Force = False,
) -> None:
    """Run a specification and store the result as netCDF, beside the config file unless told otherwise.

    An --output that does not end in .nc is a folder, written as the run goes on: it can be looked at meanwhile, and if
    the run is interrupted the same command, or landscape resume, goes on to the same bits. A file X.nc appears when it
    is complete; until then the run is in the folder X.unfinished, from which the same command goes on.

    Example:  landscape simulate valley.toml --set temperature=0.2 -o warm.nc
    """
    from landscape.cli.simulating import run_config

    run_config(config, output, assign or [], dry_run=dry_run, force=force, checkpoint_every=checkpoint_every)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A specification in TOML, of the task train.", show_default=False)],
    output: Output = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: --set epochs=100 (repeatable).")
    ] = None,
    force: Force = False,
    checkpoint_every: Checkpoint = None,
) -> None:
    """Train networks by minibatches, children side by side, and store the run; simulate for what is counted in epochs.

    An --output that does not end in .nc is a folder, in which an interrupted training goes on.

    Example:  landscape train digits.toml --set siblings=4 -o digits
    """
    from landscape.cli.simulating import run_config

    assigned = ["task=train", *(assign or [])]
    run_config(config, output, assigned, dry_run=False, force=force, checkpoint_every=checkpoint_every)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The folder of a run (simulate -o FOLDER).", show_default=False)],
    steps: Annotated[
        int | None, typer.Option(help="The total, counted from the start of the run; a larger one makes it longer.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="The total of a training; a larger one makes it longer.")] = None,
    checkpoint_every: Checkpoint = None,
) -> None:
    """Go on with an interrupted run, to the same bits as if it had never stopped, or make a run longer.

    Example:  landscape resume valley/ --steps 1000000
    """
    from landscape.cli.simulating import resume_run

    resume_run(folder, steps, epochs, checkpoint_every)


@app.command()
def consolidate(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)],
    output: Output = None,
    force: Force = False,
) -> None:
    """Make one netCDF file of a run in a folder, whatever its length.

    Example:  landscape consolidate valley/ -o valley.nc
    """
    from landscape.cli.simulating import consolidate_run

    consolidate_run(folder, output, force=force)


@app.command()
def study(
    config: Annotated[str, typer.Argument(help="A study in TOML, or the name of a preset.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; the name of the study by default.", show_default=False),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a key of the landscape, of all stages of a task or of one stage (repeatable): "
            "--set potential.data.path=X --set train.epochs=10 --set STAGE.steps=100.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print time and memory of each stage, from one measured step.")
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Run stages again whose specification has changed, and what rests on them.")
    ] = False,
    checkpoint_every: Checkpoint = None,
) -> None:
    """Run a chain of tasks, such as minima, the path between them, curvature along it, dynamics projected onto it.

    Stages that are complete are skipped: the same command goes on after an interruption. Presets: cifar10-reduced,
    cifar10-small, and the settings of the paper: wrn-16-4-cifar10, resnet-20-cifar10, resnet-110-cifar10 and the same
    with cifar100.

    Example:  landscape study cifar10-reduced --set potential.data.path=cifar10-jpeg.tar.xz --dry-run
    """
    from landscape.cli.studying import run_study

    run_study(
        config, output, assign or [], dry_run=dry_run, redo=redo, checkpoint_every=checkpoint_every
    )  # fmt: skip


@app.command()
def sweep(
    config: Annotated[
        Path, typer.Argument(help="A specification in TOML, with a table \\[over] of lists.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default named after CONFIG.", show_default=False)
    ] = None,
    over: Annotated[
        list[str] | None, typer.Option(help="Values of a key: --over integrator.dt=1e-3,1e-2 (repeatable).")
    ] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key for all points: --set steps=1000 (repeatable).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine, one thread each.", min=1, show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address or file of a Dask scheduler, for many machines.", show_default=False)
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="A point that is interrupted goes on where its last checkpoint is.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the table, what is missing, time, memory and disk; run nothing."),
    ] = False,
) -> None:
    """Run a specification for every combination of values, one file each; run again, only what is missing.

    Exit code 6: all is done but for the points listed, which failed.

    Example:  landscape sweep valley.toml --over temperature=0.1,0.2 --over integrator.dt=1e-3,1e-2 --workers 2 -o scan
    """
    from landscape.cli.sweeping import run_sweep

    failed = run_sweep(
        config, output, over or [], assign or [], workers=workers, scheduler=scheduler, checkpoints=checkpoints,
        dry_run=dry_run,
    )  # fmt: skip
    if failed:
        raise typer.Exit(POINTS_FAILED)


@app.command()
def connect(
    start: Annotated[Path, typer.Argument(help="A stored minimum or run (.nc), or a path to go on from.")],
    end: Annotated[Path | None, typer.Argument(help="The other minimum; none beside a path.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")] = Path("path.nc"),
    method: Annotated[str, typer.Option(help='"auto_neb", "neb", "string", "bezier" or "polychain".')] = "auto_neb",
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting of the method, or of the landscape: --set lr=0.1 --set potential.batch_size=128."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Join two stored minima of one landscape by a low path.

    If an automated band is interrupted, the same command goes on where its last checkpoint was written; of neb and
    string the band is kept, with the command that makes the rest of the steps.

    Example:  landscape connect a.nc b.nc -o path.nc --set 'cycles=[[0.1, "10 epochs"], [0.01, "5 epochs"]]'
    """
    from landscape.cli.connecting import connect_minima

    connect_minima(start, end, output, method, assign or [], force=force)


@app.command(epilog="\n\n".join(f"[bold]{name}[/bold]: {title}" for name, title in titles().items()))
def reproduce(
    name: Annotated[str, typer.Argument(help="One of those below, or all.", show_default=False)],
    size: Annotated[
        str, typer.Option(help='"quick" (under a minute), "small" (minutes) or "paper" (the paper\'s own settings).')
    ] = "small",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; landscape-reproduction/NAME by default.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of data, weights and noise.", min=0)] = 0,
) -> None:
    """Reproduce a figure of the papers: data, picture, and a verdict on each claim, whether it holds or not.

    Example:  landscape reproduce entropic_force --size quick
    """
    from landscape.cli.reproducing import reproduce_figures

    reproduce_figures(name, output, size=size, seed=seed)


@app.command()
def plot(run: Run, output: Output = None, force: Force = False) -> None:
    """Draw a stored run: energy against time and its distribution; for formulas also where the coordinates went.

    Of the result of a probe, the figure of that probe.

    Example:  landscape plot landscape-demo/valley.nc -o valley.png
    """
    from landscape.cli.plotting import plot_run

    plot_run(run, output, force=force)


@app.command()
def info(run: Run) -> None:
    """What a stored run holds, and the specification that made it.

    Example:  landscape info landscape-demo/network.nc
    """
    from landscape.cli.describing import describe_run

    describe_run(run)


@app.command()
def report(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Stored runs, sweeps or results, or folders of them; several are compared."),
    ],
    output: Output = None,
    force: Force = False,
) -> None:
    """Put runs and results on one page of HTML: specification, certificate, tables with errors, and pictures.

    Of several, the page says first where their settings differ and what their energies are, side by side. It is
    written beside what is reported, or as report.html here if there are several. It stands alone: it needs no network,
    and reads on a phone and on paper.

    Example:  landscape report cold.nc warm.nc -o report.html
    """
    from landscape.cli.reporting import write_report

    write_report(sources, output, force=force)


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="The folder that a run is being written to.", show_default=False)],
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look, then leave.")] = False,
) -> None:
    """Follow a running simulation: energy of each group of chains, temperature, speed, time left.

    What is shown is what the run has committed to its folder. A run that has ended is shown once. Leave with Ctrl-C:
    the run goes on.

    Example:  landscape watch run/
    """
    from landscape.cli.watching import watch_run

    watch_run(folder, every=every, once=once)


@app.command()
def plugins() -> None:
    """What other installed packages add: potentials, integrators and observers for specifications, and probes.

    Example:  landscape plugins
    """
    from landscape.cli.third_party import list_plugins

    list_plugins()
