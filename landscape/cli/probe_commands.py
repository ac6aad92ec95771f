"""`landscape probe ...`: one command for each room of the probes. Heavy modules load inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landscape.cli.options import Force, Output, Run
from landscape.cli.probe_group import ProbeGroup

__all__ = ["probe_app"]

probe_app = typer.Typer(
    cls=ProbeGroup,
    no_args_is_help=True,
    help="Measure something on a stored run.\n\nExample:  landscape probe fluctuations network.nc",
)


@probe_app.command()
def fluctuations(
    run: Run,
    output: Output = None,
    by: Annotated[
        str, typer.Option(help='"temperature" pools chains of equal temperature, or "chain".')
    ] = "temperature",
    quantity: Annotated[
        str,
        typer.Option(
            "--quantity",
            "-q",
            help='"summary" of the energy, "diffusion" or "current" of coordinates, or "entropy_production".',
        ),
    ] = "summary",
    coordinate: Annotated[
        list[str] | None,
        typer.Option("--coordinate", "-c", help="Of whose diffusion or current (repeatable).", show_default=False),
    ] = None,
    force: Force = False,
) -> None:
    """Moments, Gamma distribution, correlation times, exponents of the energy, or drift and diffusion of coordinates.

    Example:  landscape probe fluctuations landscape-demo/network.nc
    """
    from landscape.cli.driven import probe_current, probe_entropy_production
    from landscape.cli.probing import probe_diffusion, probe_fluctuations

    if quantity == "diffusion":
        probe_diffusion(run, output, coordinate, by, force=force)
    elif quantity == "current":
        probe_current(run, output, coordinate, force=force)
    elif quantity == "entropy_production":
        probe_entropy_production(run, output, by, force=force)
    else:
        probe_fluctuations(run, output, by, force=force, quantity=quantity, coordinates=coordinate)


@probe_app.command()
def curvature(
    run: Run,
    quantity: Annotated[
        str,
        typer.Option(
            "--quantity",
            "-q",
            help='"eigenvalues", "largest_eigenvalue", "extreme_eigenvalues", "top_eigenpairs", "trace", '
            '"fisher_trace", "diagonal", "sharpness" or "score_singular_values".',
        ),
    ] = "eigenvalues",
    output: Output = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help='For fisher_trace, and the diagonal of "fisher": "model", "sampled" or "empirical".',
            show_default=False,
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(help='For diagonal: "hessian" (the default), "gauss_newton" or "fisher".', show_default=False),
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="For sharpness: of the ball.", min=0.0, show_default=False)
    ] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="For sharpness: the ball scaled by the weights.")
    ] = False,
    pairs: Annotated[int | None, typer.Option(help="For top_eigenpairs: how many.", min=1, show_default=False)] = None,
    snapshots: Annotated[
        int | None, typer.Option(help="At most so many snapshots of each chain.", min=1, show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random probe vectors.", min=0)] = 0,
    force: Force = False,
) -> None:
    """Curvature of the landscape at the snapshots of a run; of eigenvalues also how they scale with temperature.

    Example:  landscape probe curvature network.nc --quantity eigenvalues --snapshots 100
    """
    from landscape.cli.probing import probe_curvature

    probe_curvature(
        run, output, quantity, labels=labels, of=of, radius=radius, adaptive=adaptive, k=pairs, snapshots=snapshots,
        seed=seed, force=force,
    )  # fmt: skip


@probe_app.command("free-energy")
def free_energy(
    runs: Annotated[
        list[Path], typer.Argument(help="A stored run (.nc); with --mbar several, with --work forward and reverse.")
    ],
    coordinate: Annotated[
        list[str] | None,
        typer.Option("--coordinate", "-c", help="Along which; give two for a surface.", show_default=False),
    ] = None,
    output: Output = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Of the chains to take, where there are several; with --mbar any.", show_default=False),
    ] = None,
    bins: Annotated[int, typer.Option(help="Of each coordinate.", min=2)] = 60,
    mbar: Annotated[
        bool, typer.Option("--mbar", help="Combine the states of all chains; read them without restraints.")
    ] = False,
    work: Annotated[
        bool, typer.Option("--work", help='From the works of driven runs, which recorded "work", forward and reverse.')
    ] = False,
    observable: Annotated[
        list[str] | None,
        typer.Option(help='With --mbar: a formula or recorded variable, such as "x**2".', show_default=False),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(help="With --mbar: of the landscape that is asked for, such as k=2.0.", show_default=False),
    ] = None,
    force: Force = False,
) -> None:
    """Free energy along one coordinate of a run, or two, from a histogram, with its error and beside theory.

    With --mbar, of runs at several temperatures, restraints or parameters: free energies of these states, averages and
    profiles at any other. With --work, of driven runs that begin in equilibrium: the difference between the ends of the
    protocol, by Jarzynski or, with runs of the reversed protocol, by Bennett.

    Examples:  landscape probe free-energy valley.nc --coordinate y --bins 30

    landscape probe free-energy windows.nc ladder.nc --mbar -c x --temperature 0.15 --observable energy

    landscape probe free-energy pulled.nc pushed.nc --work
    """
    if work:
        from landscape.cli.driven import probe_work
        from landscape.errors import ConfigError

        if mbar or coordinate or observable or parameter:
            raise ConfigError("--work takes runs and nothing of a profile or of --mbar: leave these options out")
        probe_work(runs, output, temperature, force=force)
        return
    if mbar:
        from landscape.cli.combining import probe_mbar

        probe_mbar(
            runs, output, coordinate or [], observable or [], parameter or [], temperature=temperature, bins=bins,
            force=force,
        )  # fmt: skip
        return
    from landscape.cli.free_energy import probe_free_energy
    from landscape.errors import ConfigError

    if len(runs) > 1 or observable or parameter:
        raise ConfigError("several runs belong to --mbar or --work, --observable and --parameter to --mbar: add it")
    probe_free_energy(runs[0], output, coordinate or [], temperature=temperature, bins=bins, force=force)


@probe_app.command()
def confinement(
    path: Annotated[Path, typer.Argument(help="A stored path, or a run projected onto one (.nc).", show_default=False)],
    quantities: Annotated[
        list[str] | None,
        typer.Option(
            "--quantity",
            "-q",
            help='Of a path (repeatable): "energy", "norm", "gradient_norm", "largest_eigenvalue", "trace", '
            '"log_determinant", "eigenvalues", "accuracy", "fisher_trace", ...; by default energy, largest eigenvalue '
            "and trace.",
        ),
    ] = None,
    output: Output = None,
    between: Annotated[int, typer.Option(help="Points between neighbouring pivots.", min=0)] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="Of the barriers of energy and entropy.", show_default=False)
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help='For fisher_trace: "model", "sampled" or "empirical".', show_default=False)
    ] = None,
    epsilon: Annotated[float, typer.Option(help="Curvature added to flat directions in log_determinant.")] = 0.0,
    bins: Annotated[int, typer.Option(help="Of arc length, for the drift of a run.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the random probe vectors.", min=0)] = 0,
    force: Force = False,
) -> None:
    """Energy, curvature and barriers along a stored path; of a run projected onto one, its drift and relaxation.

    Example:  landscape probe confinement path.nc --quantity energy --quantity trace --temperature 1e-5
    """
    from landscape.cli.confining import probe_confinement

    probe_confinement(
        path, output, quantities or [], between=between, temperature=temperature, labels=labels, epsilon=epsilon,
        bins=bins, seed=seed, force=force,
    )  # fmt: skip


@probe_app.command()
def rates(
    run: Run,
    core: Annotated[
        list[str] | None,
        typer.Option(
            help='A core set, such as --core "A=x < -0.8" (repeatable); by default those that the run followed.',
            show_default=False,
        ),
    ] = None,
    quantity: Annotated[
        str,
        typer.Option(
            "--quantity",
            "-q",
            help='"core_sets", "escape_rate" of two cores by two estimators, or "forward_flux" with the rule of '
            "the run.",
        ),
    ] = "core_sets",
    coordinate: Annotated[
        str | None, typer.Option("--coordinate", "-c", help="For forward_flux: name or formula.", show_default=False)
    ] = None,
    a: Annotated[
        float | None, typer.Option("--from", help="For forward_flux: boundary of A.", show_default=False)
    ] = None,
    b: Annotated[
        float | None, typer.Option("--to", help="For forward_flux: boundary of B.", show_default=False)
    ] = None,
    copies: Annotated[int, typer.Option(help="For forward_flux: from each interface and replica.", min=10)] = 200,
    seed: Annotated[int, typer.Option(help="For forward_flux.", min=0)] = 0,
    output: Output = None,
    force: Force = False,
) -> None:
    """Transition rates between core sets, from a run that followed them or recorded positions; or of rare events.

    Examples:  landscape probe rates run.nc --core "A=x < -0.8" --core "B=x > 0.8"

    landscape probe rates run.nc --quantity forward_flux --coordinate x --from -0.8 --to 0.8
    """
    from landscape.cli.rates import probe_forward_flux, probe_rates

    if quantity == "forward_flux":
        probe_forward_flux(run, output, coordinate, a, b, copies=copies, seed=seed, force=force)
        return
    probe_rates(run, output, quantity, core or [], force=force)
