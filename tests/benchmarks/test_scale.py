"""What limits each kind of run: how time and memory grow with steps, chains, parameters, pivots and snapshots.

Every size runs in a process of its own, on one core, after a smaller run that compiles; what is printed is CPU time and
memory beyond that of the smaller run. Then: what runs would cost that no test can afford, from the slopes.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

DAY = 86400.0

SETUP = """
import json, resource, sys, tempfile, time
import landscape as ls, torch
from landscape import potentials, probes
torch.set_num_threads(1)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def toy(chains, steps, record=None, **settings):
    valley = potentials.Valley("1 + y**2", bounds={"y": (-3, 3)})
    record = record or ls.Record(every=steps, observables=["energy"])
    rule = ls.EulerMaruyama(dt=1e-3)
    ls.simulate(valley, rule, temperature=0.1, chains=chains, steps=steps, record=record, **settings)

def network(width, samples=256):
    module = potentials.architectures.mlp([64, width, width, 10], seed=0)
    inputs, targets = torch.randn(samples, 64), torch.randint(10, (samples,))
    return potentials.NetworkLoss(module, inputs, targets)
"""

TASKS = {
    "steps of one chain": ("toy(1, n, ls.Record(every=n, observables=[ls.Moments('x', every=10)]))", "10**4"),
    "chains, 1000 steps each": ("toy(n, 1000)", "10"),
    "draws of 1000 chains to disk": (
        "toy(1000, n, ls.Record(), output=tempfile.mkdtemp())", "10",
    ),
    "parameters, one step": (
        "loss = network(n); ls.simulate(loss, ls.EulerMaruyama(dt=1e-3), temperature=1e-5, steps=4, "
        "record=ls.Record(4), backend='batched'); units = 4; size = loss.dim", "8",
    ),
    "snapshots of 883 weights, spectra": (
        "module = potentials.architectures.mlp([10, 20, 20, 10, 3], seed=0); "
        "loss = potentials.NetworkLoss(module, torch.randn(300, 10), torch.randint(3, (300,))); "
        "probes.curvature.eigenvalues(loss, loss.position().repeat(n, 1))", "1",
    ),
    "weights, one spectrum": (
        "loss = network(n); probes.curvature.eigenvalues(loss, loss.position()); size = loss.dim", "2",
    ),
    "pivots, 10 steps of a string": (
        "loss = network(32); a = loss.position(); "
        "ls.paths.string(loss, a, a + 0.1 * torch.randn_like(a), pivots=n, steps=10, lr=0.1)", "3",
    ),
}  # fmt: skip
SIZES = {
    "steps of one chain": [10**7, 3 * 10**7, 10**8],
    "chains, 1000 steps each": [10**4, 10**5, 10**6],
    "draws of 1000 chains to disk": [2000, 8000, 32000],
    "parameters, one step": [256, 1024, 3072],
    "snapshots of 883 weights, spectra": [10, 40, 160],
    "weights, one spectrum": [8, 16, 24],
    "pivots, 10 steps of a string": [9, 33, 129],
}


def cost(task: str, first: str, n: int) -> tuple[float, float, float]:
    """Size, seconds of CPU, and bytes beyond the small run."""
    script = f"""{SETUP}
def run(n):
    size, units = n, 1
    {task}
    return size, units

run({first})
before, began = peak(), time.process_time()
size, units = run({n})
print(json.dumps([size, (time.process_time() - began) / units, peak() - before]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    size, seconds, memory = json.loads(done.stdout.strip().splitlines()[-1])
    return size, seconds, memory


@pytest.mark.parametrize("name", TASKS)
def test_growth(name):
    rows = np.array([cost(*TASKS[name], n) for n in SIZES[name]])
    size, seconds, memory = rows.T
    slope = np.polyfit(np.log(size), np.log(seconds), 1)[0]
    print(f"\n{name}: time ~ size^{slope:.2f}")
    for n, spent, more in rows:
        print(f"  {n:12.4g}: {spent:10.4g} s = {1e9 * spent / n:10.4g} ns each, {more / 2**20:8.1f} MiB more")
    extrapolate(name, size[-1], seconds[-1], memory[-1])
    if name in ("steps of one chain", "draws of 1000 chains to disk"):
        assert memory[-1] < 2**29  # bounded by the parts, however long the run


def extrapolate(name: str, size: float, seconds: float, memory: float) -> None:
    each = seconds / size
    if name == "steps of one chain":
        print(f"  10^12 steps of one chain: {each * 1e12 / DAY:.2g} days of one core")
    if name == "chains, 1000 steps each":
        print(f"  10^12 steps of many chains: {each * 1e9 / 3600:.2g} hours of one core")
    if name == "parameters, one step":
        print(f"  10^9 parameters: {each * 1e9:.3g} s a step of 256 examples, {memory / size * 1e9 / 2**30:.3g} GiB")
    if name == "weights, one spectrum":
        print(
            f"  10^5 weights: {seconds * (1e5 / size) ** 3 / DAY:.2g} days, {8e10 / 2**30:.3g} GiB for the matrix alone"
        )
