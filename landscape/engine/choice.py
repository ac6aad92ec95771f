"""Which backend runs a plan."""

from __future__ import annotations

from typing import Any, Literal

import torch

from landscape.checks import one_of
from landscape.common.capabilities import speaks_for
from landscape.engine.base import Engine, Plan, State
from landscape.errors import ConfigError
from landscape.integrators.compiled_rule import rule_of
from landscape.noise.forms import CompiledNoise, form_of
from landscape.potentials.base import Potential

__all__ = ["Backend", "make_engine", "why_not_compiled"]

Backend = Literal["auto", "compiled", "batched"]


def make_engine(plan: Plan, state: State, backend: Backend) -> tuple[Engine, str]:
    """The engine and the name of its backend. "auto" takes the compiled one wherever it applies.

    Raises
    ------
    ConfigError
        If "compiled" is asked for and cannot run this plan, with the reason; or for an unknown name.
    """
    one_of("backend", backend, ("auto", "compiled", "batched"))
    if backend != "batched":
        obstacle = why_not_compiled(plan)
        if obstacle is None:
            return _compiled(plan, state), "compiled"
        if backend == "compiled":
            raise ConfigError(f'backend="compiled" cannot run this: {obstacle}. Use "batched" or "auto"')
    from landscape.engine.batched import BatchedEngine

    return BatchedEngine(plan, state), "batched"


def _compiled(plan: Plan, state: State) -> Engine:
    form = compiled_form_of(plan.potential)
    if form.loops == "formula":
        from landscape.engine.compiled_formula import CompiledFormula

        return CompiledFormula(plan, state, form)
    from landscape.engine.compiled_mlp import CompiledMLP

    return CompiledMLP(plan, state, form)


def why_not_compiled(plan: Plan) -> str | None:
    """Why the compiled backend cannot run a plan, None if it can."""
    potential, rule = plan.potential, plan.integrator
    if plan.device.type != "cpu":
        return f"it runs on the CPU, not on {plan.device}"
    if plan.bias is not None:
        return "hills of Metadynamics are looked up by torch"
    if plan.walls.levels:
        return "walls at the level of a function (Absorb with above or below) are met by torch"
    if rule_of(rule) is None:
        return f"it does not have the integrator {type(rule).__name__} with this noise or this clipping"
    if not rule.thermal_noise.white and plan.scheduled:
        return "it does not have colored noise under a schedule"
    form = compiled_form_of(potential)
    if isinstance(form, str):
        return form
    return _obstacle_of_formula(plan, form) if form.loops == "formula" else _obstacle_of_network(plan, form)


def compiled_form_of(potential: Potential) -> Any:
    """What the compiled loops run of a potential, or why they do not; nothing that a subclass has changed."""
    if not speaks_for(potential, "compiled_form", "_energy", "_gradient"):
        return Potential.compiled_form(potential)
    return potential.compiled_form()


def _obstacle_of_formula(plan: Plan, formula: Any) -> str | None:
    if formula is not plan.potential and (formula.coordinates != plan.potential.coordinates or formula.varying):
        return f"the formula is of {list(formula.coordinates)}, the energy of {list(plan.potential.coordinates or ())}"
    if plan.restraints is not None and not plan.restraints.symbolic:
        return "the restrained coordinate is a callable, not a formula"
    mobility: Any = plan.integrator.mobility
    if mobility is not None and callable(mobility.matrix):
        return "the mobility is a callable, not a formula"
    if mobility is not None and plan.walls.absorbs and not mobility.of(formula).diagonal:
        return "it has no absorbing walls beside a mobility that couples coordinates"
    if plan.dtype != torch.float64:
        return f"formulas are compiled in float64, not {plan.dtype}"
    form = form_of(plan.integrator.thermal_noise, formula) if plan.integrator.thermal else None
    return form if isinstance(form, str) else None


def _obstacle_of_network(plan: Plan, loss: Any) -> str | None:
    noise = plan.integrator.thermal_noise
    if plan.restraints is not None:
        return "networks are compiled without restraints"
    if plan.walls.any:
        return "networks are compiled without walls"
    if plan.integrator.mass is not None:
        return "networks are compiled with unit masses"
    form = form_of(noise, loss) if noise.homogeneous and noise.white and not noise.signs else None
    if plan.integrator.thermal and (not isinstance(form, CompiledNoise) or not form.plain):
        return f"networks are compiled with ThermalNoise, not {type(noise).__name__}"
    return None if plan.dtype in (torch.float32, torch.float64) else f"it does not compute in {plan.dtype}"
