"""A process that ends before, inside or after any write, sync or rename: the old or the new state, never none."""

import contextlib
import errno
import os

import pytest

import landscape as ls
from landscape.storage import files as storage
from tests.landscape.reliability import runs
from tests.landscape.reliability.runs import Killed

STEPS = 60
KINDS = ("observers batched", "training of siblings compiled", "replica exchange compiled")
CALLS = ("write", "fsync", "replace", "unlink")


class Fault:
    """Counts what is done to files, and ends the process at one of them, or makes it fail.

    ``before`` the call, ``after`` it, or ``inside``: half of the bytes are in the file.
    """

    def __init__(self, patch, at: int | None = None, when: str = "before", error: OSError | None = None):
        self.count, self.at, self.when, self.error, self.log = 0, at, when, error, []
        self.dead = False
        real_open = open

        def opened(path, mode="r", *arguments, **settings):
            file = real_open(path, mode, *arguments, **settings)
            return Torn(file, self, path) if "w" in mode else file

        patch.setattr(storage, "open", opened, raising=False)
        for name in CALLS[1:]:
            patch.setattr(os, name, self.around(name, getattr(os, name)))

    def around(self, name, real):
        def call(*arguments, **settings):
            self.reached(name, arguments[0], "before")
            try:
                return None if self.dead else real(*arguments, **settings)
            finally:
                self.reached(name, arguments[0], "after", step=0)

        return call

    def reached(self, name, target, when, step=1):
        """A dead process does nothing any more, whatever is written into its `finally`."""
        if self.dead:
            return
        self.count += step
        if step:
            self.log.append((name, os.fspath(target) if not isinstance(target, int) else target))
        if self.count == self.at and when == self.when:
            if self.error is not None:
                raise self.error
            self.dead = True
            raise Killed


class Torn:
    """A file whose writes can end half way."""

    def __init__(self, file, fault, path):
        self.file, self.fault, self.path = file, fault, path

    def write(self, content):
        self.fault.reached("write", self.path, "before")
        if self.fault.dead:
            return len(content)
        if self.fault.count == self.fault.at and self.fault.when == "inside":
            self.file.write(content[: len(content) // 2])
            self.file.flush()
        self.fault.reached("write", self.path, "inside", step=0)
        written = self.file.write(content)
        self.file.flush()
        self.fault.reached("write", self.path, "after", step=0)
        return written

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


def attempt(call, folder, **fault) -> Fault:
    """The call, with a fault on the way."""
    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 600)
        faulty = Fault(patch, **fault)
        with contextlib.suppress(Killed, OSError):
            call(output=folder, steps=STEPS, checkpoint_every=20)
    return faulty


def points(call, folder) -> list:
    return attempt(call, folder).log


def state_of(folder):
    """Steps that a reader sees, with everything read; None before the first commit."""
    if not (folder / "manifest.json").exists() and not list(folder.glob("manifest*")):
        return None
    with ls.open(folder) as seen:
        return int(seen.attrs["steps_done"]), runs.bits(seen)


def finish(call, folder):
    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 600)
        return call(output=folder, steps=STEPS, checkpoint_every=20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.always
def test_a_process_that_ends_at_any_write(kind, tmp_path, capsys):
    call = runs.recipes()[kind]
    log = points(call, tmp_path / "whole")
    digests, survived = runs.digests(tmp_path / "whole"), 0
    assert {name for name, _ in log} >= {"write", "fsync", "replace"}
    committed = {}
    plan = [(at, when) for at in range(1, len(log) + 1) for when in ("before", "inside", "after")]
    plan = [(at, when) for at, when in plan if when != "inside" or log[at - 1][0] == "write"]
    for at, when in plan if runs.LONG else plan[:: max(1, len(plan) // 7)]:
        folder = tmp_path / f"{at}-{when}"
        fault = attempt(call, folder, at=at, when=when)
        assert fault.dead, (at, when)
        state = state_of(folder)
        if state is not None:
            done, seen = state
            assert committed.setdefault(done, seen) == seen, (at, when, log[at - 1])
        finish(call, folder)
        assert runs.differing(runs.digests(folder), digests) == [], (at, when, log[at - 1])
        survived += 1
    if runs.LONG:
        with capsys.disabled():
            print(f"\n{kind}: {survived} ends of a process at {len(log)} calls survived")


@pytest.mark.parametrize("kind", KINDS[:1])
def test_a_call_that_fails_at_any_write(kind, tmp_path):
    """A full disk at any of the calls: StorageError, which names the file, and the run goes on when there is room."""
    call = runs.recipes()[kind]
    log = points(call, tmp_path / "whole")
    digests = runs.digests(tmp_path / "whole")
    places = [at for at in range(1, len(log) + 1) if log[at - 1][0] in ("write", "replace")]
    for at in places if runs.LONG else places[:: max(1, len(places) // 4)]:
        folder = tmp_path / f"{at}"
        with pytest.MonkeyPatch.context() as patch:
            runs.part_bytes(patch, 600)
            Fault(patch, at=at, error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            message = runs.refusal(lambda folder=folder: call(output=folder, steps=STEPS, checkpoint_every=20))
        assert message.startswith("StorageError"), (at, log[at - 1], message)
        assert str(folder) in message and "bytes" in message and "No space left" in message, message
        assert not list(folder.glob("*.part")) and not list(folder.glob(".*.part")), (at, log[at - 1])
        finish(call, folder)
        assert runs.differing(runs.digests(folder), digests) == [], (at, log[at - 1])


def test_the_faults_are_where_they_say(tmp_path):
    """Control: a write that is not atomic is found out."""

    def careless(output, steps, checkpoint_every):
        output.mkdir(exist_ok=True)
        with storage.open(output / "manifest.json", "w") as file:
            file.write("0123456789")

    fault = attempt(careless, tmp_path / "x", at=1, when="inside")
    assert fault.dead and (tmp_path / "x" / "manifest.json").read_text() == "01234"
