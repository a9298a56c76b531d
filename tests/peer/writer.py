"""A process that commits to a store until it is killed: `python writer.py FOLDER`, then a line on its standard input.

It prints each step's number when its commit has returned. Step k leaves one state, one prepared half, one applied xid, all of them k.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from peer.saved import AddScore, Apply, HoldState, KeepSequence, Prepare, Settle
from peer.store import Store
from protocol.exchange import Epoch

TASK, PEER, SELF = b"t" * 32, b"p" * 32, b"s" * 32
LARGE, SMALL = 150_000, 10
"""Numbers in an array: 1.2 MB, which goes to a file, and 80 bytes, which do not."""


def step(k: int) -> tuple[Any, ...]:
    size = LARGE if k % 3 else SMALL
    return (
        HoldState(TASK, "weights", Epoch(k, SELF), {"w": np.full(size, k, float)}, {"k": k}),
        Prepare(xid(k), TASK, "weights", PEER, Epoch(k, SELF), {"w": np.full(LARGE + SMALL - size, k, float)}),
        Settle(xid(k - 1)),
        Apply(xid(k), TASK, "weights", PEER),
        KeepSequence(k),
        AddScore(TASK, float(k), k, 0.5),
    )


def xid(k: int) -> bytes:
    return k.to_bytes(16, "big")


def steps_from(first: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    return ((k, step(k)) for k in count(first))


if __name__ == "__main__":
    sys.stdin.readline()
    store = Store(Path(sys.argv[1]))
    for number, records in steps_from(store.load().sequence + 1):
        store.commit(records)
        print(number, flush=True)
