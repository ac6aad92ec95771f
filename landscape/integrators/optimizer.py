"""Any optimizer of torch, or of a library built on it, as dynamics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.checks import one_of
from landscape.common.arguments import guarded_class
from landscape.common.per_chain import per_chain
from landscape.common.schedules import Schedule, as_schedule
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_positive
from landscape.integrators.optimizer_state import NotPlainError, numbers_of, restore, state_bytes
from landscape.potentials.base import Potential
from landscape.potentials.network.modes import kept_modes

__all__ = ["Optimizer"]

Batches = list[tuple[Tensor, Tensor]]
STATE = "optimizer_state"
_HOOKED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@guarded_class
@dataclass(frozen=True, slots=True, eq=False, init=False)
class Optimizer(Integrator):
    """Steps of a torch.optim.Optimizer, one instance per chain; its noise is that of the minibatches.

    Parameters
    ----------
    factory : class or callable, or the name of a class of torch.optim
        Called as ``factory(parameters, lr=lr, **settings)`` for every chain: with a list of parameters in the module's
        shapes (tied weights once), or with one of shape ``(dim,)`` where the landscape is not a network; and once on
        trial before a run.
    lr : float, one per chain, or a schedule
        Learning rate. Parameter groups at rates of their own keep their ratio to it.
    of : {"parameters", "module"}
        What the factory is called with. "module" is for optimizers that hook the layers of a module, such as K-FAC: a
        copy of the network runs forward and backward on the minibatch, with the loss averaged over it.
    settings : mapping, optional
        Further settings of the factory; they may be given as keyword arguments as well.
    base_lr : float or one per chain, optional
        The rate that the factory is called with, by default `lr`, or a schedule's value at time 0 (its largest one
        where that is 0). Every group follows `lr` from there: its rate is lr / base_lr times that which the factory
        gave it, as under ``torch.optim.lr_scheduler.LambdaLR``.

    Raises
    ------
    ConfigError
        For what is no optimizer, and for settings that the factory does not take.

    Notes
    -----
    With ``of="parameters"`` a step is ``optimizer.step(closure)``, and the closure evaluates loss and gradient on the
    minibatch of the step as often as it is called (LBFGS). With ``of="module"`` it is one forward and backward pass,
    then ``optimizer.step()``.

    The state of a chain is ``optimizer.state_dict()``. Made of tensors and numbers it is kept as bytes,
    ``last_optimizer_state (chain, optimizer_state_byte)``, and a run with ``state="keep"`` continues to the same bits;
    an optimizer whose state is anything else can neither be continued nor replayed, and says so. A reflecting boundary
    folds the position and leaves the state as it is. A matrix factorisation that fails counts as divergence.
    Optimizers that draw random numbers draw them from (seed, chain, step).

    References
    ----------
    Martens, Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature", ICML 2015;
    Gupta, Koren, Singer, "Shampoo: preconditioned stochastic tensor optimization", ICML 2018.

    Examples
    --------
    >>> import landscape as ls
    >>> import torch
    >>> bowl = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(bowl, ls.Optimizer(torch.optim.SGD, lr=0.5, momentum=0.5), start=[1.0], steps=3)
    >>> run.position.values.ravel()  # as SGD: the step is 0.5 (gradient + 0.5 last direction)
    array([ 0.5 ,  0.  , -0.25])
    """

    factory: Callable[..., torch.optim.Optimizer]
    lr: PerChain | Schedule
    of: Literal["parameters", "module"]
    settings: Mapping[str, Any]
    base_lr: PerChain | None

    def __init__(
        self,
        factory: Callable[..., torch.optim.Optimizer] | str,
        *,
        lr: PerChain | Schedule,
        of: Literal["parameters", "module"] = "parameters",
        settings: Mapping[str, Any] | None = None,
        base_lr: PerChain | None = None,
        **more: Any,
    ) -> None:
        one_of("of", of, ("parameters", "module"))
        check_positive("lr", lr)
        if base_lr is not None:
            check_positive("base_lr", base_lr)
        values = {"factory": _checked(factory), "lr": lr, "of": of, "settings": {**(settings or {}), **more}}
        for name, value in {**values, "base_lr": base_lr}.items():
            object.__setattr__(self, name, value)

    opaque_memory: ClassVar[bool] = True
    may_rest: ClassVar[bool] = True

    @property
    def step_size(self) -> PerChain | Schedule:
        """`lr`."""
        return self.lr

    def scaled(self, factor: float) -> Optimizer:
        """The same optimizer, all of its groups at so many times their rates."""
        base = self.lr if self.base_lr is None else self.base_lr
        rule: Any = Integrator.scaled(self, factor)
        return replace(rule, base_lr=base)  # type: ignore[no-any-return]

    def check(self, potential: Potential) -> None:
        """Make an optimizer on trial.

        Raises
        ------
        ConfigError
        """
        if self.of == "module" and potential.layout is None:
            raise ConfigError(
                f'of="module" needs the module of a NetworkLoss, and a {type(potential).__name__} has none: '
                'use of="parameters"'
            )
        start = potential.default_start()
        with _random_numbers(start.device) as draw_from:
            draw_from((0,))
            groups = self._make(start, potential, 1e-3).optimizer.param_groups
        own = potential.weight_decay
        other = max((float(group.get("weight_decay") or 0.0) for group in groups), default=0.0)
        if own and other:
            raise ConfigError(
                f"weight decay stands twice: {own:g} in the loss and {other:g} in {_name(self.factory)}; keep one"
            )

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """No bytes yet: optimizers make their state at the first step."""
        return {STATE: position.new_empty((len(position), 0), dtype=torch.uint8)}

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """One step of every chain's optimizer, chain by chain: no chain sees how many there are."""
        if "optimizers" not in at.cache:
            at.cache["optimizers"] = self._begin(position, memory[STATE], at)
        chains: list[_Chain] = at.cache["optimizers"]
        if as_schedule("lr", self.lr) is not None:
            for chain, rate in zip(chains, at.dt[:, 0].tolist(), strict=True):
                chain.set_rate(rate)
        potential = at.potential
        batches = potential.batches(step=at.step, keys=at.keys)
        rows = []
        with _random_numbers(position.device) as draw_from:
            for number, (chain, row) in enumerate(zip(chains, position, strict=True)):
                draw_from((at.seed, number, at.step))
                own = [(x[number % len(x)], y[number % len(y)]) for x, y in batches]
                chain.place(row, potential)
                try:
                    with kept_modes():
                        chain.step(potential, own, at)
                    rows.append(chain.position())
                except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                    rows.append(torch.full_like(row, torch.nan))
        return torch.stack(rows)

    def settle(self, memory: Memory, cache: dict[str, Any]) -> None:
        """Write the optimizers' states to memory; no bytes where one cannot be written down."""
        if "optimizers" not in cache:
            return
        device = memory[STATE].device
        try:
            rows = [state_bytes(chain.optimizer, chain.settings, device) for chain in cache["optimizers"]]
        except NotPlainError:
            rows = [torch.empty(0, dtype=torch.uint8, device=device) for _ in cache["optimizers"]]
        memory[STATE] = nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def __repr__(self) -> str:
        """The call that makes it, with the name of a class of torch.optim."""
        given = self.arguments()
        factory = given.pop("factory")
        told = ", ".join(f"{key}={value!r}" for key, value in given.items() if value is not None)
        return f"Optimizer({factory!r}, {told})" if isinstance(factory, str) else f"Optimizer({_name(factory)}, {told})"

    def arguments(self) -> dict[str, Any]:
        """What it was given; a class of torch.optim by its name."""
        known = getattr(torch.optim, _name(self.factory), None) is self.factory
        of = None if self.of == "parameters" else self.of
        given = {"factory": _name(self.factory) if known else self.factory, "lr": self.lr, "of": of}
        return given | {"settings": dict(self.settings), "base_lr": self.base_lr}

    def _begin(self, position: Tensor, states: Tensor, at: StepContext) -> list[_Chain]:
        """Every chain's optimizer, in the state that the memory holds."""
        if at.step and not states.shape[1]:
            raise ConfigError(
                f"the state of {_name(self.factory)} is not made of tensors and numbers alone, so it was not kept, and "
                f'step {at.step} cannot follow from it: use state="fresh", or one run without interruption'
            )
        count = len(position)
        schedule = as_schedule("lr", self.lr)
        rates = at.dt[:, 0].double().numpy(force=True) if schedule is not None else per_chain("lr", self.lr, count)
        bases = self._bases(rates, count)
        with _random_numbers(position.device) as draw_from:
            chains = []
            for number, (row, base, rate) in enumerate(zip(position, bases.tolist(), rates.tolist(), strict=True)):
                draw_from((at.seed, number))
                chains.append(self._make(row, at.potential, base))
                if rate != base:
                    chains[-1].set_rate(rate)
        if states.shape[1]:
            for chain, state in zip(chains, states, strict=True):
                restore(chain.optimizer, state)
        return chains

    def _bases(self, rates: NDArray[np.float64], chains: int) -> NDArray[np.float64]:
        """What the factory is called with, ``(chains,)``: the same wherever in a run it is called."""
        schedule = as_schedule("lr", self.lr)
        if self.base_lr is not None or schedule is None:
            return rates if self.base_lr is None else per_chain("base_lr", self.base_lr, chains)
        first = schedule.at(np.zeros((1, chains)), chains, step=np.zeros(1))[0]
        largest = np.max([np.broadcast_to(level, chains) for level in schedule.levels()] or [rates], axis=0)
        bases: NDArray[np.float64] = np.where(first > 0, first, largest)
        return bases

    def _make(self, position: Tensor, potential: Any, rate: float) -> _Chain:
        """A chain of its own module or parameters."""
        module = None
        if self.of == "module":
            module = potential.dynamics_module()
            for layer in module.modules():
                if isinstance(layer, _HOOKED):  # they do the same in either mode, but hooks may heed training only
                    layer.train()
            named: dict[str, Any] = dict(module.named_parameters())
            parameters = [named[slot.name] for slot in potential.layout]
        else:
            parameters = [nn.Parameter(part.clone()) for part in potential.parts(position.detach())]
        name = _name(self.factory)
        try:
            optimizer = self.factory(module or parameters, lr=rate, **self.settings)
        except TypeError as error:
            raise ConfigError(f"{name} does not take these settings: {error}") from error
        except ValueError as error:
            raise ConfigError(f"{name} refuses its settings: {error}") from error
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(f"{name} gave a {type(optimizer).__name__}; expected a torch.optim.Optimizer")
        return _Chain(optimizer, parameters, module, numbers_of(optimizer), _ratios(optimizer, rate))


