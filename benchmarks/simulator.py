"""Peers simulated a second: the daemon's own brain with its bytes, and a crowd as arrays.

Each runs in a process of its own, with one thread. Seconds are those of its processor: what else the machine does does not count.
The models have 2.5 KB: LDA of 20 columns and 4 classes. Memory is the most the process ever held.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from peer.learning.dataset import Rows
from scenarios.crowd import average, moments
from scenarios.meetings import Everyone, meetings
from scenarios.simulator import PeerPlan, Simulation, Weather, World, member, task_of
from scenarios.topology import regular

from .table import Row

COLUMNS: Final = 20
CLASSES: Final = ("a", "b", "c", "d")
ROWS_EACH: Final = 10

BRAINS: Final = 1000
EXCHANGES: Final = 100
DEGREE: Final = 8
"""Neighbours of a simulated peer: all keep their connections, as on a LAN of up to 25."""

CROWD: Final = 100_000
ROUNDS: Final = 60


def measure() -> list[Row]:
    """Both engines."""
    brains, crowd = _apart("brains", BRAINS), _apart("crowd", CROWD)
    pace = brains["exchanges"] / brains["seconds"]
    return [
        Row(f"simulator, {BRAINS:,} peers × {EXCHANGES} exchanges of LDA (2.5 KB)", _took(brains), "≤ 60 s, ≤ 2 GB"),
        Row("simulator, peer-exchanges a second", f"{pace:,.0f}", "≥ 3,000"),
        Row(f"crowd as arrays, {CROWD:,} peers × {ROUNDS} rounds of LDA (2.5 KB), everybody's moments included", _took(crowd), "≤ 120 s"),
        Row("crowd as arrays, peer-exchanges a second", f"{crowd['exchanges'] / crowd['seconds']:,.0f}"),
    ]


def brains(count: int) -> dict[str, float]:
    """Every peer a `peer.node.Node`; bytes encoded, framed and decoded. Until each has committed its exchanges."""
    topology = regular(count, DEGREE, np.random.Generator(np.random.PCG64(1)))
    world = _world(count, weather=Weather(topology=topology), exchanges=EXCHANGES, period_s=1.0, seconds=1000.0, sample_every_s=1000.0)
    began = time.process_time()
    outcome = Simulation(world, seed=1).run()
    done = sum(int(peer["exchanges"]) for peer in outcome.peers)
    return {"seconds": time.process_time() - began, "exchanges": done, "mb": _most_mb()}


def crowd(count: int) -> dict[str, float]:
    """From rows to the last round, and the error that was left."""
    world = _world(count)
    task = task_of(world, member(0))
    began = time.process_time()
    own = moments(task, [peer.rows for peer in world.peers if peer.rows is not None])
    course = average(task, own, list(meetings(count, Everyone(count), ROUNDS, seed=1)), np.arange(0, count, count // 10))
    seconds = time.process_time() - began
    return {"seconds": seconds, "exchanges": float(course.exchanges[-1]) * count, "mb": _most_mb(), "error": float(course.error[-1].max())}


def _world(count: int, **fields: Any) -> World:
    random = np.random.Generator(np.random.PCG64(0))
    y = random.integers(0, len(CLASSES), (count, ROWS_EACH))
    X = random.normal(size=(count, ROWS_EACH, COLUMNS)) + 2.0 * np.eye(len(CLASSES), COLUMNS)[y]
    peers = tuple(PeerPlan(f"peer-{k}", Rows(X=X[k], y=y[k])) for k in range(count))
    return World(peers=peers, test=Rows(X=X[0], y=y[0]), classes=CLASSES, **fields)


def _took(found: dict[str, float]) -> str:
    return f"{found['seconds']:.0f} s of one core, {found['mb']:,.0f} MB"


def _apart(name: str, count: int) -> dict[str, float]:
    """One engine in a new process with one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    words = [sys.executable, "-m", "benchmarks.simulator", name, str(count)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **one}, cwd=Path(__file__).parents[1])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _most_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this process has no VmHWM")


if __name__ == "__main__":
    print(json.dumps({"brains": brains, "crowd": crowd}[sys.argv[1]](int(sys.argv[2]))))
