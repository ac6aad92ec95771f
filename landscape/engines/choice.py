"""Which backend runs a plan."""

from __future__ import annotations

from typing import Literal

import torch

from landscape.engines.base import Engine, Plan, State
from landscape.errors import ConfigError
from landscape.noise.colored import ColoredNoise
from landscape.noise.hessian import HessianNoise
from landscape.noise.thermal import ThermalNoise
from landscape.potentials.expression import Expression
from landscape.potentials.network import NetworkLoss

__all__ = ["Backend", "make_engine", "why_not_compiled"]

Backend = Literal["auto", "compiled", "batched"]


def make_engine(plan: Plan, state: State, backend: Backend) -> tuple[Engine, str]:
    """The engine and the name of its backend. "auto" takes the compiled one wherever it applies.

    Raises
    ------
    ConfigError
        If "compiled" is asked for and cannot run this plan, with the reason; or for an unknown name.
    """
    if backend not in ("auto", "compiled", "batched"):
        raise ConfigError(f'backend must be "auto", "compiled" or "batched", got {backend!r}')
    if backend != "batched":
        obstacle = why_not_compiled(plan)
        if obstacle is None:
            return _compiled(plan, state), "compiled"
        if backend == "compiled":
            raise ConfigError(f'backend="compiled" cannot run this: {obstacle}. Use "batched" or "auto"')
    from landscape.engines.batched import BatchedEngine

    return BatchedEngine(plan, state), "batched"


def _compiled(plan: Plan, state: State) -> Engine:
    if isinstance(plan.potential, Expression):
        from landscape.engines.compiled_formula import CompiledFormula

        return CompiledFormula(plan, state)
    from landscape.engines.compiled_mlp import CompiledMLP

    return CompiledMLP(plan, state)


def why_not_compiled(plan: Plan) -> str | None:
    """Why the compiled backend cannot run a plan, None if it can."""
    from landscape.engines.compiled import scheme_of

    potential, rule = plan.potential, plan.integrator
    if plan.device.type != "cpu":
        return f"it runs on the CPU, not on {plan.device}"
    if plan.bias is not None:
        return "hills of Metadynamics are looked up by torch"
    if plan.walls.levels:
        return "walls at the level of a function (Absorb with above or below) are met by torch"
    if scheme_of(rule) is None:
        return f"it does not have the integrator {type(rule).__name__} with this noise or this clipping"
    if isinstance(rule.thermal_noise, ColoredNoise) and plan.scheduled:
        return "it does not have colored noise under a schedule"
    if isinstance(potential, Expression):
        return _obstacle_of_formula(plan, potential)
    if isinstance(potential, NetworkLoss):
        return _obstacle_of_network(plan, potential)
    return f"it needs a formula or a plain MLP, not a {type(potential).__name__}"


def _obstacle_of_formula(plan: Plan, formula: Expression) -> str | None:
    from landscape.engines.compiled_formula import uncoupled

    noise = plan.integrator.thermal_noise
    if plan.restraints is not None and not plan.restraints.symbolic:
        return "the restrained coordinate is a callable, not a formula"
    mobility = getattr(plan.integrator, "mobility", None)
    if mobility is not None and callable(mobility.matrix):
        return "the mobility is a callable, not a formula"
    if mobility is not None and plan.walls.absorbs and not mobility.of(formula).diagonal:
        return "it has no absorbing walls beside a mobility that couples coordinates"
    if plan.dtype != torch.float64:
        return f"formulas are compiled in float64, not {plan.dtype}"
    if plan.integrator.thermal and isinstance(noise, HessianNoise):
        if noise.negative == "raise":
            return 'it cannot stop at a negative curvature (HessianNoise(negative="raise"))'
        if not uncoupled(formula, noise):
            return "the Hessian that shapes the noise is not diagonal"
    return None


def _obstacle_of_network(plan: Plan, loss: NetworkLoss) -> str | None:
    if plan.restraints is not None:
        return "networks are compiled without restraints"
    if plan.walls.any:
        return "networks are compiled without walls"
    if getattr(plan.integrator, "mass", None) is not None:
        return "networks are compiled with unit masses"
    if loss.plain_mlp is None:
        return "the module is not a plain MLP (Linear layers with biases and one of ReLU or tanh between them)"
    if loss.ranks > 1:
        return "it does not sum over the ranks of a process group"
    if loss.augment is not None:
        return "it does not augment minibatches"
    if plan.integrator.thermal and not isinstance(plan.integrator.thermal_noise, ThermalNoise):
        return f"networks are compiled with ThermalNoise, not {type(plan.integrator.thermal_noise).__name__}"
    return None if plan.dtype in (torch.float32, torch.float64) else f"it does not compute in {plan.dtype}"
