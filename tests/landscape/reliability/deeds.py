"""What tests have done in a process of its own: ``python -m tests.landscape.reliability.deeds DEED ARGUMENTS``."""

import json
import sys
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


if __name__ == "__main__":
    {"finish": finish, "resume": resume}[sys.argv[1]](*sys.argv[2:])
