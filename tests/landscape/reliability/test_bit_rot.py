"""Flipped bits and lost ends: noticed and named when they are read, and never another number."""

import random
import shutil
import warnings

import pytest

import landscape as ls
from landscape.errors import CheckpointError, LandscapeError
from landscape.storage import run_reader
from tests.landscape.reliability import runs

STEPS, NAME = 60, "observers compiled"
FLIPS = 500 if runs.LONG else 16


def call(folder, **settings):
    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 600)
        return runs.recipes()[NAME](steps=STEPS, output=folder, **settings)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A complete run, and one that was stopped with two generations there."""
    home = tmp_path_factory.mktemp("rot")
    call(home / "complete")
    with pytest.MonkeyPatch.context() as patch, runs.killed_at_commit(patch, 40):
        call(home / "stopped", checkpoint_every=20)
    assert {"manifest.json", "manifest-former.json"} <= set(runs.digests(home / "stopped"))
    return home


def damage(file, chance: random.Random) -> str:
    """One bit flipped, or the file cut, or a stretch of zeros."""
    content = bytearray(file.read_bytes())
    kind = chance.choice(["flip"] * 6 + ["cut", "zeros"])
    place = chance.randrange(len(content))
    if kind == "flip":
        content[place] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[place:]
    else:
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    if bytes(content) == file.read_bytes():  # zeros upon zeros
        content[place] ^= 1
    file.write_bytes(content)
    return f"{kind} at byte {place} of {file.name}"


def read(folder):
    """(steps, bits of everything) or the refusal, and what was said on the way."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with ls.open(folder) as seen:
                result = int(seen.attrs["steps_done"]), runs.bits(seen)
        except LandscapeError as error:
            result = error
    return result, " ".join(str(one.message) for one in said)


def going_on(folder, how=None):
    """The refusal to go on, or None, and what was said on the way."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            how(folder) if how is not None else call(folder, checkpoint_every=20)
            result = None
        except LandscapeError as error:
            result = error
    return result, " ".join(str(one.message) for one in said)


def reference(folder):
    return read(folder)[0]


def test_reading_a_complete_run(folders, tmp_path):
    steps, right = reference(folders / "complete")
    chance, noticed, harmless = random.Random(1), 0, []
    files = sorted(runs.digests(folders / "complete"))
    for number in range(FLIPS):
        folder = tmp_path / "run"
        shutil.copytree(folders / "complete", folder)
        name = files[number % len(files)]
        what = damage(folder / name, chance)
        result, _ = read(folder)
        if isinstance(result, LandscapeError):
            assert name in str(result), (what, str(result))
            noticed += 1
        else:
            assert result == (steps, right), what
            harmless.append(what)
        shutil.rmtree(folder)
    assert all("checkpoint" in what for what in harmless), harmless  # which no reader needs
    assert noticed + len(harmless) == FLIPS


def test_making_a_run_longer(folders, tmp_path):
    """A complete run has one generation: what is damaged in it is named, and a run that goes on is right."""
    longer = tmp_path / "longer"
    shutil.copytree(folders / "complete", longer)
    ls.resume(longer, steps=80)
    right = runs.digests(longer)
    chance = random.Random(2)
    for name in sorted(runs.digests(folders / "complete")) * (5 if runs.LONG else 1):
        folder = tmp_path / "run"
        shutil.copytree(folders / "complete", folder)
        what = damage(folder / name, chance)
        error, _ = going_on(folder, lambda folder: ls.resume(folder, steps=80))
        if error is not None:
            assert name in str(error), (what, str(error))
        else:
            differing = runs.differing(runs.digests(folder), right)
            assert set(differing) <= {name}, (what, differing)
            if differing:
                assert name.startswith("draw"), what
                result, _ = read(folder)
                assert isinstance(result, LandscapeError) and name in str(result), what
        shutil.rmtree(folder)


def test_a_stopped_run_falls_back(folders, tmp_path, capsys):
    """Damage to what one generation alone needs costs that generation; what both need is named."""
    stopped, right = folders / "stopped", runs.digests(folders / "complete")
    newest = reference(stopped)
    former = tmp_path / "former"
    shutil.copytree(stopped, former)
    (former / "manifest.json").unlink()
    older = reference(former)
    assert (newest[0], older[0]) == (40, 20) or newest[0] > older[0]
    chance, tally = random.Random(3), {"fell back": 0, "refused": 0, "unconcerned": 0}
    files = sorted(runs.digests(stopped))
    for number in range(FLIPS):
        folder = tmp_path / "run"
        shutil.copytree(stopped, folder)
        name = files[number % len(files)]
        what = damage(folder / name, chance)
        result, said = read(folder)
        if isinstance(result, LandscapeError):
            assert name in str(result), (what, str(result))
            assert name.startswith(("draw", "snapshot")), (what, str(result))
        else:
            assert result in (newest, older), what
            assert result == newest or name in said, (what, said)
        error, said = going_on(folder)
        if error is not None:
            tally["refused"] += 1
            assert name in str(error), (what, str(error))
            assert name.startswith(("draw", "snapshot")), (what, str(error))
        else:
            tally["fell back" if name in said else "unconcerned"] += 1
            differing = runs.differing(runs.digests(folder), right)
            assert set(differing) <= {name}, (what, differing)
            if differing:
                assert name.startswith(("draw", "snapshot")), what
                result, _ = read(folder)
                assert isinstance(result, LandscapeError) and name in str(result), what
        shutil.rmtree(folder)
    assert tally["fell back"] > 0
    if runs.LONG:
        with capsys.disabled():
            print(f"\n{FLIPS} damages: {tally}")


@pytest.mark.parametrize("name", ["manifest.json", "state", "checkpoint", "draw"])
def test_missing_files_are_named(name, folders, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(folders / "complete", folder)
    file = next(file for file in sorted(folder.iterdir()) if file.name.startswith(name))
    file.unlink()
    result, _ = read(folder)
    if name != "checkpoint":
        assert isinstance(result, LandscapeError), result
        assert file.name in str(result) or name == "manifest.json"
    if name == "state":  # what a reader needs is made anew
        assert ls.resume(folder, steps=80).attrs["steps_done"] == 80
        return
    message = runs.refusal(lambda: (ls.resume(folder, steps=80), runs.bits(ls.open(folder))))
    assert file.name in message or name == "manifest.json", message


@pytest.mark.parametrize(("times", "said_each"), [(1, "a part"), (100, "a part"), (100, "part {}")])
def test_files_replaced_while_they_are_read_are_no_damage(times, said_each, folders, monkeypatch):
    """A second look finds them. Controls: what stays unreadable is said, and the former generation shown."""
    whole, failures = run_reader._assemble, []
    last = int(read(folders / "stopped")[0][0])

    def replaced(folder, manifest):
        if manifest.done == last and len(failures) < times:
            failures.append(manifest.done)
            raise CheckpointError(f"{said_each.format(len(failures))} is gone")
        return whole(folder, manifest)

    monkeypatch.setattr(run_reader, "_assemble", replaced)
    (steps, _), said = read(folders / "stopped")
    if times == 1:
        assert (steps, said) == (last, "")
    else:
        assert steps < last
        assert said == f"{said_each.format(len(failures))} is gone: showing the run as it was at step {steps}"
        assert len(failures) == (2 if said_each == "a part" else run_reader.ATTEMPTS)
