"""A task that logs its point, and then does what ``deeds.json`` beside the results says of its seed."""

import json
import os
import signal
import time
from pathlib import Path


def run_point(spec, target):
    folder, seed = Path(target).parent, json.loads(spec)["seed"]
    if not Path(target).exists():  # an engine may ask again for what is there
        with open(folder / "log", "a") as log:
            log.write(f"{seed} {os.getpid()}\n")
    match json.loads((folder / "deeds.json").read_text()).get(str(seed)):
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once":
            if not (folder / "died").exists():
                (folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            while not (folder / "go").exists():
                time.sleep(0.05)
    from landscape.workflows.points.tasks import run_point as run_in_earnest  # late: to die is cheap

    return run_in_earnest(spec, target)


def sleep(name, seconds):
    """A task that never comes to its end."""
    time.sleep(float(seconds))


def fall(name, seconds):
    """A task that its worker cannot survive."""
    os._exit(3)


def logged(folder):
    """Seeds in the order in which they began, and the processes that had them."""
    path = folder / "log"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [int(seed) for seed, _ in rows], [int(process) for _, process in rows]
