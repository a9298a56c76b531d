"""What happened in a run, in order: what the peers told, and the faults. One seed, one trace, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgpack

AROUND: Final = 50
"""Events that are shown with a violation: as many as fit on a screen."""


class Trace:
    """A list of {at, peer, kind, facts}; `peer` is -1 for what happens to the network as a whole."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, at: float, peer: int, kind: str, facts: Mapping[str, Any]) -> None:
        self.events.append({"at": round(at, 6), "peer": peer, "kind": kind, "facts": facts})

    def last(self, count: int = AROUND) -> tuple[dict[str, Any], ...]:
        return tuple(self.events[-count:])


def packed(events: list[dict[str, Any]]) -> bytes:
    """A trace as it is written to trace.msgpack: the same bytes for the same events."""
    return b"".join(msgpack.packb({**e, "facts": {k: e["facts"][k] for k in sorted(e["facts"])}}) for e in events)


def digest(events: list[dict[str, Any]]) -> str:
    """SHA-256 of a trace, to compare two runs."""
    return hashlib.sha256(packed(events)).hexdigest()
