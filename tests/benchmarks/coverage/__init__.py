"""Laws with known answers for every public function that gives an error, by part of the package."""

from __future__ import annotations

from tests.benchmarks.coverage import confinement as confinement
from tests.benchmarks.coverage import curvature as curvature
from tests.benchmarks.coverage import fluctuations as fluctuations
from tests.benchmarks.coverage import free_energy as free_energy
from tests.benchmarks.coverage import observers as observers
from tests.benchmarks.coverage import rates as rates
from tests.benchmarks.coverage.rows import REPEATS as REPEATS
from tests.benchmarks.coverage.rows import ROWS as ROWS
from tests.benchmarks.coverage.rows import SIZES as SIZES