@dataclass(slots=True, eq=False)
class _Chain:
    """An optimizer and what it moves.

    Attributes
    ----------
    module : the chain's own copy of the network, or None where the optimizer takes parameters
    settings : numbers in the parameter groups, as they were set
    ratios : the groups' rates in units of that which the factory was called with
    """

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    module: nn.Module | None
    settings: list[dict[str, Any]]
    ratios: list[float]

    def position(self) -> Tensor:
        """The parameters as one vector."""
        return torch.cat([_as_real(parameter.detach()).reshape(-1) for parameter in self.parameters])

    def place(self, position: Tensor, potential: Potential) -> None:
        """Set the parameters."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, potential.parts(position), strict=True):
                _as_real(parameter).copy_(value)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate, of which groups keep their ratio."""
        for group, settings, ratio in zip(self.optimizer.param_groups, self.settings, self.ratios, strict=True):
            group["lr"] = settings["lr"] = ratio * rate

    def step(self, potential: Potential, batches: Batches, at: StepContext) -> None:
        """One step on this chain's minibatch."""
        if self.module is not None:
            self._run_module(potential, batches)
            self.optimizer.step()
            return

        def closure() -> Tensor:
            energy, gradient = _slope(potential, self.position(), batches, at)
            for parameter, part in zip(self.parameters, potential.parts(gradient), strict=True):
                parameter.grad = part.clone()
            return energy

        self.optimizer.step(closure)  # type: ignore[arg-type]  # annotated to return a float, and used as a tensor

    def _run_module(self, loss: Any, batches: Batches) -> None:
        """Forward and backward, with the mean loss of the minibatch; hooks see one pass per chunk of it."""
        module: Any = self.module
        self.optimizer.zero_grad()
        total = sum(len(x) for x, _ in batches)
        with torch.enable_grad():
            for x, y in batches:
                mean = loss.losses_of(loss.run(module, x), x, y).mean()
                (mean * (len(x) / total)).backward()
            if loss.weight_decay:
                squares = torch.stack([parameter.square().sum() for parameter in self.parameters])
                (0.5 * loss.weight_decay * squares.sum()).backward()


