"""Which cases the ordinary run takes: of a test that would last, as many as fit into half a second.

A law over every integrator, backend and step is worth its minutes, but not at every run. `tests/durations.csv` says how
long one case of a test function lasts, for functions that take longer in all than ``SECONDS_OF_A_TEST``: of these the
ordinary run takes as many cases as fit, at least one unless that lasts longer than ``SECONDS_OF_A_CASE``.
Everything runs with ``LANDSCAPE_LONG_TESTS=1`` (``make long``), and wherever tests are chosen by name (``::`` or -k);
every case of what is not marked ``long`` with ``--every-case``.

The mark ``long`` keeps a test out of the ordinary run, the mark ``always`` keeps at least one of its cases in it,
``always(each=True)`` all of them, where none stands for the others.
"""

import csv
import os
from collections import defaultdict
from pathlib import Path

LONG = os.environ.get("LANDSCAPE_LONG_TESTS") == "1"
SECONDS_OF_A_TEST = 0.5
SECONDS_OF_A_CASE = 1.0
RECORD = Path(__file__).with_name("durations.csv")
GOLDEN = 0.6180339887498949


def function_of(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def recorded() -> dict[str, float]:
    """Seconds of one case, by test function."""
    with RECORD.open(newline="") as file:
        return {row["test"]: float(row["seconds"]) for row in csv.DictReader(file)}


def how_many(seconds: float, *, always: bool = False) -> int:
    """Cases of a test that the ordinary run takes, one of which lasts these seconds."""
    return 0 if seconds > SECONDS_OF_A_CASE and not always else max(1, int(SECONDS_OF_A_TEST / seconds))


def spread(cases: int, kept: int) -> set[int]:
    """Places of the cases that are kept: far from one another, and in step with no parameter."""
    return set(sorted(range(cases), key=lambda i: (0.5 + i * GOLDEN) % 1)[:kept])


def choose(config, items) -> None:
    """Leave out of the items, in place, what the ordinary run leaves to the long one."""
    by_name = bool(config.option.keyword) or any("::" in argument for argument in config.args)
    if LONG or by_name:
        return
    every_case = config.getoption("--every-case")
    seconds = recorded()
    cases = defaultdict(list)
    for item in items:
        if not item.get_closest_marker("long"):
            cases[function_of(item.nodeid)].append(item)
    kept = set()
    for name, of_one in cases.items():
        always = of_one[0].get_closest_marker("always")
        each = every_case or name not in seconds or (always is not None and always.kwargs.get("each", False))
        number = len(of_one) if each else how_many(seconds[name], always=always is not None)
        kept.update(of_one[place] for place in spread(len(of_one), number))
    left_out = [item for item in items if item not in kept]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item in kept]


class Stopwatch:
    """Keeps what every case took, and writes the record of the functions that last."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self, session) -> None:
        cases = defaultdict(list)
        for nodeid, seconds in self.seconds.items():
            cases[function_of(nodeid)].append(seconds)
        write({name: (sorted(each)[len(each) // 2], len(each)) for name, each in cases.items()})


def write(durations: dict[str, tuple[float, int]]) -> None:
    """Write the record: the median of the seconds of a case, where all cases take longer than a test may."""
    with RECORD.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["test", "seconds"])
        for name, (seconds, cases) in sorted(durations.items()):
            if seconds * cases > SECONDS_OF_A_TEST:
                writer.writerow([name, f"{seconds:.2g}"])
