"""MNIST-like and SVHN files through torchvision, test-made and tiny."""

import hashlib
import struct

import numpy as np
import pytest

from landscape.errors import ConfigError, DatasetNotFound, StorageError
from landscape.potentials import datasets


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_handwritten(root, name, rows=40):
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(rows, 28, 28))
    for part, count in (("train", rows), ("t10k", rows // 2)):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[:count])
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return images


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    draw = np.random.default_rng(0)
    images = {"train": draw.integers(256, size=(32, 32, 3, 20)), "test": draw.integers(256, size=(32, 32, 3, 10))}
    for part, array in images.items():
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": array.astype(np.uint8), "y": np.arange(1, array.shape[-1] + 1)[:, None] % 10 + 1})
        checksum = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(SVHN.split_list, part, ["no address", path.name, checksum])
    return tmp_path, images


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_handwritten(tmp_path, name):
    images = write_handwritten(tmp_path, name)
    data = datasets.torchvision_dataset(name, tmp_path)
    assert data.inputs.shape == (40, 1, 28, 28) and data.evaluation_inputs.shape == (20, 1, 28, 28)
    assert (data.inputs[:, 0] * 255).round().tolist() == images.tolist()
    assert data.targets.tolist() == [i % 10 for i in range(40)] and data.name == name
    assert len(datasets.torchvision_dataset(name, tmp_path, train=False)) == 20
    part = datasets.load(tmp_path, samples=20, seed=3, standardize=True)
    assert part.name == name and part.targets.bincount().tolist() == [2] * 10
    assert datasets.from_spec(part.spec()).inputs.equal(part.inputs)


def test_a_changed_file_is_noticed(tmp_path):
    write_handwritten(tmp_path, "MNIST")
    spec = datasets.torchvision_dataset("MNIST", tmp_path, samples=10).spec()
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="sha256"):
        datasets.from_spec(spec)


def test_svhn(svhn):
    root, images = svhn
    data = datasets.torchvision_dataset("SVHN", root)
    assert data.inputs.shape == (20, 3, 32, 32) and data.evaluation_inputs.shape == (10, 3, 32, 32)
    assert (data.inputs[4, 1] * 255).round().tolist() == images["train"][:, :, 1, 4].tolist()
    assert data.targets.tolist() == [((i % 10) + 1) % 10 for i in range(1, 21)]  # label 10 is the digit 0
    assert datasets.load(root).inputs.equal(data.inputs)
    (root / "test_32x32.mat").unlink()
    assert datasets.torchvision_dataset("SVHN", root).evaluation_inputs is None


def test_an_altered_svhn_is_refused(svhn):
    path = svhn[0] / "train_32x32.mat"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        datasets.torchvision_dataset("SVHN", svhn[0])


def test_truncated_files_are_refused(tmp_path):
    write_handwritten(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StorageError, match="damaged"):
        datasets.torchvision_dataset("MNIST", tmp_path)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "SVHN", "CIFAR10", "CIFAR100"])
def test_missing(tmp_path, name):
    with pytest.raises(DatasetNotFound, match="download=True"):
        datasets.torchvision_dataset(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options"), [("ImageNet", {}), ("__file__", {}), ("MNIST", {"train": 1}), ("MNIST", {"seed": -1})]
)
def test_wrong_arguments(tmp_path, name, options):
    with pytest.raises(ConfigError, match=r"choose one of|train = 1|seed = -1"):
        datasets.torchvision_dataset(name, tmp_path, **options)


def test_more_than_one_in_a_folder(tmp_path):
    write_handwritten(tmp_path, "MNIST")
    write_handwritten(tmp_path, "KMNIST")
    with pytest.raises(ConfigError, match=r"MNIST.*KMNIST"):
        datasets.load(tmp_path)
