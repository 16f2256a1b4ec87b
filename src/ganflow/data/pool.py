"""Tasks on all cores: processes, a bounded number of tasks on the way, results as they come."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from ganflow.errors import GanflowError

AHEAD = 3
"""Tasks on the way for each process: one at work, and the next ones, so that it never waits."""
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
Task = Callable[[], Any]


def cores() -> int:
    """Processors that this process may use: those that it may run on, and no more than its container's limit."""
    count = len(os.sched_getaffinity(0))
    quota, _, period = CPU_LIMIT.read_text().partition(" ") if CPU_LIMIT.exists() else ("max", "", "")
    return count if quota == "max" else min(count, max(1, int(quota) // int(period)))


class Workers:
    """Does tasks; more may be added while the results of others are taken."""

    def __init__(self, executor: Executor, room: int) -> None:
        self.executor, self.room = executor, room
        self.waiting: set[Future[Any]] = set()

    def add(self, task: Task) -> None:
        """Begin a task."""
        self.waiting.add(self.executor.submit(task))

    def results(self, tasks: Iterator[Task]) -> Iterator[Any]:
        """Begin the tasks as there is room; yield all results as they come, until nothing is under way."""
        while True:
            while len(self.waiting) < self.room and (task := next(tasks, None)):
                self.add(task)
            if not self.waiting:
                return
            ended, self.waiting = wait(self.waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()


class Here(Executor):
    """Does each task in this process, at once."""

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Do it; what it raises is the future's."""
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    """So many processes, or this one for 1. Raises GanflowError when one of them is killed."""
    if count == 1:
        yield Workers(Here(), 1)
        return
    # Fresh processes: a fork of one that has threads, such as torch's or MLflow's, may hang.
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)
    try:
        yield Workers(pool, AHEAD * count)
    except BrokenProcessPool as error:
        raise GanflowError(
            "a process of `ganflow prepare` was killed, most likely for want of memory; give the step more, and run "
            "it again: it goes on where it was"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ctrl-C is the parent's to handle, and nobody outlives the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent, "this is a child"
    wait_for([parent.sentinel])
    os._exit(1)
