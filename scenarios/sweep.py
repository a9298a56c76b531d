"""Where the cells of a sweep are computed: in this process, in processes beside it, or on a cluster of dask.distributed.

A cell is a pure function of plain values, `work(*job) -> bytes`. So it does not matter where one runs, or that one is run again because the
worker that had it was killed; and each is handed over as soon as it is finished, in whatever order.

The cluster's machines run what this one sends them: give it only clusters that are yours.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Final

from peer.control import ControlError, Exit
from peer.trainer import ONE_THREAD

Job = tuple[Any, ...]
Work = Callable[..., bytes]

ATTEMPTS: Final = 3
"""Pools that are tried one after the other when a process of one is killed; what was finished stays finished."""

CONNECT_S: Final = 20.0
"""How long the scheduler of a cluster may take to answer."""

WORKERS_S: Final = 60
"""How long a cluster may take to have its first worker."""


def here(work: Work, jobs: Sequence[Job]) -> Iterator[tuple[Job, bytes]]:
    """One after the other, in this process."""
    for job in jobs:
        yield job, work(*job)


def on_processes(work: Work, jobs: Sequence[Job], count: int) -> Iterator[tuple[Job, bytes]]:
    """On `count` processes of this computer. Raises ControlError if they are killed again and again."""
    left = list(jobs)
    with _environment(ONE_THREAD):
        for _ in range(ATTEMPTS):
            before = set(multiprocessing.active_children())
            pool = ProcessPoolExecutor(min(count, len(left)), multiprocessing.get_context("spawn"), _leave_interrupts_to_the_parent)
            try:
                futures = {pool.submit(work, *job): job for job in left}
                for future in as_completed(futures):
                    found = future.result()
                    left.remove(futures[future])
                    yield futures[future], found
                pool.shutdown()
                return
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - before:
                    process.terminate()
                raise
    sentence = "Processes of the sweep were killed, maybe for want of memory. What was finished is kept."
    raise ControlError(sentence, "the same again with --resume --jobs 1", Exit.FAILED)


def on_cluster(work: Work, jobs: Sequence[Job], address: str) -> Iterator[tuple[Job, bytes]]:
    """On the workers of the dask scheduler at `address`. A cell whose worker dies is given to another. Raises ControlError."""
    try:
        from distributed import Client
        from distributed import as_completed as finished
    except ImportError:
        raise ControlError("--on-cluster needs dask.distributed.", "pip install 'chinwag[sweep]'", Exit.USAGE) from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ControlError(f"No dask scheduler answers at {address}.", "dask scheduler", Exit.UNREACHABLE) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise ControlError(f"The cluster at {address} has no worker.", f"dask worker {address}", Exit.UNREACHABLE) from None
        futures = {client.submit(work, *job, pure=False): job for job in jobs}
        for future in finished(list(futures), loop=client.loop):
            found = future.result()
            assert isinstance(found, bytes)
            job = futures.pop(future)
            future.release()  # a worker that dies later has nothing of it to compute again
            yield job, found


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C reaches every process of the terminal; the parent ends these itself, without their tracebacks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """Variables that child processes start with."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
