"""Where cells run: processes that are killed, and a real dask cluster of two workers of which one is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from peer.control import ControlError
from scenarios import results, runner, sweep
from scenarios.runner import Places
from scenarios.scenario import parse

pytest.importorskip("distributed", reason="needs the extra: pip install 'chinwag[sweep]'")

ROOT = Path(__file__).parents[2]

SWEEP = """
[scenario]
seeds = [1, 2, 3, 4, 5, 6]

[data]
source = "synthetic"
rows = 400
partition = "dirichlet"
alpha = [0.1, 10.0]

[peers]
count = 4

[stop]
seconds = 6
"""


@dataclass(frozen=True)
class Cluster:
    address: str
    workers: list[subprocess.Popen[bytes]]


def python(*words: str, log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", *words], env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers, each a process."""
    file = tmp_path / "scheduler.json"
    words = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    processes = [python(*words, log=tmp_path / "scheduler.log")]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text().strip():
            assert time.monotonic() < deadline, (tmp_path / "scheduler.log").read_text()
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        words = (
            "distributed.cli.dask_worker",
            address,
            "--no-nanny",
            "--no-dashboard",
            "--nthreads",
            "1",
            "--local-directory",
            str(tmp_path),
        )
        workers = [python(*words, log=tmp_path / f"worker-{k}.log") for k in range(2)]
        processes += workers
        yield Cluster(address, workers)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_killed_worker_of_a_cluster_loses_no_finished_cell(cluster: Cluster, tmp_path: Path) -> None:
    scenario = parse(SWEEP, "sweep")
    ended: list[str] = []

    class Killer(runner.Nobody):
        def ended(self, cost: float, what: str) -> None:
            ended.append(what)
            if len(ended) == 3:
                cluster.workers[0].send_signal(signal.SIGKILL)

    found = runner.run(scenario, tmp_path / "far", places=Places(cluster=cluster.address), watcher=Killer())
    assert cluster.workers[0].wait(10) == -signal.SIGKILL
    assert cluster.workers[1].poll() is None
    assert len(found.cells) == len(ended) == len(set(ended)) == 12
    near = runner.run(scenario, tmp_path / "near", seeds=[1, 6])
    for cell in near.cells:
        assert results.stored_bytes(tmp_path / "far", cell.key) == results.stored_bytes(tmp_path / "near", cell.key)


def test_a_cluster_that_is_not_there_is_missed_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CONNECT_S", 1.0)
    with pytest.raises(ControlError, match="No dask scheduler answers") as caught:
        list(sweep.on_cluster(echo, [("a",)], "tcp://127.0.0.1:1"))
    assert caught.value.exit == 5


def echo(word: str) -> bytes:
    return word.encode()


def die_once(mark: str, word: str) -> bytes:
    """The first process that comes here is killed, as the kernel does when memory is short."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return word.encode()
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def die(word: str) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def fail(word: str) -> bytes:
    raise ControlError(f"no {word}", None, 6)


def test_a_killed_process_costs_only_what_it_was_at(tmp_path: Path) -> None:
    jobs = [(str(tmp_path / "mark"), word) for word in "abcdef"]
    found = list(sweep.on_processes(die_once, jobs, 2))
    assert sorted(word for _, word in found) == [word.encode() for word in "abcdef"]
    assert sorted(job for job, _ in found) == jobs


def test_processes_that_are_killed_again_and_again_end_in_a_sentence() -> None:
    with pytest.raises(ControlError, match="killed, maybe for want of memory"):
        list(sweep.on_processes(die, [("a",)], 1))


def test_a_fault_of_a_cell_comes_out_of_its_process() -> None:
    with pytest.raises(ControlError, match="no data") as caught:
        list(sweep.on_processes(fail, [("data",)], 1))
    assert (caught.value.sentence, caught.value.exit) == ("no data", 6)
