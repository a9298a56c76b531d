"""The store under kills and a full disk: a commit is there as a whole or not at all, and what returned is there."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from peer import database
from peer import saved as s
from peer.store import Store, StoreBusy, StoreFull, read_saved
from protocol.exchange import Epoch

ROOT = Path(__file__).parents[2]
WRITER = Path(__file__).with_name("writer.py")


def _writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("writer", WRITER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


writer = _writer()


def reopened(folder: Path) -> s.Saved:
    with contextlib.closing(Store(folder)) as again:
        return again.load()


# crashes --------------------------------------------------------------------------------------------------------------------------------


def _step(saved: s.Saved) -> int:
    """Which step of writer.py this is the end of; it must be exactly one."""
    k = saved.sequence
    if k == 0:
        assert saved == s.Saved()
        return 0
    [held], [half] = saved.states.values(), saved.prepared.values()
    assert {held.facts["k"], held.epoch.number, *held.arrays["w"], *half.delta["w"], half.epoch.number} == {k}
    assert (half.xid, [*saved.applied.values()]) == (writer.xid(k), [writer.xid(k)])
    assert [point.exchanges for point in saved.scores[writer.TASK]] == list(range(max(1, k - 999), k + 1))
    return k


def _only_what_is_named(folder: Path) -> None:
    """Every tensor file belongs to what is saved, and none is missing."""
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as found:
        tables = ("states", "results", "prepared")
        named = {name for table in tables for (name,) in found.execute(f"SELECT file FROM {table} WHERE file IS NOT NULL")}
    assert {path.name for path in (folder / "tensors").iterdir()} == named


def _start_writer(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def _go(process: subprocess.Popen[str]) -> int:
    """Let a writer begin; the number of the first step it has committed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


@contextlib.contextmanager
def _at_work(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with _start_writer(folder) as process:
        try:
            _go(process)
            yield process
        finally:
            process.kill()


def test_twenty_kills_at_random_moments_leave_whole_commits_and_every_one_that_returned(tmp_path: Path) -> None:
    moments = random.Random(5)
    following = _start_writer(tmp_path)
    before = 0
    for _ in range(20):
        process, following = following, _start_writer(tmp_path)
        first = _go(process)
        threading.Event().wait(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        said = [first, *map(int, rest.split())]
        found = _step(reopened(tmp_path))
        assert said == list(range(before + 1, before + 1 + len(said)))
        assert found in (said[-1], said[-1] + 1)
        _only_what_is_named(tmp_path)
        before = found
    following.kill()
    following.communicate()


def _killed_before(nth: int, work: Callable[[], None]) -> bool:
    """Do this work in a child that is killed right before its nth flush, rename, deletion or statement. Whether it lived to the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's threads do not matter to what the child does
        child = os.fork()
    if child == 0:
        left = nth

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return call

        class Connection(sqlite3.Connection):
            execute = counted(sqlite3.Connection.execute)

        try:
            for name in ("fsync", "replace", "rename", "unlink", "open", "mkdir"):
                setattr(os, name, counted(getattr(os, name)))
            connect = sqlite3.connect
            database.sqlite3.connect = lambda *given, **named: connect(*given, **named, factory=Connection)  # type: ignore[assignment]
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), "the work failed by itself"
    return status == 0


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_kill_before_any_single_operation_leaves_the_commit_whole_or_undone(tmp_path: Path, steps: int) -> None:
    template = tmp_path / "template"
    if steps:
        with contextlib.closing(Store(template)) as store:
            for k in range(1, steps + 1):
                store.commit(writer.step(k))
    seen = set()
    for nth in range(1000):
        folder = tmp_path / f"{nth}"
        if steps:
            shutil.copytree(template, folder)

        def work(folder: Path = folder) -> None:
            with contextlib.closing(Store(folder)) as store:
                store.commit(writer.step(steps + 1))

        is_done = _killed_before(nth, work)
        found = _step(reopened(folder))
        assert found == steps + 1 if is_done else found in (steps, steps + 1)
        _only_what_is_named(folder)
        seen.add(found)
        shutil.rmtree(folder)
        if is_done:
            break
    assert seen == {steps, steps + 1}
    assert nth > 20


# beside a writer -------------------------------------------------------------------------------------------------------------------------


def test_a_second_daemon_is_told_which_process_has_the_folder_until_that_is_dead(tmp_path: Path) -> None:
    with _at_work(tmp_path) as process:
        with pytest.raises(StoreBusy, match=f"process {process.pid}") as caught:
            Store(tmp_path)
        assert caught.value.pid == process.pid
        process.kill()
        process.wait()
        Store(tmp_path).close()


def test_a_reader_beside_the_daemon_sees_whole_commits_only(tmp_path: Path) -> None:
    with _at_work(tmp_path):
        steps = [_step(read_saved(tmp_path)) for _ in range(15)]
    assert steps == sorted(steps)
    assert steps[0] > 0


# a full disk -----------------------------------------------------------------------------------------------------------------------------


TASK, LARGE = writer.TASK, writer.LARGE


def state(value: float, size: int, part: str = "weights") -> s.HoldState:
    return s.HoldState(TASK, part, Epoch(1, writer.SELF), {"w": np.full(size, value, float)}, {})


@contextlib.contextmanager
def _files_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100_000, LARGE], ids=["in the database", "in a file"])
def test_a_commit_that_does_not_fit_leaves_what_was_there(tmp_path: Path, size: int) -> None:
    store = Store(tmp_path)
    store.commit((state(1.0, LARGE), s.KeepSequence(1)))
    with _files_at_most(500_000), pytest.raises(StoreFull, match="no room left"):
        store.commit((state(2.0, size), s.KeepSequence(2)))
    found = store.load()
    assert (found.sequence, {*found.states[TASK, "weights"].arrays["w"]}, len(found.states)) == (1, {1.0}, 1)
    _only_what_is_named(tmp_path)
    store.commit((state(3.0, size), s.KeepSequence(3)))
    store.close()
    assert reopened(tmp_path).sequence == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_runs_full_and_has_room_again(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], check=True)
    try:
        with contextlib.closing(Store(disk / "home")) as store:
            commits = ((state(k, 400_000, f"part {k}"), s.KeepSequence(k)) for k in range(1, 20))
            with pytest.raises(StoreFull):
                deque(map(store.commit, commits), maxlen=0)
            k = store.load().sequence + 1
            assert k > 1
            assert set(store.load().states) == {(TASK, f"part {j}") for j in range(1, k)}
            store.commit((s.EraseTask(TASK),))
            store.commit((state(k, 400_000), s.KeepSequence(k)))
            assert store.load().sequence == k
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
