"""One link over a transport of our own making: slices, patience, and that nothing is lost at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from peer.link import Limits, Link

MIB = 1024 * 1024


class Pipe(asyncio.Transport):
    """Takes what TLS would; `held` is what TLS has not handed on yet."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.held = 0
        self.end: str | None = None

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.held

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def is_closing(self) -> bool:
        return self.end is not None

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = "aborted"


class Holder:
    """Whoever holds the link; `refusal` is its answer to a new one."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.got: list[bytes] = []
        self.ends: list[str] = []

    def made(self, link: Link, transport: asyncio.Transport) -> str | None:
        return self.refusal

    def received(self, link: Link, data: bytes) -> None:
        self.got.append(data)

    def lost(self, link: Link, reason: str) -> None:
        self.ends.append(reason)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def make(holder: Holder | None = None, **limits: Any) -> tuple[Link, Pipe]:
    chosen = Limits(**limits)
    link, pipe = Link(holder or Holder(), chosen, memoryview(bytearray(chosen.slice_bytes)), ("10.0.0.1", 1)), Pipe()
    link.connection_made(pipe)
    return link, pipe


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def ended(pipe: Pipe, how: str) -> None:
    async with asyncio.timeout(10):
        while pipe.end != how:  # noqa: ASYNC110 (a timer of the link's own sets it)
            await asyncio.sleep(0.005)


def test_bytes_leave_in_order_and_one_slice_a_turn() -> None:
    async def work() -> None:
        link, pipe = make(slice_bytes=4)
        link.send(b"abcdefghij")
        link.send(b"kl")
        assert pipe.written == [b"abcd"]
        await turns(1)
        assert pipe.written == [b"abcd", b"efgh"]
        await turns(5)
        assert b"".join(pipe.written) == b"abcdefghijkl"
        assert max(map(len, pipe.written)) == 4

    run(work)


def test_nothing_is_written_while_tls_is_full() -> None:
    async def work() -> None:
        link, pipe = make(slice_bytes=4)
        pipe.held = 8
        link.pause_writing()
        link.send(b"abcdefgh")
        await turns(3)
        assert pipe.written == []
        pipe.held = 0
        link.resume_writing()
        await turns(4)
        assert b"".join(pipe.written) == b"abcdefgh"

    run(work)


def test_a_connection_is_closed_only_when_tls_has_handed_on_all_it_holds() -> None:
    async def work() -> None:
        link, pipe = make()
        link.send(b"the last words")
        pipe.held = 14
        link.close()
        await turns(3)
        assert pipe.end is None
        assert pipe.high == 0
        pipe.held = 0
        link.pause_writing()  # asyncio says so even when the buffer has just become empty
        await turns(2)
        assert pipe.end == "closed"

    run(work)


def test_a_close_that_is_not_answered_ends_in_an_abort() -> None:
    async def work() -> None:
        link, pipe = make(linger_s=0.02, slowest_bytes_per_s=1.0)
        pipe.held = 1000
        link.close()
        await asyncio.sleep(0.1)
        assert pipe.end is None, "a slow receiver has time to take what is left"
        pipe.held = 0
        link.pause_writing()
        await turns(2)
        assert pipe.end == "closed"
        await ended(pipe, "aborted")

    run(work)


def test_patience_grows_with_the_slowness_that_was_measured() -> None:
    async def work() -> None:
        link, pipe = make(stall_s=0.0, slice_bytes=100, slowest_bytes_per_s=1.0)
        for held, seconds in ((100, 0.02), (100, 0.02)):
            pipe.held = held
            link.pause_writing()
            await asyncio.sleep(seconds)
            pipe.held = 0
            link.resume_writing()
        assert pipe.end is None
        # Some thousands of bytes a second were taken lately, so the 400 s that were granted at first have become a fraction of one.
        pipe.held = 100
        link.pause_writing()
        await ended(pipe, "aborted")

    run(work)


def test_a_refused_link_is_cut_off_and_told_to_nobody() -> None:
    async def work() -> None:
        holder = Holder("no")
        link, pipe = make(holder)
        assert (link.refusal, pipe.end) == ("no", "aborted")
        link.connection_lost(None)
        assert holder.ends == []

    run(work)


def test_calls_after_the_end_do_nothing() -> None:
    async def work() -> None:
        holder = Holder()
        link, pipe = make(holder)
        link.connection_lost(ConnectionResetError())
        for call in (lambda: link.send(b"x"), link.close, lambda: link.drop("x"), lambda: link.hold(True)):
            call()
        await turns(2)
        assert pipe.written == []
        assert holder.ends == ["the other side hung up"]

    run(work)
