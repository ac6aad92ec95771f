"""Walls on the weights of a network, by the names of its parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.boundaries.constraints import resolve_walls
from landscape.errors import ConfigError

RULE = ls.EulerMaruyama(dt=0.05)


def loss(hidden: int = 3, dtype: torch.dtype = torch.float64) -> ls.potentials.NetworkLoss:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2)).to(dtype)
    return ls.potentials.NetworkLoss(module, torch.randn(20, 4, dtype=dtype), torch.randint(0, 2, (20,)))


def slots(network):
    return {slot.name: slice(slot.offset, slot.offset + slot.size) for slot in network.layout}


@pytest.mark.parametrize(("given", "held"), [
    ("0.weight", ["0.weight"]), ("*.bias", ["0.bias", "2.bias"]), ("0.*", ["0.weight", "0.bias"]),
])  # fmt: skip
@pytest.mark.parametrize("hidden", [3, 40])  # few coordinates, which are folded one by one, and many
def test_reflecting_walls_hold_all_entries_of_a_name(given, held, hidden):
    network = loss(hidden)
    start = network.position().clamp(-0.3, 0.3)
    run = ls.simulate(network, RULE, temperature=0.5, start=start, steps=50, chains=2, seed=1,
                      constraint=ls.Reflect({given: (-0.4, 0.5)}), record=ls.Record(10, ["position"]))  # fmt: skip
    free = ls.simulate(network, RULE, temperature=0.5, start=start, steps=50, chains=2, seed=1,
                       record=ls.Record(10, ["position"]), backend="batched")  # fmt: skip
    for name, part in slots(network).items():
        inside = (run.position.values[..., part] >= -0.4) & (run.position.values[..., part] <= 0.5)
        assert bool(inside.all()) == (name in held), name
        assert not (
            (free.position.values[..., part] >= -0.4) & (free.position.values[..., part] <= 0.5)
        ).all()  # the control
    assert run.attrs["backend"] == "batched"


def test_many_coordinates_fold_to_the_bits_of_few():
    """Open sides, mirrors and periods together, in both precisions, against one coordinate at a time."""
    network = loss(40)
    walls = resolve_walls(network, [
        ls.Reflect({"0.weight": (-0.4, 0.5), "0.bias": (None, 0.3), "2.bias": (-0.1, None)}),
        ls.Periodic({"2.weight": (-1.0, 0.7)}),
    ])  # fmt: skip
    for dtype in (torch.float32, torch.float64):
        x = 2.0 * torch.randn(5, network.dim, dtype=dtype)
        folded, mirrored = walls.apply(x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("landscape.boundaries.walls.FEW", network.dim)
            one_by_one = walls.apply(x)
        assert torch.equal(folded, one_by_one[0]) and torch.equal(mirrored, one_by_one[1])
        assert not torch.equal(folded, x)  # the control


def test_free_weights_fill_the_box_evenly():
    """Brownian motion between mirrors: uniform, <x^2> = 1/3."""
    network = loss()
    run = ls.simulate(network, ls.Diffusion(dt=0.05), temperature=1.0, start=torch.zeros(network.dim), steps=300,
                      chains=400, seed=1, constraint=ls.Reflect({"*": (-1.0, 1.0)}),
                      record=ls.Record(100, ["position"]))  # fmt: skip
    last = run.position.values[:, 1:].reshape(-1)
    error = np.sqrt((1 / 5 - 1 / 9) / last.size)  # of x^2 of independent uniform numbers
    assert abs((last**2).mean() - 1 / 3) / error < 4.5
    assert abs((last**2).mean() - 1 / 3 * 1.05) / error > 4.5  # the control


def test_absorbing_walls_name_the_entry_and_a_run_goes_on():
    network, ends = loss(), ls.Absorb({"0.bias": (-0.6, 0.6)})
    settings = {"temperature": 1.0, "chains": 10, "constraint": ends, "record": ls.Record(10, ["position"]), "seed": 1}
    whole = ls.simulate(network, ls.Diffusion(dt=0.01), start=torch.zeros(network.dim), steps=40, **settings)
    names = set(whole.exit_coordinate.values[whole.exit_side.values != 0])
    assert names and all(name.startswith("0.bias[") for name in names)
    for chain in np.flatnonzero(whole.exit_side):
        d = network.coordinate_index(str(whole.exit_coordinate.values[chain]))
        assert abs(whole.last_position.values[chain, d]) == 0.6
    half = ls.simulate(network, ls.Diffusion(dt=0.01), start=torch.zeros(network.dim), steps=20, **settings)
    again = ls.simulate(network, ls.Diffusion(dt=0.01), start=half, state="keep", steps=20, **settings)
    assert (again.exit_coordinate.values == whole.exit_coordinate.values).all()
    assert (again.last_position.values == whole.last_position.values).all()


def test_weights_on_a_circle():
    network = loss()
    run = ls.simulate(network, ls.Diffusion(dt=0.5), temperature=1.0, steps=20, chains=4, seed=1,
                      constraint=ls.Periodic({"0.bias": (-1.0, 1.0)}),
                      record=ls.Record(1, ["position", "unwrapped"]))  # fmt: skip
    part = slots(network)["0.bias"]
    assert (abs(run.position.values[..., part]) <= 1.0).all() and (abs(run.unwrapped.values[..., part]) > 1.0).any()
    turns = (run.unwrapped - run.position).values[..., part] / 2.0
    assert np.allclose(turns, turns.round(), atol=1e-12)


def test_one_entry():
    network = loss()
    walls = resolve_walls(network, ls.Reflect({"0.weight[1, 2]": (-1.0, None)}))
    (d,) = np.flatnonzero(walls.kinds)
    assert (
        network.coordinate_name(int(d)) == "0.weight[1, 2]"
        and network.position()[d] == network.module.get_parameter("0.weight")[1, 2]
    )


@pytest.mark.parametrize(("given", "said"), [
    ({"0.wieght": (-1, 1)}, "Did you mean '0.weight'"), ({"9.*": (-1, 1)}, "0.weight, 0.bias, 2.weight, 2.bias"),
    ({"0.weight[9, 9]": (-1, 1)}, r"no entry '0.weight\[9, 9\]'"), ({"0.weight": (1, -1)}, "low < high"),
    ({"0.weight": (-1, 1), "0.*": (-2, 2)}, "two constraints on the same side"), ([1], "must map names"),
    ({"0.weight": (-0.001, 0.001)}, "beyond the wall"),
])  # fmt: skip
def test_what_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        ls.simulate(loss(), RULE, temperature=0.1, steps=2, constraint=ls.Reflect(given))
