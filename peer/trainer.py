"""The trainer: a process of its own that holds the owner's rows and does the arithmetic. Both ends of its pipe are in this file.

Why a process: reading a file or fitting takes seconds and the daemon's loop must answer in milliseconds; rows stay out of the process that
talks to the network; and only this one ever imports scikit-learn, and that only for a bundled set.

    message     u32 length of the header | u64 length of the body | header | body         little-endian, one answer for each, in order
    header      msgpack: job, task, settings, arrays [[name, shape], …]       answer: facts, error, arrays
    body        the arrays as float64, little-endian, C order, one after another

The worker (`python -m peer.trainer`) ends when its input does, and ignores Ctrl-C, which is the daemon's to answer. What jobs there are:
`peer/learning/jobs.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO, Final

import msgpack
import numpy as np

from protocol.tensors import Arrays

from .events import TaskId, Train, Trained

LENGTHS: Final = struct.Struct("<IQ")

MAX_HEADER_BYTES: Final = 4 * 1024 * 1024
"""A header: a task card of 64 KiB and a mapping of 1,024 columns, or an answer with notes."""

MAX_BODY_BYTES: Final = 256 * 1024 * 1024
"""Arrays of one job: statistics, weights and control variate, each of 64 MiB at most."""

JOB_LIMIT_S: Final[Mapping[str, float]] = {"open": 600.0, "score": 120.0, "train": 120.0}
"""Seconds a job may take. Reading 256 MiB takes a minute on a laptop, ten on the smallest device that holds them; a turn of training
takes milliseconds."""

CLOSE_S: Final = 2.0
"""Seconds an idle worker is given to end by itself."""

ATTEMPTS: Final = 2
"""A job that kills the worker is tried once more: memory may have been short for a moment. A third time would be a habit."""

LAST_WORDS_BYTES: Final = 4096

ONE_THREAD: Final = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS")} | {"VECLIB_MAXIMUM_THREADS": "1"}
"""Arrays here are small; more threads only take the cores from the other processes of a small device."""


class PipeError(Exception):
    """What came through the pipe is no message."""


class _CannotStart(Exception):
    """There is no worker and there will be none. The text is for the owner."""


def pack(header: Mapping[str, Any], arrays: Arrays) -> bytes:
    """One message."""
    values = {name: np.ascontiguousarray(a, dtype="<f8") for name, a in arrays.items()}
    listed = [[name, list(np.shape(arrays[name]))] for name in values]
    head: bytes = msgpack.packb({**header, "arrays": listed})
    body = b"".join(a.tobytes() for a in values.values())
    if len(head) > MAX_HEADER_BYTES or len(body) > MAX_BODY_BYTES:
        raise PipeError(f"a message of {len(head)} + {len(body)} bytes is too large")
    return LENGTHS.pack(len(head), len(body)) + head + body


def lengths(prefix: bytes) -> tuple[int, int]:
    """Sizes of the header and the body that follow. Raises PipeError before anything of that size is read."""
    head, body = LENGTHS.unpack(prefix)
    if head > MAX_HEADER_BYTES or body > MAX_BODY_BYTES:
        raise PipeError(f"a message of {head} + {body} bytes is too large")
    return head, body


def unpack(head: bytes, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(header, arrays) of a message whose pieces have arrived. The arrays are writable."""
    header = msgpack.unpackb(head, strict_map_key=False)
    arrays, start = {}, 0
    for name, shape in header.pop("arrays"):
        end = start + 8 * math.prod(shape)
        if end > len(body):
            raise PipeError("the body ends before the arrays do")
        arrays[name] = np.frombuffer(body[start:end], "<f8").reshape(shape).astype(np.float64)
        start = end
    if start != len(body):
        raise PipeError("bytes follow the arrays")
    return header, arrays


# the daemon's end ----------------------------------------------------------------------------------------------------


