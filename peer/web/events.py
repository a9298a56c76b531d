"""What happened, as a stream: a ring of the newest events, and server-sent events made from it.

A reader has no queue of its own, only a position in the ring: a slow or sleeping one costs nothing, and learns by a `gap` event how much
it missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

MAX_EVENTS = 10_000
"""Events kept for readers that come back: about three hours of a peer that exchanges once a second; some 4 MB."""

PING_S = 15.0
"""A comment after this much silence, so that a reader notices a daemon that is gone."""


class EventRing:
    """The newest MAX_EVENTS events with ids that only grow, across restarts too: the first is the start time in milliseconds."""

    def __init__(self, start_ms: int) -> None:
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self._next = start_ms
        self._news = asyncio.Event()
        self._is_closed = False

    @property
    def newest(self) -> int:
        """The id of the newest event (or, before the first, one less than that will have)."""
        return self._next - 1

    def publish(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Append one event and wake the readers."""
        self._events.append(_event(self._next, kind, facts))
        self._next += 1
        self._wake()

    def close(self) -> None:
        """End every stream, after the last event."""
        self._is_closed = True
        self._wake()

    async def follow(self, after: int | None) -> AsyncGenerator[bytes, None]:
        """Events with ids above `after` as they come (None: only new ones), as server-sent events, until the ring closes."""
        position = self._next if after is None else after + 1
        yield b"retry: 1000\n\n"
        while True:
            oldest = self._next - len(self._events)
            if not oldest <= position <= self._next:
                missed = oldest - position if position < oldest else None
                yield _event(oldest - 1, "gap", {"missed": missed})
                position = oldest
            while position < self._next:
                skipped = self._next - len(self._events)
                if position < skipped:
                    break
                event = self._events[position - skipped]
                position += 1
                yield event
            else:
                if self._is_closed:
                    return
                news = self._news
                try:
                    await asyncio.wait_for(news.wait(), PING_S)
                except TimeoutError:
                    yield b": ping\n\n"

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _event(number: int, kind: str, facts: Mapping[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), msgspec.json.encode(facts))
