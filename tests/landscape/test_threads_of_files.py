"""Several threads of one process that save and open files at once."""

import threading

import numpy as np
import pytest

import landscape as ls
from landscape.potentials import DoubleWell


@pytest.mark.always
def test_threads_save_and_open_files(tmp_path):
    """The netCDF library is not made for threads: without a lock this ends the process, or with an HDF error."""
    run = ls.simulate(DoubleWell(), ls.EulerMaruyama(dt=0.01), temperature=0.2, chains=5, steps=100, seed=1)
    failed = []

    def work(k):
        try:
            for n in range(8):
                ls.save(run, tmp_path / f"{k}_{n}.nc")
                with ls.open(tmp_path / f"{k}_{n}.nc") as found:
                    assert np.array_equal(found.load().position, run.position)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed and len(list(tmp_path.iterdir())) == 32
