"""The ring of events and its streams."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from peer.web import events
from peer.web.events import EventRing


def parsed(piece: bytes) -> tuple[int, str, Any]:
    lines = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
    return int(lines["id"]), lines["event"], json.loads(lines["data"])


async def read(ring: EventRing, after: int | None) -> list[tuple[int, str, Any]]:
    """Everything up to the end of the ring, which is closed."""
    ring.close()
    return [parsed(piece) async for piece in ring.follow(after) if piece.startswith(b"id")]


def test_a_reader_that_comes_back_gets_what_it_missed_in_order() -> None:
    async def play() -> None:
        ring = EventRing(100)
        for n in range(5):
            ring.publish("score", {"n": n})
        found = await read(ring, 101)
        assert [(i, facts["n"]) for i, _, facts in found] == [(102, 2), (103, 3), (104, 4)]

    asyncio.run(play())


def test_a_new_reader_gets_only_what_is_new() -> None:
    async def play() -> None:
        ring = EventRing(100)
        ring.publish("old", {})
        stream = ring.follow(None)
        assert (await anext(stream)).startswith(b"retry")
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        ring.publish("new", {"text": "two\nlines"})
        assert parsed(await waiting) == (101, "new", {"text": "two\nlines"})
        await stream.aclose()

    asyncio.run(play())


@pytest.mark.parametrize(("after", "missed"), [(0, 100 + 3 - 1), (5_000_000, None)])
def test_a_reader_learns_that_events_are_lost(after: int, missed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENTS", 2)

    async def play() -> None:
        ring = EventRing(100)
        for n in range(5):
            ring.publish("score", {"n": n})
        gap, *rest = await read(ring, after)
        assert gap[1:] == ("gap", {"missed": missed})
        assert [i for i, _, _ in rest] == [103, 104]
        assert gap[0] == 102

    asyncio.run(play())


def test_a_sleeping_reader_costs_nothing_and_learns_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENTS", 3)

    async def play() -> None:
        ring = EventRing(1)
        stream = ring.follow(0)
        await anext(stream)
        ring.publish("a", {})
        assert parsed(await anext(stream))[0] == 1
        for _ in range(10):
            ring.publish("b", {})
        assert parsed(await anext(stream)) == (8, "gap", {"missed": 7})
        assert parsed(await anext(stream))[0] == 9

    asyncio.run(play())


def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_S", 0.01)

    async def play() -> None:
        stream = EventRing(1).follow(None)
        await anext(stream)
        assert (await anext(stream)).startswith(b":")

    asyncio.run(play())
