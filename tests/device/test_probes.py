"""Probes of a network on a device give what they give on the CPU."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import probes
from landscape.potentials import NetworkLoss, architectures
from tests.device.pretended import PretendedGPU

FREE = probes.free_energy
CALLS = {
    "mean_force": lambda loss: FREE.mean_force(loss, lambda p: p[..., 0], [0.0, 0.1], 0.1, chains=8, steps=10),
    "umbrella": lambda loss: FREE.umbrella(loss, lambda p: p[..., 0], [0.0, 0.3], 0.1, chains=8, steps=60),
    "thermodynamic_integration": lambda loss: FREE.thermodynamic_integration(
        [loss, loss], None, [0.0, 0.5, 1.0], 0.1, chains=8, steps=20
    ),
    "nonequilibrium_work": lambda loss: FREE.nonequilibrium_work(
        [loss, loss], None, 0.0, 1.0, 0.1, chains=8, steps=5, stages=3, equilibration=20
    ),
    "harmonic": lambda loss: FREE.harmonic(loss, loss.position(), 0.1),
    "local_learning_coefficient": lambda loss: FREE.local_learning_coefficient(
        loss, loss.position(), temperature=0.1, dt=0.01, steps=40, chains=8, localization=1.0
    ),
    "eigenvalues": lambda loss: probes.curvature.eigenvalues(loss, loss.position()),
    "extreme_eigenvalues": lambda loss: probes.curvature.extreme_eigenvalues(loss, loss.position()),
    "trace": lambda loss: probes.curvature.trace(loss, loss.position()),
    "along_path": lambda loss: probes.confinement.along_path(
        loss, ls.paths.straight_line(np.zeros(loss.dim), np.ones(loss.dim), pivots=3)
    ),
    "minimize": lambda loss: ls.minimize(loss, steps=20),
    "neb": lambda loss: ls.paths.neb(
        loss, np.zeros(loss.dim), np.ones(loss.dim), pivots=5, steps=5, lr=0.1
    ).to_dataset(),
}


def loss_on(device):
    draws = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(12, 3, generator=draws), torch.randint(0, 2, (12,), generator=draws)
    module = architectures.mlp((3, 2), seed=0)
    return NetworkLoss(module, inputs, targets, weight_decay=0.1, dtype=torch.float64, device=device)


@pytest.mark.always(each=True)
@pytest.mark.filterwarnings("ignore")  # of short runs, which resolve nothing
@pytest.mark.parametrize("name", CALLS)
def test_a_probe_of_a_network(name):
    here = CALLS[name](loss_on("cpu"))
    with PretendedGPU():
        there = CALLS[name](loss_on("cuda"))
    assert set(there.data_vars) == set(here.data_vars)
    for variable, values in here.data_vars.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(there[variable], values, rtol=2e-4, atol=2e-5, err_msg=str(variable))
