"""CIFAR files: read without running anything, whoever wrote them; altered and damaged ones are refused."""

import hashlib
import os
import pickle
import random
import struct

import numpy as np
import pytest
import torch

from landscape.errors import ConfigError, DatasetNotFound, LandscapeError, StorageError
from landscape.potentials import datasets
from landscape.potentials.datasets import cifar
from landscape.potentials.datasets.pickled import read_pickled


def batch(rows, classes, seed, *, key=str, labels="labels"):
    draw = np.random.default_rng(seed)
    images = draw.integers(256, size=(rows, 3072), dtype=np.uint8)
    numbers = [int(label) for label in np.arange(rows) % classes]
    return {
        key("data"): images,
        key(labels): numbers,
        key("coarse_labels"): [number // 5 for number in numbers],
        key("filenames"): [f"{i}.png" for i in range(rows)],
    }


def as_bytes(text):
    return text.encode()


@pytest.fixture
def ten(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        write(folder / f"data_batch_{number}", batch(20, 10, number))
    write(folder / "test_batch", batch(10, 10, 6))
    write(folder / "batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    return tmp_path


@pytest.fixture
def hundred(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    write(folder / "train", batch(200, 100, 1, labels="fine_labels"))
    write(folder / "test", batch(100, 100, 2, labels="fine_labels"))
    write(folder / "meta", {"fine_label_names": [str(i) for i in range(100)], "coarse_label_names": list("ab")})
    return tmp_path


def write(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol=protocol))


# -- what is read -----------------------------------------------------------------------------------------------------


def test_cifar10(ten):
    data = datasets.cifar10(ten)
    assert data.inputs.shape == (100, 3, 32, 32) and data.evaluation_inputs.shape == (10, 3, 32, 32)
    assert data.inputs.dtype == torch.float32 and data.classes == 10 and data.class_names[3] == "class 3"
    for number in range(5):
        expected = batch(20, 10, number + 1)
        part = slice(20 * number, 20 * number + 20)
        assert (data.inputs[part] * 255).round().numpy().reshape(20, -1).astype(np.uint8).tolist() == expected[
            "data"
        ].tolist()
        assert data.targets[part].tolist() == expected["labels"]
    red = batch(20, 10, 1)["data"][0, :1024].reshape(32, 32)
    assert data.inputs[0, 0].mul(255).round().tolist() == red.tolist()
    alone = datasets.cifar10(ten, train=False)
    assert alone.inputs.equal(data.evaluation_inputs) and alone.evaluation_inputs is None


def test_cifar100_with_fine_and_coarse_labels(hundred):
    fine, coarse = datasets.cifar100(hundred), datasets.cifar100(hundred, coarse=True)
    assert fine.classes == 100 and fine.targets.tolist() == [i % 100 for i in range(200)]
    assert coarse.classes == 20 and coarse.targets.tolist() == [i % 100 // 5 for i in range(200)]
    assert fine.class_names[7] == "7" and coarse.class_names is None  # two names for twenty classes are no names
    assert fine.inputs.equal(coarse.inputs)


def test_the_folder_itself_and_load(ten, hundred):
    inner = datasets.cifar10(ten / "cifar-10-batches-py")
    assert inner.inputs.equal(datasets.cifar10(ten).inputs)
    assert datasets.load(ten / "cifar-10-batches-py", samples=10).targets.bincount().tolist() == [1] * 10
    assert datasets.load(str(hundred / "cifar-100-python"), coarse=True).classes == 20
    with pytest.raises(ConfigError, match="more than one"):
        datasets.load(ten)  # both fixtures share a folder


def test_samples_are_balanced_and_seeded(ten):
    data = datasets.cifar10(ten, samples=30, seed=1)
    assert data.targets.bincount().tolist() == [3] * 10
    assert data.inputs.equal(datasets.cifar10(ten, samples=30, seed=1).inputs)
    assert not data.inputs.equal(datasets.cifar10(ten, samples=30, seed=2).inputs)
    with pytest.raises(ConfigError, match="has 10"):
        datasets.cifar10(ten, samples=101)


def test_made_again_from_the_description(ten):
    data = datasets.cifar10(ten, samples=30, seed=1, standardize=True)
    spec = data.spec()
    assert datasets.from_spec(spec).inputs.equal(data.inputs)
    changed = batch(20, 10, 1)
    changed["data"][3, 5] ^= 1
    write(ten / "cifar-10-batches-py" / "data_batch_1", changed)
    with pytest.raises(StorageError, match="sha256"):
        datasets.from_spec(spec)
    spec.pop("sha256")
    datasets.from_spec(spec)


# -- the reader of pickles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("key", [str, as_bytes])
def test_every_protocol_is_read(protocol, key):
    value = batch(3, 3, 0, key=key) | {key("x"): (1.5, None, True, False, -(2**70), b"\x00\xff", "\u00e9")}
    read = read_pickled(pickle.dumps(value, protocol=protocol), "here")
    assert set(read) == set(value)
    for name, expected in value.items():
        if isinstance(expected, np.ndarray):
            assert read[name].dtype == expected.dtype and (read[name] == expected).all()
        else:
            assert read[name] == expected


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "<f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_numbers_of_every_kind(dtype, order, protocol):
    array = np.array(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    read = read_pickled(pickle.dumps({"a": array, "again": array}, protocol=protocol), "here")
    assert read["a"].tolist() == array.tolist() and read["again"].tolist() == array.tolist()
    assert read_pickled(pickle.dumps(array, protocol=protocol), "here").tolist() == array.tolist()


def test_numpy_numbers_in_lists():
    labels = list(np.arange(4))
    assert read_pickled(pickle.dumps({"labels": labels}), "here")["labels"] == [0, 1, 2, 3]


def test_a_file_as_python_2_wrote_it():
    pixels = bytes(range(256)) * 12
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
        b"U\x01b\x87Rq\x05(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", 3072) + pixels + b"tb"
        b"U\x06labelsq\x08]q\x09(K\x06K\x09eu."
    )
    read = read_pickled(content, "here")
    assert read["data"].tolist() == [list(pixels)] and read["labels"] == [6, 9]


class Evil:
    """Leaves a mark when it is unpickled the usual way."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class Evaluated(Evil):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({str(self.mark)!r})",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Evil, Evaluated])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_code_in_a_file_does_not_run(ten, tmp_path, protocol, kind, name):
    mark = tmp_path / "mark"
    content = pickle.dumps(batch(20, 10, 3) | {"extra": kind(mark)}, protocol=protocol)
    pickle.loads(content)  # noqa: S301  # control: the usual reader does run it
    assert mark.is_dir()
    mark.rmdir()
    (ten / "cifar-10-batches-py" / name).write_bytes(content)
    for attempt in (datasets.cifar10, datasets.load):
        with pytest.raises(StorageError, match=rf"{name} asks to run"):
            attempt(ten)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02cbuiltins\nobject\n)\x81.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        b"cnumpy.core.multiarray\n__loader__\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"Pname\n.",
        b"\x80\x02K\x00Q.",
        b"\x80\x02\x82\x01.",
        b"]K\x01b.",
        b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n(S'V100'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n.",
        b"]\x94K\x01K\x02s.",
        b"}K\x01a.",
        b"}]K\x01s.",
        b"(K\x01d.",
        b"K\x01K\x02.",
        b".",
        b"0.",
        b"h\x05.",
        b"t.",
        b"R.",
        b"",
        b"\x80\x04",
        b"not a pickle",
    ],
)
def test_other_instructions_are_refused(content):
    with pytest.raises(StorageError, match="here"):
        read_pickled(content, "here")


def test_an_array_larger_than_its_content_is_refused():
    good = pickle.dumps(np.zeros(4, dtype=np.uint8), protocol=2)
    assert good.count(b"K\x04") == 1
    with pytest.raises(StorageError, match="damaged"):
        read_pickled(good.replace(b"K\x04", b"K\x05"), "here")


def test_damaged_pickles_give_nothing_but_landscape_errors():
    draw = random.Random(0)
    good = pickle.dumps(batch(1, 10, 0), protocol=2)
    head = len(good) - 3200  # flips in pixels are not interesting
    refused = 0
    for _ in range(1500):
        content = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(200) if draw.random() < 0.7 else draw.randrange(head, len(good))
            content[place] ^= 1 << draw.randrange(8)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content)) :]
        try:
            read_pickled(bytes(content), "here")
        except LandscapeError:
            refused += 1
    assert refused > 500


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
def test_missing_files(ten, name):
    (ten / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(DatasetNotFound, match=f"cifar-10-batches-py/{name}.*download=True"):
        datasets.cifar10(ten)
    assert not list(ten.rglob(name))


def test_nothing_there(tmp_path):
    for reader in (datasets.cifar10, datasets.cifar100):
        with pytest.raises(DatasetNotFound, match="download=True"):
            reader(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((20, 3071), dtype=np.uint8)}, "'data'"),
        ({"data": np.zeros((20, 3072), dtype=np.float32)}, "'data'"),
        ({"data": np.zeros((2, 10, 3072), dtype=np.uint8)}, "'data'"),
        ({"data": "text"}, "'data'"),
        ({"labels": [0] * 19}, "'labels'"),
        ({"labels": [0.5] * 20}, "'labels'"),
        ({"labels": [[0], [1, 2]]}, "'labels'"),
        ({"labels": None}, "'labels'"),
        ({"labels": [10] * 20}, "from 0 to 9"),
        ({"labels": [-1] * 20}, "from 0 to 9"),
        ({"data": np.zeros((0, 3072), dtype=np.uint8), "labels": []}, "'labels'"),
    ],
)
def test_files_of_another_content(ten, change, message):
    write(ten / "cifar-10-batches-py" / "data_batch_4", batch(20, 10, 4) | change)
    with pytest.raises(StorageError, match=f"data_batch_4.*{message}"):
        datasets.cifar10(ten)


def test_not_a_dict_and_truncated(ten):
    path = ten / "cifar-10-batches-py" / "data_batch_4"
    write(path, [1, 2])
    with pytest.raises(StorageError, match="data_batch_4"):
        datasets.cifar10(ten)
    write(path, batch(20, 10, 4))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StorageError, match="data_batch_4 is damaged"):
        datasets.cifar10(ten)


def test_an_altered_original_is_refused(ten):
    # as many images as the published file, but not its checksum
    write(ten / "cifar-10-batches-py" / "test_batch", batch(10_000, 10, 0))
    with pytest.raises(StorageError, match="test_batch differs from the published file"):
        datasets.cifar10(ten, train=False)
    assert len(datasets.cifar10(ten, train=False, verify=False)) == 10_000
    with pytest.raises(StorageError, match="data_batch_1 differs"):
        datasets.cifar10(ten, verify=True)


def test_a_file_with_the_published_checksum_is_accepted(ten, monkeypatch):
    folder = ten / "cifar-10-batches-py"
    sums = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(cifar, "_checksums", lambda layout: sums)
    assert len(datasets.cifar10(ten, verify=True)) == 100
    monkeypatch.setitem(sums, "data_batch_5", "0" * 32)
    with pytest.raises(StorageError, match="data_batch_5 differs"):
        datasets.cifar10(ten, verify=True)


def test_published_checksums_cover_every_file():
    for layout in (cifar._CIFAR10, cifar._CIFAR100):
        sums = cifar._checksums(layout)
        assert set(sums) == set(layout.files) and all(len(value) == 32 for value in sums.values())


def test_download_happens_only_when_asked_for(ten, tmp_path, monkeypatch):
    import torchvision.datasets.utils as utils

    asked = []
    monkeypatch.setattr(utils, "download_and_extract_archive", lambda url, root, **_: asked.append((url, root)))
    datasets.cifar10(ten, download=True)  # all there
    with pytest.raises(DatasetNotFound):
        datasets.cifar100(tmp_path / "empty")
    assert asked == []
    with pytest.raises(DatasetNotFound):
        datasets.cifar100(tmp_path / "empty", download=True)
    assert len(asked) == 1 and "cifar-100" in asked[0][0]

    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(utils, "download_and_extract_archive", fail)
    with pytest.raises(StorageError, match="no network"):
        datasets.cifar100(tmp_path / "empty", download=True)


@pytest.mark.parametrize("options", [{"train": "yes"}, {"seed": -2}, {"samples": 0}, {"samples": 2.5}])
def test_wrong_arguments(ten, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        datasets.cifar10(ten, **options)
