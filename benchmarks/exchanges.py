"""Exchanges of a small model a second: two real daemons, real TLS, every half made durable before it is said.

Both peers go as fast as they can (a period of 10 ms); each exchange is followed by a turn of training in each peer's trainer.
"""

from __future__ import annotations

import time

import msgspec

from peer.cli.demo_peers import DemoNetwork
from peer.config import Home, load_config, save_config

from .table import Row

SECONDS = 10.0


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
        time.sleep(5.0)
        network.look()
        before = [p.task["exchanges"] for p in network.peers]
        began = time.monotonic()
        time.sleep(SECONDS)
        network.look()
        took = time.monotonic() - began
        done = sum(p.task["exchanges"] for p in network.peers) - sum(before)
    return [
        Row(
            "exchanges a second, two daemons, logistic on digits (0.7 KB each way), training between them included",
            f"{done / 2 / took:.0f}",
        )
    ]
