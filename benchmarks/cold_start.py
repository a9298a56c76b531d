"""From starting the daemons to the first exchange that each has committed.

Real daemons on this computer's loopback interface that took part in a task before: nothing is configured but membership. The clock starts
before the first process is started, and stops when the last daemon has committed its first exchange. The daemons are the demo's.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

from peer.cli.demo_peers import DemoNetwork

from .table import Row

RUNS = 5
NAMES = ("ada", "bob", "cleo", "dan", "eve", "fay", "gus", "hal")
GIVE_UP_S = 60.0


def measure() -> list[Row]:
    """Medians of RUNS starts of 3 and of 8 daemons."""
    rows = []
    for count, asked in ((3, 3.0), (8, 5.0)):
        firsts, alls = zip(*(once for once in _starts(count)), strict=True)
        spread = f"{min(alls):.2f}–{max(alls):.2f}"
        measured = f"{statistics.median(firsts):.2f} s the first, {statistics.median(alls):.2f} s all ({spread})"
        rows.append(Row(f"{count} daemons: start → first committed exchange, median of {RUNS}", measured, f"≤ {asked:.0f} s"))
    return rows


def _starts(count: int) -> list[tuple[float, float]]:
    knows = [[k % 10, (k + 1) % 10, (k + 2) % 10, (k + 3) % 10] for k in range(count)]
    found = []
    with DemoNetwork(list(NAMES[:count]), knows, "lda", False) as network:
        network.found()
        for peer in network.peers:
            peer.start()
        network.deal()
        network.take_part()
        for _ in range(RUNS):
            for peer in network.peers:
                peer.kill()
                (peer.home / "daemon.log").unlink()
            began = time.time()
            for peer in network.peers:
                peer.start()
            times = [_first_exchange(peer.home / "daemon.log", began) for peer in network.peers]
            found.append((min(times), max(times)))
    return found


def _first_exchange(log: Path, began: float) -> float:
    """Seconds until this daemon's log shows its first committed exchange."""
    while time.time() < began + GIVE_UP_S:
        for line in log.read_text("utf-8", "replace").splitlines() if log.exists() else ():
            if '"exchange.committed"' in line:
                return float(json.loads(line)["at"]) - began
        time.sleep(0.02)
    raise SystemExit(f"{log}: no exchange within {GIVE_UP_S:.0f} s")
