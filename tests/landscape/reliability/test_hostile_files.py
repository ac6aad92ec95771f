"""Files made to do harm: refused, named, and no code of theirs runs."""

import hashlib
import json
import os
import pickle
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import landscape as ls
from landscape.errors import LandscapeError
from landscape.potentials import toys
from tests.landscape.reliability import runs


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def make(folder, steps=40):
    return ls.simulate(
        toys.Quadratic([1.0, 2.0]), ls.BAOAB(0.1, friction=1.0), temperature=0.5, chains=3, steps=steps, output=folder,
        record=ls.Record(7),
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "run"
    make(folder)
    return folder


@pytest.fixture
def victim(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def checkpoint_of(folder):
    return next(folder.glob("checkpoint-*"))


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def seal(folder, content) -> None:
    """Write a manifest whose own checksum is right, whatever it says: found by trying the ways to write JSON."""
    good = manifest_of(folder)
    (key,) = set(good) - {"content"}
    for settings in (
        {"sort_keys": True}, {}, {"sort_keys": True, "separators": (",", ":")}, {"separators": (",", ":")},
        {"sort_keys": True, "indent": 1}, {"indent": 1},
    ):  # fmt: skip
        if hashlib.sha256(json.dumps(good["content"], **settings).encode()).hexdigest() == good[key]:
            text = json.dumps(content, **settings)
            sealed = {**good, "content": content, key: hashlib.sha256(text.encode()).hexdigest()}
            (folder / "manifest.json").write_text(json.dumps(sealed, sort_keys=True, indent=1))
            return
    raise AssertionError("how the manifest is sealed has changed")


def replace_checkpoint(folder, content: bytes) -> None:
    """Another checkpoint, with the right size and checksum in the manifest."""
    file = checkpoint_of(folder)
    file.write_bytes(content)
    table = manifest_of(folder)["content"]
    table["checkpoint"] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal(folder, table)


def refused(folder, *words):
    message = runs.refusal(lambda: runs.bits(ls.resume(folder, steps=60)))
    assert all(word in message for word in words), message
    return message


def test_the_seal_is_right(victim):
    """Control: a manifest written anew is taken, and so is a checkpoint."""
    seal(victim, manifest_of(victim)["content"])
    replace_checkpoint(victim, checkpoint_of(victim).read_bytes())
    assert ls.resume(victim, steps=60).attrs["steps_done"] == 60


@pytest.mark.parametrize("sealed", [False, True])
def test_a_pickle_under_the_name_of_the_checkpoint(sealed, victim, tmp_path):
    content = pickle.dumps(Harm(tmp_path / "harm"))
    if sealed:
        replace_checkpoint(victim, content)
    else:
        checkpoint_of(victim).write_bytes(content)
    refused(victim, "CheckpointError", "checkpoint-40.safetensors")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 100_000_001) + b"{" * 1000,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 60) + b'{"x":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8]}}'[:60] + bytes(8),
        b"",
    ],
)
def test_headers_that_lie(content, victim):
    replace_checkpoint(victim, content)
    refused(victim, "CheckpointError", "checkpoint-40.safetensors")


@pytest.mark.parametrize("change", ["shape", "dtype", "missing", "more", "not finite"])
def test_tensors_that_do_not_fit(change, victim, tmp_path):
    tensors = load_file(checkpoint_of(victim))
    name = next(key for key, value in sorted(tensors.items()) if value.dtype == np.float64 and value.ndim == 2)
    match change:
        case "shape":
            tensors[name] = np.zeros((5, 7))
        case "dtype":
            tensors[name] = np.zeros(tensors[name].shape, dtype=np.int32)
        case "missing":
            del tensors[name]
        case "more":
            tensors["intruder"] = np.zeros(3)
        case "not finite":
            tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, tmp_path / "made")
    replace_checkpoint(victim, (tmp_path / "made").read_bytes())
    if change == "more":  # not wrong, and not used either
        try:
            ls.resume(victim, steps=60)
        except LandscapeError:
            return
        assert "intruder" not in ls.open(victim)
    else:
        message = runs.refusal(lambda: runs.bits(ls.resume(victim, steps=60)))
        assert message.startswith(("CheckpointError", "ShapeError", "NonFiniteError")), message


@pytest.mark.parametrize("where", ["checkpoint", "state", "draw"])
@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_paths_that_lead_out_of_the_folder(form, where, victim, tmp_path):
    table = manifest_of(victim)["content"]
    entry = table[where] if where != "draw" else table["series"]["draw"][0]
    outside = tmp_path / "outside"
    shutil.copy(victim / entry["name"], outside)
    entry["name"] = "../outside" if form == "relative" else str(outside)
    seal(victim, table)
    message = runs.refusal(lambda: (runs.bits(ls.open(victim)), ls.resume(victim, steps=60)))
    assert "CheckpointError" in message and "outside" in message, message


def test_a_link_in_place_of_a_file_overwrites_nothing(victim, tmp_path):
    """What is written takes the place of a link and leaves alone what it points to."""
    (tmp_path / "precious").write_text("precious")
    (victim / "checkpoint-60.safetensors").symlink_to(tmp_path / "precious")
    ls.resume(victim, steps=60)
    assert (tmp_path / "precious").read_text() == "precious"


CODE = [
    "__import__('os').mkdir('{}')", "open('{}', 'w')", "x1.__class__", "exec('import os')", "(lambda: 1)()",
    "x1; import os",
]  # fmt: skip


@pytest.mark.parametrize("text", CODE)
def test_expressions_that_are_code(text, victim, tmp_path):
    table = manifest_of(victim)["content"]
    table["spec"]["potential"] = {
        "kind": "Expression", "energy": text.format(tmp_path / "harm"), "coordinates": ["x1", "x2"],
    }  # fmt: skip
    seal(victim, table)
    message = refused(victim)
    assert message.startswith(("FormulaError", "CheckpointError", "ConfigError")), message
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["os:system", "builtins:exec", "pickle:loads"])
def test_objects_are_not_imported_by_name(name, victim):
    table = manifest_of(victim)["content"]
    table["spec"]["potential"] = {"kind": "python", "name": name, "sha256": "0" * 64}
    seal(victim, table)
    message = refused(victim, "potential")
    assert message.startswith(("ConfigError", "CheckpointError")), message


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'{"content": {}}', b"[" * 100_000, b'{"content": {"steps": 1e999}}', b"\xff\xfe",
        b'{"a": ' * 50_000, b'"' + b"9" * 100_000,
    ],
)  # fmt: skip
def test_manifests_that_are_something_else(content, victim):
    (victim / "manifest.json").write_bytes(content)
    message = runs.refusal(lambda: ls.open(victim))
    assert message.startswith(("CheckpointError", "StorageError")) and "manifest.json" in message, message
    refused(victim, "manifest.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("done", -1), ("done", "many"), ("done", 10**30), ("series", []), ("series", {"draw": [{"name": "x"}]}),
        ("numbers", {}), ("spec", []), ("format", 99), ("checkpoint", None), ("state", {"name": 3}), ("backend", "gpu"),
    ],
)  # fmt: skip
def test_sealed_manifests_that_make_no_sense(key, value, victim):
    table = manifest_of(victim)["content"]
    table[key] = value
    seal(victim, table)
    message = runs.refusal(lambda: (runs.bits(ls.open(victim)), ls.resume(victim, steps=60)))
    assert message.startswith(("CheckpointError", "ConfigError", "StorageError")), message
