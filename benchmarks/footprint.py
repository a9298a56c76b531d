"""What the software weighs: memory of an idle daemon, time of the commands one types most, size of an installation."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peer.cli import child
from peer.cli.demo_peers import READY_S, DemoNetwork

from .table import Row

RUNS = 7


def measure() -> list[Row]:
    """RSS of a daemon without a task, and of one that takes part; times of --help, status and peers; MB installed."""
    with DemoNetwork(["ada"], [[0, 1, 2, 3]], "lda", False) as network:
        network.found()
        ada = network.peers[0]
        ada.start()
        ada.control(time.monotonic() + READY_S)
        time.sleep(2.0)
        assert ada.process is not None
        idle = _rss_mb(ada.process.pid)
        network.deal()
        network.take_part()
        time.sleep(3.0)
        busy, trainer = _rss_mb(ada.process.pid), sum(_rss_mb(pid) for pid in _children(ada.process.pid))
        home = str(ada.home)
        times = {words: _time("--home", home, *words.split()) for words in ("--help", "status", "peers")}
    rows = [
        Row("RSS of a daemon, no task", f"{idle:.0f} MB", "≤ 60 MB"),
        Row("RSS of a daemon that takes part, without scikit-learn", f"{busy:.0f} MB, its trainer {trainer:.0f} MB", "≤ 60 MB"),
    ]
    rows += [Row(f"`chinwag {words}`, median of {RUNS}", f"{seconds * 1000:.0f} ms", "≤ 250 ms") for words, seconds in times.items()]
    return [*rows, Row("installed, with everything it needs", f"{_installed_mb():.0f} MB")]


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"process {pid} has no VmRSS")


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [int(p) for p in found]


def _time(*words: str) -> float:
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(child.command_line("chinwag", *words), stdout=subprocess.DEVNULL, env=child.environment(), check=True)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _installed_mb() -> float:
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(__file__).parents[1])
        words = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", folder, root]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / 1e6
