"""Exits of boxes by 10^6 chains, as in docs/errors.md: `python tests/benchmarks/exits_of_boxes.py` prints the table.

Free diffusion from the middle of (-1, 1)^n at T = 1, in two, three and five dimensions at four steps: the mean exit
time against the integral of the survival, the shares of the coordinates against 1/n and of the low sides against 1/2,
each in standard errors. It takes some minutes in the compiled backend, and fails where a number is off by more than
4.5 errors; tests/landscape/test_exit_boxes.py holds the same with fewer chains.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter

import numpy as np

from tests.cases import Z_MAX
from tests.landscape.test_exit_boxes import NAMES, STEPS, leave, mean_exit_time


def measured(dim: int, dt: float, chains: int, part: int) -> tuple[float, float, dict[str, float]]:
    """Mean exit time, its standard error, and the shares that leave by each coordinate and by low sides."""
    sums, shares, count = np.zeros(2), Counter[str](), 0
    for seed in range(math.ceil(chains / part)):
        run = leave(dim, dt, part, seed=seed)
        times = run.exit_time.values
        if not np.isfinite(times).all():
            raise RuntimeError("a chain has not left: raise the number of steps")
        sums += times.sum(), (times**2).sum()
        shares.update({name: int((run.exit_coordinate.values == name).sum()) for name in NAMES[:dim]})
        shares["low"] += int((run.exit_side.values < 0).sum())
        count += part
    mean = sums[0] / count
    return mean, math.sqrt((sums[1] / count - mean**2) / count), {name: n / count for name, n in shares.items()}


def main() -> int:
    """Print the table; 1 if a number is off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=1_000_000)
    parser.add_argument("--part", type=int, default=50_000, help="chains at a time")
    settings = parser.parse_args()
    print("| dimensions | step | mean exit time | exact | errors off | shares of coordinates, errors off | low sides |")
    print("|---|---|---|---|---|---|---|")
    worst = 0.0
    for dim in (2, 3, 5):
        exact = mean_exit_time(dim)
        for dt in STEPS:
            mean, error, shares = measured(dim, dt, settings.chains, settings.part)
            spread = {name: math.sqrt(p * (1 - p) / settings.chains) for name, p in shares.items()}
            low = (shares.pop("low") - 0.5) / spread.pop("low")
            off = [(share - 1 / dim) / spread[name] for name, share in shares.items()]
            z = (mean - exact) / error
            worst = max(worst, abs(z), abs(low), *(abs(one) for one in off))
            sides = " ".join(f"{one:+.1f}" for one in off)
            print(f"| {dim} | {dt} | {mean:.6f} | {exact:.6f} | {z:+.1f} | {sides} | {low:+.1f} |", flush=True)
    print(f"largest of all: {worst:.1f} errors", "(fails)" if worst > Z_MAX else "")
    return int(worst > Z_MAX)


if __name__ == "__main__":
    sys.exit(main())
