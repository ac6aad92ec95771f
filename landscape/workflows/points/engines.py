"""Where the points of a sweep run: in this process, in processes of its own, or on an executor.

An engine takes a task and its jobs, and gives the outcome of each as it comes: None, or what went wrong. Meanwhile it
may tell how far the jobs are that are under way.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from landscape.engine.progress import heard
from landscape.errors import ConfigError, LandscapeError

__all__ = ["Engine", "Failure", "Within", "choose_engine", "describe", "in_processes", "in_turn", "on_executor"]

Failure = dict[str, str]
Job = tuple[str, str]
Task = Callable[[str, str], Failure | None]
Outcomes = Generator[tuple[int, Failure | None]]
Within = Callable[[int, float], None]  # takes a job and what fraction of it is done
Engine = Callable[[Task, Mapping[int, Job], Within | None], Outcomes]

# A worker may be killed for want of memory that others took; three in a row say that the point itself is the cause.
MAX_DEATHS: Final = 3


def choose_engine(executor: Executor | int | None) -> Engine:
    """The engine for what was given as `executor`.

    Raises
    ------
    ConfigError
    """
    if executor is None:
        return in_turn
    if isinstance(executor, int) and not isinstance(executor, bool) and executor >= 1:
        return partial(in_processes, workers=executor)
    if not isinstance(executor, int) and hasattr(executor, "submit"):
        return partial(on_executor, executor=executor)
    raise ConfigError(
        "executor must be None (this process), a number of worker processes, or an executor with a method submit, "
        f"such as Dask's Client.get_executor(); got {executor!r}"
    )


def describe(error: BaseException) -> Failure:
    """An exception as text."""
    told = "".join(traceback.format_exception(error))
    return {"error": type(error).__name__, "message": str(error), "traceback": told}


def in_turn(task: Task, jobs: Mapping[int, Job], within: Within | None = None) -> Outcomes:
    """One after another in this process."""
    for index, job in jobs.items():
        with heard(None if within is None else partial(within, index)):
            outcome = task(*job)
        yield index, outcome


def in_processes(task: Task, jobs: Mapping[int, Job], within: Within | None = None, *, workers: int) -> Outcomes:
    """In fresh processes of this machine, each with one job at a time.

    A worker that dies takes no other job with it, and it is known which one it had: a new worker runs that again, and
    after `MAX_DEATHS` dead workers it is given up.

    Raises
    ------
    LandscapeError
        If workers die before they take a job.
    """
    waiting, deaths = deque(jobs), Counter[int | None]()
    tells = within is not None
    crew = [_Worker(task, tells) for _ in range(min(workers, len(jobs)))]
    try:
        while crew:
            ready = wait([worker.connection for worker in crew])
            for worker in [one for one in crew if one.connection in ready]:
                try:
                    outcome = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    crew.remove(worker)
                    code = worker.stop()
                    deaths[worker.job] += 1
                    if worker.job is None:
                        _explain_start(code, deaths[None])
                    elif deaths[worker.job] < MAX_DEATHS:
                        waiting.appendleft(worker.job)
                    else:
                        yield worker.job, _death(code)
                    if waiting:
                        crew.append(_Worker(task, tells))
                    continue
                if isinstance(outcome, float):
                    if within is not None and worker.job is not None:
                        within(worker.job, outcome)
                    continue
                if worker.job is not None:
                    yield worker.job, outcome
                if waiting:
                    worker.give(waiting.popleft(), jobs)
                else:
                    crew.remove(worker)
                    worker.stop()
    finally:
        for worker in crew:
            worker.process.terminate()
            worker.stop()


class _Worker:
    """A process at the other end of a pipe; it says None when it is ready, and then the outcome of each job.

    If it `tells`, numbers before an outcome are the fractions of the job that are done.
    """

    def __init__(self, task: Task, tells: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(task, theirs, tells), name="landscape-sweep")
        self.process.start()
        theirs.close()  # so that the pipe breaks when the worker dies
        self.job: int | None = None

    def give(self, job: int, jobs: Mapping[int, Job]) -> None:
        self.job = job
        with suppress(BrokenPipeError):  # it has died: the next look at the pipe finds out
            self.connection.send(jobs[job])

    def stop(self) -> int | None:
        self.connection.close()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        return code


def _serve(task: Task, connection: Connection[Any, Any], tells: bool = False) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt from the terminal is the driver's to handle
    threading.Thread(target=_end_with_driver, daemon=True).start()
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        with heard(connection.send if tells else None):
            outcome = task(*job)
        connection.send(outcome)


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _death(code: int | None) -> Failure:
    cause = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    message = f"the worker process died ({cause}) at each of {MAX_DEATHS} attempts; it may have run out of memory"
    return {"error": "WorkerDied", "message": message, "traceback": ""}


def _explain_start(code: int | None, deaths: int) -> None:
    """Raise if workers cannot start at all; one that was killed by a signal may be replaced."""
    if code is None or code >= 0 or deaths >= MAX_DEATHS:
        raise LandscapeError(
            f"the worker processes of the sweep end before they begin (exit code {code}). A script that starts "
            'processes does its work under `if __name__ == "__main__":`, for each worker imports it'
        )


def on_executor(task: Task, jobs: Mapping[int, Job], within: Within | None = None, *, executor: Executor) -> Outcomes:
    """On an executor of the caller, which tells nothing of jobs that are under way.

    Jobs that the executor itself has lost, because the workers that had them died, are run once more: one at a time,
    so that none is lost by the fault of another. A standard process pool that has broken takes no job any more; the
    rest is done by `in_processes`.
    """
    lost: dict[int, Job] = {}
    futures: dict[Future[Failure | None], int] = {}
    try:
        for index, job in jobs.items():
            try:
                futures[executor.submit(task, *job)] = index
            except Exception:
                lost[index] = job
        for future in as_completed(futures):
            index = futures[future]
            try:
                outcome = future.result()
            except Exception:
                lost[index] = jobs[index]
            else:
                yield index, outcome
    finally:
        for future in futures:
            future.cancel()
    if isinstance(executor, ProcessPoolExecutor):
        # the number of its workers has no public name
        yield from in_processes(task, lost, within, workers=getattr(executor, "_max_workers", 1))
        return
    for index, job in lost.items():
        try:
            # a partial, for Dask takes an equal call for the one that it has lost
            outcome = executor.submit(partial(task), *job).result()
        except Exception as error:
            outcome = describe(error)
        yield index, outcome
