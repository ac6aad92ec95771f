"""What every test starts from."""

import os
import random

import numpy as np
import pytest

from tests import ordinary

# The tensors of these tests are small: threads would only wait for one another, for seconds where a core is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """The same random numbers whatever ran before, and in whichever process."""
    import torch  # after its number of threads is known

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # whatever a library draws from it
    random.seed(0)


def pytest_addoption(parser):
    parser.addoption("--every-case", action="store_true", help="all cases of the tests that are not marked long")
    parser.addoption("--record-durations", action="store_true", help="write tests/durations.csv from this run")


def pytest_configure(config):
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(ordinary.Stopwatch())


def pytest_collection_modifyitems(config, items):
    ordinary.choose(config, items)