def _slope(potential: Any, position: Tensor, batches: Batches, at: StepContext) -> tuple[Tensor, Tensor]:
    """Energy and gradient of one chain on its minibatch."""
    one = position[None]
    if batches:
        energy, gradient = potential.energy_and_gradient_on([(x[None], y[None]) for x, y in batches], one)
    else:
        energy, gradient = at.energy(one), potential.step_gradient(one, step=at.step, keys=at.keys)
    return energy[0], gradient[0]


def _ratios(optimizer: torch.optim.Optimizer, rate: float) -> list[float]:
    return [float(group.get("lr", rate)) / rate for group in optimizer.param_groups]


def _as_real(parameter: Tensor) -> Tensor:
    """A complex parameter of a module as pairs of real numbers, as they lie in the vector."""
    return torch.view_as_real(parameter) if parameter.is_complex() else parameter


@contextmanager
def _random_numbers(device: torch.device) -> Iterator[Callable[[tuple[int, ...]], None]]:
    """Torch's random numbers drawn from given keys for a while, and left as they were found."""
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []

    def draw_from(key: tuple[int, ...]) -> None:
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)

    with torch.random.fork_rng(cuda):
        yield draw_from


def _checked(factory: Any) -> Callable[..., torch.optim.Optimizer]:
    found: Any = getattr(torch.optim, factory, None) if isinstance(factory, str) else factory
    wrong_class = isinstance(found, type) and not issubclass(found, torch.optim.Optimizer)
    if not callable(found) or wrong_class:
        hint = ": give its class, and its settings by name" if isinstance(factory, torch.optim.Optimizer) else ""
        raise ConfigError(
            "expected a class such as torch.optim.RMSprop, the name of one of torch.optim, or a callable that makes an "
            f"optimizer, got {factory!r}{hint}"
        )
    return found  # type: ignore[no-any-return]


def _name(factory: Any) -> str:
    return getattr(factory, "__qualname__", type(factory).__name__)
