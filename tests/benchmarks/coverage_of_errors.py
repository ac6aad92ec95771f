"""Coverage of every error by number of values, as in docs/errors.md: `python -m tests.benchmarks.coverage_of_errors`.

Each line is a public function, what it estimates, a law with a known answer, and for several sizes the share of 95 %
intervals that hold the truth, of those repeats that have an error (and the share that have one, where that is not
all). ``--only rates,Gamma`` makes the lines of functions or laws with
that in their name. All of it takes some half an hour and is no
test: those are named in docs/errors.md, and tests/docs holds that no function with an error is missing.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch

from tests.benchmarks.coverage import ROWS, SIZES
from tests.benchmarks.coverage.rows import Row, cell


def lines(row: Row, repeats: int | None, seed: int, largest: int) -> list[str]:
    """Of each estimate of a case."""
    cells: dict[str, dict[int, str]] = {}
    for size in row.sizes:
        if size > largest:
            continue
        rng = np.random.default_rng((seed, size))
        for name, found in row.run(rng, size, repeats or row.repeats).items():
            cells.setdefault(name, {})[size] = cell(found)
    if set(row.sizes) <= set(SIZES):
        columns = {name: [found.get(size, "") for size in SIZES] for name, found in cells.items()}
    else:
        columns = {name: list(found.values()) for name, found in cells.items()}
    return [f"| `{row.of}` | {name} | {row.law} | " + " | ".join(each) + " |" for name, each in columns.items()]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="parts of names or laws, with commas between")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--largest", type=int, default=max(SIZES), help="number of values")
    parser.add_argument("--seed", type=int, default=1)
    settings = parser.parse_args()

    def wanted(row: Row) -> bool:
        return any(part in f"{row.of} {row.law}" for part in settings.only.split(","))

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    by_number = "| of | estimate | law | " + " | ".join(f"n = {size}" for size in SIZES) + " |"
    for title, whole in ((by_number, False), ("| of | estimate | law | share |", True)):
        chosen = [row for row in ROWS if wanted(row) and set(row.sizes).isdisjoint(SIZES) == whole]
        if not chosen:
            continue
        print(title + "\n" + "|---" * (title.count("|") - 1) + "|", flush=True)
        for row in chosen:
            begun = time.perf_counter()
            print("\n".join(lines(row, settings.repeats, settings.seed, settings.largest)), flush=True)
            print(f"    {time.perf_counter() - begun:.0f} s", flush=True) if settings.repeats else None
        print()


if __name__ == "__main__":
    main()
