"""Exchanges of a small model a second: two real daemons, real TLS, every half made durable before it is said.

Both peers go as fast as they can (a period of 10 ms); each exchange is followed by a turn of training in each peer's trainer. Counted are
the first exchanges of weights in a daemon's log: after 320 of them a peer slows down on purpose.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec

from peer.cli.demo_peers import DemoNetwork
from peer.config import Home, load_config, save_config

from .table import Row

COUNTED = 250
GIVE_UP_S = 60.0


def measure() -> list[Row]:
    """Committed exchanges a second between two daemons, logistic on digits."""
    with DemoNetwork(["ada", "bob"], [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], "logistic", False) as network:
        network.found()
        for peer in network.peers:
            home = Home(peer.home)
            config = load_config(home)
            save_config(home, msgspec.structs.replace(config, peer=msgspec.structs.replace(config.peer, period_s=0.01)))
            peer.start()
        network.deal()
        network.take_part()
        times = _times(network.peers[0].home / "daemon.log")
    what = "exchanges a second, two daemons, logistic on digits (0.7 KB each way), a turn of training after each included"
    return [Row(what, f"{(len(times) - 1) / (times[-1] - times[0]):.0f}")]


def _times(log: Path) -> list[float]:
    """When the first COUNTED exchanges of weights were committed."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in log.read_text().splitlines() if '"exchange.committed"' in line]
        found = [float(line["at"]) for line in lines if line["part"] == "weights"]
        if len(found) >= COUNTED:
            return found[:COUNTED]
        time.sleep(0.2)
    raise SystemExit(f"{log}: fewer than {COUNTED} exchanges within {GIVE_UP_S:.0f} s")
