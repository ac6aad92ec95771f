"""Many chains of one network: taken together, but no more of them at once than a bounded graph holds."""

import pytest
import torch
from torch import nn

from landscape.potentials import NetworkLoss, architectures
from landscape.potentials.curvature import single_gradients as singles
from landscape.potentials.network import function as network_function
from landscape.potentials.network.graph_memory import graph_bytes

CHAINS = 7


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(samples=12, size=8, width=4, policy=None, **settings):
    targets = torch.randint(10, (samples,), generator=torch.Generator().manual_seed(1))
    if policy == "plain MLP":
        module, policy = nn.Sequential(nn.Flatten(), *architectures.mlp([3 * size**2, 6, 5, 10], seed=1)), None
    else:
        module = architectures.resnet_cifar(8, width=width, norm="group" if policy is None else "batch", seed=1)
    return NetworkLoss(
        module, draws(samples, 3, size, size), targets, dtype=torch.float64, batchnorm=policy,
        evaluation=(draws(9, 3, size, size, seed=2), targets[:9]), **settings,
    )  # fmt: skip


def around(loss, chains=CHAINS):
    return loss.position() + 0.1 * draws(chains, loss.dim, seed=3)


def everything(loss):
    at = around(loss)
    keys = loss.batch_keys(len(at), seed=4)
    energy, gradient = loss.batch_energy_and_gradient(at, step=1, keys=keys)
    found = {name: getattr(loss, name)(at) for name in ("energy", "gradient", "accuracy", "evaluation_energy")}
    if loss.batchnorm != "batch":
        found["sample_energies"] = loss.sample_energies(at)
    return found | {"batch energy": energy, "batch gradient": gradient}


@pytest.fixture
def backward_passes(monkeypatch):
    """Numbers of chains of the backward passes made."""
    made = []
    whole = NetworkLoss._one_backward_pass

    def counting(self, position, *others):
        made.append(len(position))
        return whole(self, position, *others)

    monkeypatch.setattr(NetworkLoss, "_one_backward_pass", counting)
    return made


@pytest.mark.parametrize("settings", [{"batch_size": 5}, {"batch_size": 5, "shared_batches": True}, {"chunk_size": 5}])
@pytest.mark.parametrize("policy", [None, "frozen", "batch", "reestimate", "plain MLP"])
def test_chains_in_parts_are_the_chains(policy, settings, monkeypatch, backward_passes):
    together = everything(loss_of(policy=policy, **settings))
    assert max(backward_passes) == CHAINS
    loss = loss_of(policy=policy, **settings)
    keys = loss.batch_keys(CHAINS, seed=4)
    loss.batch_energy_and_gradient(around(loss), step=0, keys=keys)
    samples = loss.batches(step=0, keys=keys)[0][0].shape[1]
    chain = loss.measured[network_function.NetworkFunction, False] * samples + 8 * loss.dim
    monkeypatch.setattr(network_function, "CPU_BYTES", 3.5 * chain)
    backward_passes.clear()
    parted = everything(loss)
    assert backward_passes[:3] == [3, 3, 1]
    for name, expected in together.items():
        torch.testing.assert_close(parted[name], expected, rtol=1e-10, atol=1e-13, msg=name)


@pytest.mark.parametrize("batch_size", [2, 8])
def test_graphs_stay_within_the_bound(batch_size, backward_passes):
    """Control: all chains together would be beyond it."""
    loss = loss_of(size=32, width=16, samples=16, batch_size=batch_size).converted(torch.float32)
    at = around(loss, chains=256).to(torch.float32)
    loss.batch_energy_and_gradient(at, step=0, keys=loss.batch_keys(256, seed=0))
    assert sum(backward_passes) == 256
    largest = max(backward_passes)
    assert 1 < largest < 256

    def held(chains):
        leaves = {name: leaf.requires_grad_(True) for name, leaf in loss.layout.stacked(at[:chains].clone()).items()}

        def forward():
            images = loss.inputs[:batch_size].clone()
            return torch.func.vmap(lambda one: loss.forward(one, images, {}))(leaves)

        return graph_bytes(forward, leaves.values())

    assert 0.5 * network_function.CPU_BYTES < held(largest) < 1.1 * network_function.CPU_BYTES
    assert held(3 * largest) > 2 * network_function.CPU_BYTES


def test_data_do_not_count():
    """Only what the graph of a few samples holds: their own pixels, not the array that they are a view of."""
    module = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    bounds = []
    for samples in (10, 10_000):
        targets = torch.zeros(samples, dtype=torch.int64)
        loss = NetworkLoss(module, draws(samples, 6), targets, batch_size=4, dtype=torch.float64)
        loss.batch_energy_and_gradient(around(loss), step=0, keys=loss.batch_keys(CHAINS, seed=0))
        bounds.append(loss.measured[network_function.NetworkFunction, False])
    assert bounds[0] == bounds[1]


def test_a_module_that_cannot_be_batched_goes_chain_by_chain(backward_passes):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2).double()

        def forward(self, inputs):
            outputs = self.layer(inputs)
            return outputs if float(outputs.detach().sum()) > 0 else 2 * outputs

    loss = NetworkLoss(Branching(), draws(4, 3), torch.tensor([0, 1, 1, 0]))
    at = around(loss)
    gradients = loss.gradient(at)
    assert backward_passes == [1] * CHAINS
    assert [torch.equal(loss.gradient(one), row) for one, row in zip(at, gradients, strict=True)] == [True] * CHAINS


def test_single_gradients_in_parts_are_the_single_gradients(monkeypatch):
    loss = loss_of()
    together = loss.sample_gradients(around(loss, chains=2))
    monkeypatch.setattr(singles, "SAMPLES_BYTES", singles.SAMPLES_BYTES // singles.samples_at_once(loss) * 5)
    assert 4 <= singles.samples_at_once(loss) <= 5
    torch.testing.assert_close(loss.sample_gradients(around(loss, chains=2)), together, rtol=1e-10, atol=1e-14)
