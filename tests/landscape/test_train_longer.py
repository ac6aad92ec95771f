"""More epochs for a finished training, to the bits of one long training; dropout is named."""

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import CheckpointError, ConfigError
from landscape.potentials import NetworkLoss
from landscape.potentials.architectures import mlp


def network():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator)
    return NetworkLoss(mlp([4, 6, 3], seed=0), x, torch.arange(30) % 3, batch_size=8)


SETTINGS = [
    {},
    {"schedule": {0: 1.0, 2: 0.5}},
    {"siblings": 2, "split_epoch": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_training_made_longer_is_one_long_training(settings, tmp_path):
    rule = ls.SGD(lr=0.1, momentum=0.9)
    whole = ls.train(network(), rule, epochs=6, **settings)
    ls.train(network(), rule, epochs=3, output=tmp_path / "run", **settings)
    longer = ls.train(network(), rule, epochs=6, output=tmp_path / "run", **settings)
    np.testing.assert_array_equal(longer.last_position, whole.last_position)
    np.testing.assert_array_equal(longer.energy, whole.energy)
    np.testing.assert_array_equal(longer.time, whole.time)
    longest = ls.resume(tmp_path / "run", epochs=8, potential=network())
    np.testing.assert_array_equal(longest.energy[:, :6], whole.energy)
    assert longest.sizes["draw"] == 8
    expected = ls.train(network(), rule, epochs=8, **settings)
    np.testing.assert_array_equal(longest.last_position, expected.last_position)


def test_another_training_is_still_refused(tmp_path):
    ls.train(network(), ls.SGD(lr=0.1), epochs=3, output=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"lr was 0\.1"):
        ls.train(network(), ls.SGD(lr=0.2), epochs=6, output=tmp_path / "run")
    with pytest.raises(CheckpointError, match="another training"):
        ls.train(network(), ls.SGD(lr=0.1), epochs=2, output=tmp_path / "run")
    with pytest.raises(CheckpointError, match="another training"):
        ls.train(network(), ls.SGD(lr=0.1), epochs=6, schedule={0: 1.0, 2: 0.5}, output=tmp_path / "run")
    with pytest.raises(ConfigError, match="epochs=TOTAL"):
        ls.resume(tmp_path / "run", steps=10)
    with pytest.raises(CheckpointError, match="epochs is the total"):
        ls.resume(tmp_path / "run", epochs=2, potential=network())


def test_dropout_is_named_once():
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match=r"1 \(Dropout\)") as told:
        ls.train(NetworkLoss(module, x, torch.arange(8) % 2), ls.SGD(lr=0.1), epochs=2, schedule={0: 1.0, 1: 0.5})
    assert len(told) == 1
    ls.train(
        NetworkLoss(nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.0)), x, torch.arange(8) % 2), ls.SGD(lr=0.1), epochs=1
    )