class Trainer:
    """The worker as the daemon sees it: `run` a job, get its answer. It is started at the first job, and again if it dies."""

    def __init__(self, limit_s: Mapping[str, float] = JOB_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._last_words = b""
        self._opens: dict[TaskId, Train] = {}
        """The last "open" of each task that went well: a new worker gets it again before anything else of that task."""
        self._open_here: set[TaskId] = set()
        self._is_closed = False

    async def run(self, job: Train, settings: Mapping[str, Any] | None = None) -> Trained:
        """Do a job, after those asked for before. `settings` are added to the job's. Always answers: what failed says so in `error`."""
        job = replace(job, settings={**job.settings, **(settings or {})})
        async with self._turn:
            words = ""
            for _ in range(ATTEMPTS):
                try:
                    await self._start()
                    return await self._done(job)
                except TimeoutError:
                    await self._end(is_killed=True)
                    return _failed(job, f"The job {job.job!r} took more than {self._limit_s[job.job]:,.0f} s and was stopped.")
                except _CannotStart as error:
                    return _failed(job, str(error))
                except (OSError, EOFError, PipeError):
                    words = await self._buried()
                except asyncio.CancelledError:
                    await self._end(is_killed=True)  # its answer would be taken for the next job's
                    raise
            return _failed(job, f"The trainer ended in the middle of the job {job.job!r}, twice{words}.")

    async def close(self) -> None:
        """End the worker. Jobs that are not done are answered with an error."""
        self._is_closed = True
        if self._turn.locked() and self._process is not None:
            _kill(self._process)
        async with self._turn:
            await self._end()

    async def _start(self) -> None:
        if self._is_closed:
            raise _CannotStart("The trainer has been stopped.")
        if self._process is not None and self._process.returncode is None:
            return
        await self._end()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # without the folder the daemon was started in: a numpy.py there is not ours
                "-m",
                "peer.trainer",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        except OSError as error:
            raise _CannotStart(f"The trainer cannot be started: {error.strerror or error}.") from None
        self._last_words = b""
        self._listening = asyncio.create_task(self._listen(self._process))
        if self._is_closed:
            await self._end(is_killed=True)
            raise _CannotStart("The trainer has been stopped.")

    async def _done(self, job: Train) -> Trained:
        """Ask the worker, after opening the task's rows again if the worker that held them is gone."""
        if job.job != "open" and job.task in self._opens and job.task not in self._open_here:
            answer = await self._asked(self._opens[job.task])
            if answer.error is not None:
                return replace(answer, job=job.job)
            self._open_here.add(job.task)
        answer = await self._asked(job)
        if job.job == "open" and answer.error is None:
            self._opens[job.task] = job
            self._open_here.add(job.task)
        return answer

    async def _asked(self, job: Train) -> Trained:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        header = {"job": job.job, "task": job.task, "settings": dict(job.settings)}
        async with asyncio.timeout(self._limit_s[job.job]):
            process.stdin.write(pack(header, job.arrays))
            await process.stdin.drain()
            head, body = lengths(await process.stdout.readexactly(LENGTHS.size))
            answer, arrays = unpack(await process.stdout.readexactly(head), await process.stdout.readexactly(body))
        return Trained(job.task, job.job, arrays, answer["facts"], answer["error"])

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while said := await process.stderr.read(LAST_WORDS_BYTES):
            self._last_words = (self._last_words + said)[-LAST_WORDS_BYTES:]

    async def _buried(self) -> str:
        """End a worker that broke; how it went, for the end of a sentence."""
        process = self._process
        await self._end()
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        code = process.returncode if process is not None else None
        return f" (exit {code}{': ' + lines[-1][:200] if lines else ''})"

    async def _end(self, *, is_killed: bool = False) -> None:
        process, self._process = self._process, None
        self._open_here.clear()
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if is_killed:
            _kill(process)
        try:
            async with asyncio.timeout(CLOSE_S):
                await process.wait()
        except TimeoutError:
            _kill(process)
            await process.wait()
        if self._listening is not None:
            await self._listening
            self._listening = None


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _failed(job: Train, sentence: str) -> Trained:
    return Trained(job.task, job.job, error=sentence)


# the worker's end ----------------------------------------------------------------------------------------------------


def work(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer jobs until the input ends."""
    from .learning.jobs import Bench

    bench = Bench()
    while len(prefix := source.read(LENGTHS.size)) == LENGTHS.size:
        head, body = lengths(prefix)
        pieces = source.read(head), source.read(body)
        if (len(pieces[0]), len(pieces[1])) != (head, body):  # the daemon is gone
            return
        header, arrays = unpack(*pieces)
        sink.write(_answer(bench, header, arrays))
        sink.flush()


def _answer(bench: Any, header: Mapping[str, Any], arrays: Arrays) -> bytes:
    """One of the two outermost loops: whatever goes wrong in a job becomes a sentence, and the worker goes on."""
    from .learning.dataset import DataError
    from .learning.pooled import NothingLearned

    facts: dict[str, Any]
    try:
        with np.errstate(all="ignore"):
            given, facts = bench.run(header["job"], header["task"], header["settings"], arrays)
        return pack({"facts": facts, "error": None}, given)
    except DataError as error:
        facts, sentence = {"next": error.next, "exit": 6}, error.sentence
    except NothingLearned as error:
        facts, sentence = {"next": None, "exit": 1}, str(error)
    except MemoryError:
        facts, sentence = {"next": None, "exit": 6}, "There is not enough memory on this device for so many rows."
    except Exception as error:
        says = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        facts, sentence = (
            {"next": None, "exit": 1},
            f"The job {header['job']!r} failed, by a fault of Chinwag and not of the rows ({says}).",
        )
    return pack({"facts": facts, "error": sentence}, {})


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # what anything prints goes to standard error: standard output is the pipe
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(BrokenPipeError):
        work(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
