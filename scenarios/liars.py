"""Peers that lie. A liar runs the same brain; what it learns from, or what it sends, is not what it should be.

sign_flip     its own moments and each turn's step with the opposite sign
noise         Gaussian noise of its own size on top of them
label_flip    class k taught as the last but k; numbers with the opposite sign
stale_replay  now and then sends once more what it sent before
silence       answers every proposal and then sends no state
garbage_bytes now and then random bytes instead of what it meant to say
false_sizes   claims another size than it sends
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

import numpy as np

from peer.learning.dataset import Rows
from protocol.frames import FrameReader, frame, message_frame
from protocol.messages import CHUNK_TYPE, MESSAGES, Accept, Commit, Done, Propose, decode_message
from protocol.tensors import Arrays

from .host import Host

OFTEN: Final = 0.1
"""Share of sendings at which a replay or garbage happens."""

MEMORY: Final = 50
"""Sendings that a replaying peer keeps."""


EXACT: Final = ("rows", "starter", "counts")
"""Not distorted: what they say must agree with each other, or the neighbours refuse at once."""


def make_liar(kind: str, host: Host, random: Random) -> None:
    """Turn a host into one. Raises KeyError for what is not in LIARS."""
    _MAKE[kind](host, random)


def _flip_sign(host: Host, random: Random) -> None:
    def distort(found: Arrays, before: Arrays | None) -> Arrays:
        if before is not None:
            return {n: 2 * before[n] - a for n, a in found.items()}
        return {n: a if n in EXACT else -a for n, a in found.items()}

    host.bench.distort = distort


def _add_noise(host: Host, random: Random) -> None:
    def distort(found: Arrays, before: Arrays | None) -> Arrays:
        noise = np.random.Generator(np.random.PCG64(random.getrandbits(63)))
        return {n: a if n in EXACT else a + noise.normal(size=np.shape(a)) * (np.abs(a).mean() + 1e-9) for n, a in found.items()}

    host.bench.distort = distort


def _flip_labels(host: Host, random: Random) -> None:
    rows, task = host.bench.rows, host.bench.task
    if rows is not None:
        host.bench.rows = Rows(rows.X, len(task.target.classes) - 1 - rows.y if task.is_classification else -rows.y, rows.notes)


def _replay(host: Host, random: Random) -> None:
    sent: list[bytes] = []

    def outgoing(data: bytes) -> list[bytes]:
        sent.append(data)
        del sent[:-MEMORY]
        return [data, random.choice(sent)] if len(sent) > 10 and random.random() < OFTEN else [data]

    host.outgoing = outgoing


def _be_silent(host: Host, random: Random) -> None:
    unsaid = {CHUNK_TYPE, *(code for code, kind in MESSAGES.items() if kind in (Commit, Done))}

    def outgoing(data: bytes) -> list[bytes]:
        return [frame(f.type, f.payload) for f in FrameReader().receive(data) if f.type not in unsaid]

    host.outgoing = outgoing


def _send_garbage(host: Host, random: Random) -> None:
    host.outgoing = lambda data: [random.randbytes(len(data)) if random.random() < OFTEN else data]


def _claim_false_sizes(host: Host, random: Random) -> None:
    def outgoing(data: bytes) -> list[bytes]:
        said = []
        for found in FrameReader().receive(data):
            is_claim = found.type in MESSAGES and MESSAGES[found.type] in (Propose, Accept)
            message = decode_message(found.type, found.payload) if is_claim else None
            if isinstance(message, Propose | Accept):
                said.append(message_frame(replace(message, size=max(message.size + random.choice((-8, 8, 1 << 20)), 1))))
            else:
                said.append(frame(found.type, found.payload))
        return said

    host.outgoing = outgoing


_MAKE: Final[dict[str, Callable[[Host, Random], None]]] = {
    "sign_flip": _flip_sign,
    "noise": _add_noise,
    "label_flip": _flip_labels,
    "stale_replay": _replay,
    "silence": _be_silent,
    "garbage_bytes": _send_garbage,
    "false_sizes": _claim_false_sizes,
}
