"""Folders of images and archives of them: what is read, how little is decoded, what is refused."""

import io
import os
import random
import shutil
import stat
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from landscape.errors import ConfigError, DatasetNotFound, StorageError
from landscape.potentials import datasets
from landscape.potentials.datasets import members, pictures, pixels, tapes

CLASSES = ("ant", "bee", "cow")
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")


def picture(label, number, side=4):
    array = np.random.default_rng([label, number]).integers(256, size=(side, side, 3), dtype=np.uint8)
    array[0, 0, 0] = 10 * label  # the label can be read from the pixels
    return array


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def tree(splits=("train", "test"), each=6, side=4):
    """Path -> content of a small data set."""
    return {
        f"{split}/{name}/{number}.png": png(picture(label, number + 100 * s, side))
        for s, split in enumerate(splits)
        for label, name in enumerate(CLASSES)
        for number in range(each)
    }


def write_folder(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_archive(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    else:
        mode = {".tar": "w", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
        with tarfile.open(path, mode) as archive:
            for name, content in files.items():
                archive.addfile(member(name, len(content)), io.BytesIO(content))
    return path


def member(name, size=0, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def labels_in_pixels(data):
    return [round(value * 25.5) for value in data.inputs[:, 0, 0, 0].tolist()]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set", tree())


@pytest.fixture
def decoded(monkeypatch):
    """Counts the images that are decoded."""
    calls = []

    def counting(content, **options):
        calls.append(content)
        return pixels.decode(content, **options)

    monkeypatch.setattr(pictures, "decode", counting)
    return calls


# -- what is read -----------------------------------------------------------------------------------------------------


def test_folder(folder):
    data = datasets.image_folder(folder)
    assert data.inputs.shape == (18, 3, 4, 4) and data.evaluation_inputs.shape == (18, 3, 4, 4)
    assert data.inputs.dtype == torch.float32 and data.classes == 3 and data.class_names == CLASSES
    assert data.name == "set" and data.skipped == ()
    assert labels_in_pixels(data) == data.targets.tolist()
    expected = {(label, number): picture(label, number) for label in range(3) for number in range(6)}
    found = (data.inputs * 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in expected.values())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("top", ["", "./", "some/top/"])
def test_an_archive_gives_the_same_as_the_folder(folder, tmp_path, suffix, top):
    files = list(tree().items())
    random.Random(0).shuffle(files)  # the order in the archive has no influence
    path = write_archive(tmp_path / f"set{suffix}", {top + name: content for name, content in files})
    before = sorted(tmp_path.rglob("*"))
    for options in ({}, {"samples": 7, "seed": 3, "size": 2}):
        data, reference = datasets.load(path, **options), datasets.image_folder(folder, **options)
        assert data.inputs.equal(reference.inputs) and data.targets.equal(reference.targets)
        assert data.evaluation_inputs.equal(reference.evaluation_inputs)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked
    assert data.name == "set"


def test_archives_too_large_to_hold_are_read_twice(folder, tmp_path, monkeypatch):
    path = write_archive(tmp_path / "set.tar.xz", tree())
    monkeypatch.setattr(tapes, "_HELD", 500)
    assert datasets.load(path).inputs.equal(datasets.load(folder).inputs)


def test_other_files_and_hidden_ones_are_passed_over(folder, tmp_path):
    extra = {
        "train/readme.txt": b"text",
        "train/ant/labels.csv": b"1,2",
        "train/ant/._1.png": b"junk",
        "__MACOSX/train/ant/1.png": b"junk",
        ".cache/ant/1.png": b"junk",
        "logo.png": png(picture(0, 0)),
    }
    reference = datasets.image_folder(folder)
    write_folder(folder, extra)
    assert datasets.image_folder(folder).inputs.equal(reference.inputs)
    for suffix in (".zip", ".tar.gz"):
        archive = write_archive(tmp_path / f"more{suffix}", tree() | extra)
        assert datasets.image_folder(archive).inputs.equal(reference.inputs)


@pytest.mark.parametrize(
    ("splits", "used"), [(("train", "val"), True), (("Training", "VALIDATION"), True), (("train", "extra"), False)]
)
def test_names_of_splits(tmp_path, splits, used):
    data = datasets.image_folder(write_folder(tmp_path, tree(splits)))
    assert len(data) == 18 and (data.evaluation_inputs is not None) is used


def test_test_goes_before_val(tmp_path):
    data = datasets.image_folder(write_folder(tmp_path / "a", tree(("train", "val", "test"))))
    files = {k: v for k, v in tree(("train", "val", "test")).items() if not k.startswith("val")}
    assert data.evaluation_inputs.equal(datasets.image_folder(write_folder(tmp_path / "b", files)).evaluation_inputs)


def test_classes_without_splits_and_folders_below_classes(tmp_path):
    flat = {name.removeprefix("train/"): content for name, content in tree(("train",)).items()}
    data = datasets.image_folder(write_folder(tmp_path / "flat", flat))
    assert len(data) == 18 and data.class_names == CLASSES and data.evaluation_inputs is None
    nested = {name.replace("/", "/images/") if "bee" in name else name: c for name, c in flat.items()}
    assert datasets.image_folder(write_folder(tmp_path / "nested", nested)).inputs.shape == (18, 3, 4, 4)
    trains = {name.replace("bee", "train"): content for name, content in flat.items()}
    assert "train" in datasets.image_folder(write_folder(tmp_path / "trains", trains)).class_names


@pytest.mark.parametrize(
    ("classes", "names"), [(2, ("ant", "bee")), (["cow", "ant"], ("cow", "ant")), (("bee",), ("bee",)), (None, CLASSES)]
)
def test_some_classes(folder, classes, names):
    data = datasets.image_folder(folder, classes=classes)
    assert data.class_names == names and len(data) == 6 * len(names) == len(data.evaluation_inputs)
    assert [CLASSES[i] for i in labels_in_pixels(data)] == [names[i] for i in data.targets.tolist()]


@pytest.mark.parametrize("form", ["jpeg", "png", "bmp", "gif", "ppm"])
def test_formats(tmp_path, form):
    grey = np.full((8, 8, 3), 128, dtype=np.uint8)
    (tmp_path / "only").mkdir()
    Image.fromarray(grey).save(tmp_path / "only" / f"1.{form}")
    data = datasets.image_folder(tmp_path)
    torch.testing.assert_close(data.inputs, torch.full((1, 3, 8, 8), 128 / 255), atol=2 / 255, rtol=0)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_modes_become_colour_or_grey(tmp_path, mode):
    (tmp_path / "only").mkdir()
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8)).convert(mode).save(tmp_path / "only" / f"1.{suffix}")
    assert datasets.image_folder(tmp_path).inputs.shape == (1, 3, 8, 8)
    grey = datasets.image_folder(tmp_path, grayscale=True).inputs
    torch.testing.assert_close(grey, torch.ones(1, 1, 8, 8), atol=0.01, rtol=0)


# -- size and grey levels ---------------------------------------------------------------------------------------------


def only(tmp_path, array):
    return write_folder(tmp_path, {"only/1.png": png(array)})


@pytest.mark.parametrize(("side", "size"), [(8, 8), (8, 4), (8, 2), (9, 3), (6, 1)])
def test_size_averages_exactly(tmp_path, side, size):
    array = picture(1, 2, side)
    result = datasets.image_folder(only(tmp_path, array), size=size).inputs[0].double()
    factor = side // size
    for c in range(3):
        for i in range(size):
            for j in range(size):
                block = array[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor, c]
                assert abs(result[c, i, j].item() - block.mean() / 255) < 1e-6


def test_size_cuts_the_centred_square(tmp_path):
    array = picture(1, 2, 8)[:, 2:6]  # 8 high, 4 wide
    result = datasets.image_folder(only(tmp_path, array), size=4).inputs[0]
    assert (result * 255).round().permute(1, 2, 0).tolist() == array[2:6].tolist()


def test_other_ratios_are_antialiased(tmp_path):
    stripes = np.zeros((48, 48, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # finer than the new pixels can show
    result = datasets.image_folder(only(tmp_path, stripes), size=20).inputs
    assert result.shape == (1, 3, 20, 20) and (result - 0.5).abs().max() < 0.2
    ramp = np.repeat(np.arange(48, dtype=np.uint8)[None, :, None] * 5, 48, axis=0).repeat(3, axis=2)
    smooth = datasets.image_folder(only(tmp_path, ramp), size=20).inputs[0, 0, 10]
    middle = (np.arange(20) + 0.5) * 2.4 - 0.5
    assert np.abs(smooth.numpy() - 5 * middle / 255)[1:-1].max() < 0.01


def test_grayscale_weights(tmp_path):
    array = np.zeros((1, 3, 3), dtype=np.uint8)
    array[0, range(3), range(3)] = 200
    result = datasets.image_folder(only(tmp_path, array), grayscale=True).inputs.flatten()
    torch.testing.assert_close(result, torch.tensor([0.299, 0.587, 0.114]) * 200 / 255, atol=0.6 / 255, rtol=0)


def test_images_of_different_shapes_need_a_size(folder):
    (folder / "train" / "bee" / "9.png").write_bytes(png(picture(1, 9, 6)))
    with pytest.raises(ConfigError, match="pass size="):
        datasets.image_folder(folder)
    assert datasets.image_folder(folder, size=2).inputs.shape == (19, 3, 2, 2)


def test_what_does_not_fit_into_memory_is_refused(folder, monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(pictures.psutil, "virtual_memory", Memory)
    with pytest.raises(ConfigError, match="smaller size= or samples="):
        datasets.image_folder(folder)


# -- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["folder", ".zip", ".tar", ".tar.xz"])
def test_samples_are_balanced_and_no_more_are_decoded(folder, tmp_path, decoded, source):
    path = folder if source == "folder" else write_archive(tmp_path / f"set{source}", tree())
    data = datasets.image_folder(path, samples=8, evaluation_samples=3, seed=1)
    assert len(decoded) == 11
    assert data.targets.bincount().tolist() == [3, 3, 2]
    assert data.evaluation_targets.bincount().tolist() == [1, 1, 1]
    assert labels_in_pixels(data) == data.targets.tolist()
    assert datasets.image_folder(path, samples=8, evaluation_samples=0).evaluation_inputs is None


def test_choice_and_order_follow_the_seed(folder):
    state = torch.get_rng_state(), random.getstate()
    first = datasets.image_folder(folder, samples=9, seed=1)
    assert torch.get_rng_state().equal(state[0]) and random.getstate() == state[1]
    assert first.inputs.equal(datasets.image_folder(folder, samples=9, seed=1).inputs)
    assert not first.inputs.equal(datasets.image_folder(folder, samples=9, seed=2).inputs)
    assert len({image.tobytes() for image in first.inputs.numpy()}) == 9
    everything = datasets.image_folder(folder).targets.tolist()
    assert everything != sorted(everything)  # not class after class


def test_every_image_is_equally_likely(tmp_path):
    path = write_archive(tmp_path / "set.zip", tree(("train",), each=4))
    trials, hits = 300, {}
    for seed in range(trials):
        for image in datasets.image_folder(path, samples=3, seed=seed).inputs.numpy():
            hits[image.tobytes()] = hits.get(image.tobytes(), 0) + 1
    assert len(hits) == 12
    assert max(abs(n - trials / 4) for n in hits.values()) / (trials * 3 / 16) ** 0.5 < 4.5


def test_made_again_from_the_description(folder, tmp_path):
    path = write_archive(tmp_path / "set.tar.gz", tree())
    data = datasets.load(path, size=2, samples=9, seed=4, classes=["cow", "ant"], standardize=True).subset(5)
    spec = data.spec()
    assert spec["kind"] == "image_folder" and spec["path"] == str(path)
    again = datasets.from_spec(spec)
    assert again.inputs.equal(data.inputs) and again.spec() == spec
    other = tree()
    other["train/cow/0.png"] = png(picture(2, 77))
    write_archive(path, other)
    changed = [datasets.load(path, classes=["cow"]), datasets.load(folder, classes=["cow"])]
    assert not changed[0].inputs.equal(changed[1].inputs)
    full = changed[1].spec() | {"path": str(path)}
    with pytest.raises(StorageError, match="sha256"):
        datasets.from_spec(full)


def test_standardize(folder):
    data = datasets.image_folder(folder, standardize=True)
    torch.testing.assert_close(data.inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    plain = datasets.image_folder(folder)
    view = (-1, 1, 1)
    expected = (plain.evaluation_inputs - data.mean.view(view)) / data.deviation.view(view)
    torch.testing.assert_close(data.evaluation_inputs, expected)


def test_progress_goes_to_the_error_stream(folder, capsys):
    datasets.image_folder(folder, progress=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "Reading set" in captured.err
    datasets.image_folder(folder)
    assert capsys.readouterr().err == ""


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size = 0"),
        ({"grayscale": 1}, "grayscale = 1"),
        ({"skip_damaged": None}, "skip_damaged = None"),
        ({"samples": 0}, "samples = 0"),
        ({"samples": 19}, "class 'ant', which has 6"),
        ({"evaluation_samples": -1}, "evaluation_samples = -1"),
        ({"classes": 4}, "classes = 4"),
        ({"classes": "ant"}, "one name"),
        ({"classes": ["ant", "yak"]}, "yak"),
        ({"classes": ["ant", "ant"]}, "different"),
        ({"classes": []}, "different"),
        ({"seed": "x"}, "seed = 'x'"),
    ],
)
def test_wrong_arguments(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        datasets.image_folder(folder, **options)


def test_unknown_options_are_named(folder):
    with pytest.raises(ConfigError, match="no option 'sizes'"):
        datasets.load(folder, sizes=3)


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetNotFound, match="nothing at"):
        datasets.load(tmp_path / "missing.tar.xz")
    for path in (tmp_path, write_archive(tmp_path / "empty.tar.gz", {}), write_archive(tmp_path / "empty.zip", {})):
        with pytest.raises(DatasetNotFound, match="train/<class>/<image>"):
            datasets.load(path)
    with pytest.raises(DatasetNotFound, match="3 images, none for training"):
        datasets.load(write_folder(tmp_path / "flat", {f"{i}.png": png(picture(0, i)) for i in range(3)}))
    with pytest.raises(DatasetNotFound, match="none for training"):
        datasets.load(write_folder(tmp_path / "held", tree(("test",))))


def test_classes_without_training_images(folder):
    write_folder(folder, {"test/yak/1.png": png(picture(0, 0))})
    with pytest.raises(StorageError, match="yak"):
        datasets.load(folder)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4 not a zip", b"\x1f\x8b not gzip", b"\xfd7zXZ\0 not xz"])
def test_files_that_are_no_archives(tmp_path, content):
    path = tmp_path / "set.tar"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"set\.tar"):
        datasets.load(path)


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "huge", "deep", "html"])
def test_damaged_images_are_named_counted_or_skipped(folder, tmp_path, kind):
    good = png(picture(1, 2, 16))
    bad = {
        "empty": b"",
        "text": b"this is not an image",
        "truncated": good[:-60],
        "huge": huge_png(),
        "deep": deep_png(),
        "html": b"<html>404</html>",
    }[kind]
    for name in ("train/bee/2.png", "test/cow/1.png"):
        (folder / name).write_bytes(bad)
    archive = write_archive(
        tmp_path / "set.tar.xz", {p.relative_to(folder).as_posix(): p.read_bytes() for p in files(folder)}
    )
    for path in (folder, archive):
        with pytest.raises(StorageError, match=r"2 of 36 images .* test/cow/1\.png .*skip_damaged=True"):
            datasets.load(path)
        data = datasets.load(path, skip_damaged=True)
        assert len(data) == 17 == len(data.evaluation_inputs)
        assert data.skipped == ("test/cow/1.png", "train/bee/2.png")
        assert labels_in_pixels(data) == data.targets.tolist()
        assert datasets.from_spec(data.spec()).inputs.equal(data.inputs)


def files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def huge_png():
    """A header that announces 2^30 x 2^30 pixels."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def deep_png():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(buffer, "png")
    return buffer.getvalue()


def test_all_damaged(tmp_path):
    with pytest.raises(StorageError, match="1 of 1 images"):
        datasets.load(write_folder(tmp_path, {"only/1.png": b"no"}), skip_damaged=True)


def test_many_pixels_are_refused_before_they_are_decoded(folder, monkeypatch):
    monkeypatch.setattr(pixels, "_LARGEST", 15)
    with pytest.raises(StorageError, match="more than 15"):
        datasets.load(folder)


def test_formats_that_run_interpreters_are_not_tried(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    with pytest.raises(StorageError, match="cannot be decoded"):
        datasets.load(write_folder(tmp_path, {"only/1.png": eps}))


# -- hostile and damaged archives -------------------------------------------------------------------------------------

HOSTILE = ["../../outside/1.png", "/etc/1.png", "train/../../x/1.png", "C:/x/1.png", "train\\ant\\1.png", "../note.txt"]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.xz"])
@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_point_outside(tmp_path, suffix, name):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    path = write_archive(inside / f"set{suffix}", tree(each=1) | {name: b"x"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match="points outside"):
        datasets.load(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar(tmp_path, kind):
    secret = write_folder(tmp_path, {"secret.png": png(picture(0, 0))}) / "secret.png"
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in tree(each=1).items():
            archive.addfile(member(name, len(content)), io.BytesIO(content))
        archive.addfile(member("train/ant/7.png", kind=kind, link=str(secret)))
    with pytest.raises(StorageError, match=r"train/ant/7\.png .* is a link"):
        datasets.load(path)


def test_links_in_a_zip(tmp_path):
    path = write_archive(tmp_path / "set.zip", tree(each=1))
    info = zipfile.ZipInfo("train/ant/7.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(StorageError, match="is a link"):
        datasets.load(path)


def test_links_of_the_user_are_followed_without_going_round(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    os.symlink(folder / "train", linked / "train")
    os.symlink(linked, linked / "round")
    assert datasets.load(linked).inputs.equal(datasets.load(folder).inputs)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_large_members(tmp_path, monkeypatch, suffix):
    path = write_archive(tmp_path / f"set{suffix}", tree() | {"train/ant/7.png": bytes(5000)})
    folder = write_folder(tmp_path / "set", {"train/ant/7.png": bytes(5000)})
    monkeypatch.setattr(members, "LARGEST_MEMBER", 4999)
    for source in (path, folder):
        with pytest.raises(StorageError, match=r"7\.png .*more than 4999 bytes"):
            datasets.load(source)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz", ".tar.bz2"])
@pytest.mark.parametrize("name", ["train/ant/7.png", "filler.bin"])
def test_bombs(tmp_path, monkeypatch, suffix, name):
    # small on disk, large unpacked, whether as an image or as something that is passed over
    path = write_archive(tmp_path / f"set{suffix}", tree(each=1) | {name: bytes(2**22)})
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(tapes, "_ALWAYS_FINE", 2**20)
    if suffix == ".zip" and name == "filler.bin":
        assert len(datasets.load(path)) == 3  # never unpacked
    else:
        with pytest.raises(StorageError, match="unpacks to more than"):
            datasets.load(path)


def test_a_header_that_asks_for_gigabytes(tmp_path):
    path = tmp_path / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member("train/ant/1.png", 3), io.BytesIO(b"abc"))
        huge = member("pax", 2**40, tarfile.XHDTYPE)
        archive.fileobj.write(huge.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(StorageError, match="header of"):
        datasets.load(path)


def test_members_of_equal_name(tmp_path):
    for suffix in (".tar", ".zip"):
        path = write_archive(tmp_path / f"set{suffix}", tree(each=1))
        if suffix == ".tar":
            with tarfile.open(path, "a") as archive:
                archive.addfile(member("train/ant/0.png", 1), io.BytesIO(b"x"))
        else:
            with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("train/ant/0.png", b"x")
        with pytest.raises(StorageError, match=r"two members 'train/ant/0\.png'"):
            datasets.load(path)


def test_encrypted_zip(tmp_path):
    path = write_archive(tmp_path / "set.zip", tree(each=1))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"set\.zip cannot be read"):
        datasets.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_archives(tmp_path, suffix):
    path = write_archive(tmp_path / f"set{suffix}", tree(each=2))
    content = path.read_bytes()
    cuts = {1, 300, len(content) // 3, len(content) // 2, len(content) - 10}
    if suffix == ".tar":
        cuts = {512, 1024, len(content) // 3, len(content) // 2 // 512 * 512}  # whole blocks as well
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(StorageError, match="set"):
            datasets.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bits_are_found_or_without_effect(tmp_path, suffix):
    path = write_archive(tmp_path / f"set{suffix}", tree(each=2))
    reference = datasets.load(path)
    content = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(120):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            data = datasets.load(path)
        except (StorageError, DatasetNotFound):
            refused += 1
        else:
            assert data.inputs.equal(reference.inputs) and data.evaluation_inputs.equal(reference.evaluation_inputs)
            assert data.targets.equal(reference.targets)
    assert refused > 20


def test_unreadable_file(folder, monkeypatch):
    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(folder), "read_bytes", fail)
    with pytest.raises(StorageError, match="Permission denied"):
        datasets.load(folder)


def test_a_file_that_vanishes(folder, monkeypatch):
    real = members.FolderMembers.names

    def names(self):
        found = real(self)
        shutil.rmtree(folder / "train" / "cow")
        return found

    monkeypatch.setattr(members.FolderMembers, "names", names)
    with pytest.raises(StorageError, match="cow"):
        datasets.load(folder)
