"""What tests have done in a process of its own: ``python -m tests.landscape.reliability.deeds DEED ARGUMENTS``."""

import importlib
import json
import os
import random
import signal
import sys
import time
import tomllib
from pathlib import Path

import landscape as ls
from tests.landscape.reliability import runs


def finish(table: str) -> None:
    """Go on with runs, a table of name to folder; what goes wrong is written beside the table."""
    file, recipes, wrong = Path(table), runs.recipes(), {}
    for name, folder in json.loads(file.read_text()).items():
        try:
            recipes[name](output=folder, checkpoint_every=runs.STEPS)
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
    file.with_suffix(".wrong").write_text(json.dumps(wrong))


def resume(table: str) -> None:
    """Make runs longer, a table of folder to number of steps."""
    for folder, steps in json.loads(Path(table).read_text()).items():
        ls.resume(folder, steps=steps)


def storm(config: str, folder: str, kills: str, every: str) -> None:
    """Start the command line again and again, and kill it; then let it end. Prints the steps found after each kill."""
    importlib.import_module("landscape.storage.run_folder").PART_BYTES = 2**16
    importlib.import_module("landscape.dynamics.simulate").PART_BYTES = 2**16
    command_line = importlib.import_module("landscape.cli.app").run
    ls.run({**tomllib.loads(Path(config).read_text()), "steps": 10})  # so that children find everything loaded
    command = ["simulate", config, "-o", folder, "--checkpoint-every", every]
    manifest, chance, found = Path(folder) / "manifest.json", random.Random(8), []
    while len(found) < int(kills):
        child = _started(command_line, command)
        if len(found) % 4:  # else at any time, before the first commit too
            _wait_for_a_commit(manifest, child)
        time.sleep(chance.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break  # it was done already
        if manifest.exists():
            with ls.open(folder) as so_far:
                found.append(int(so_far.attrs["steps_done"]))
                if so_far.sizes.get("draw", 0) != found[-1] // 10:
                    raise RuntimeError(f"{dict(so_far.sizes)} at step {found[-1]}")
        else:
            found.append(0)
    child = _started(command_line, [*command[:-1], str(100 * int(every))])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps({"code": code, "found": found}))


def _started(command_line, command) -> int:
    """A child that has everything imported."""
    child = os.fork()
    if child:
        return child
    os._exit(command_line(command))


def _wait_for_a_commit(manifest: Path, child: int) -> None:
    def stamp():
        return manifest.stat().st_mtime_ns if manifest.exists() else 0

    before = stamp()
    while stamp() == before and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)


if __name__ == "__main__":
    {"finish": finish, "resume": resume, "storm": storm}[sys.argv[1]](*sys.argv[2:])
