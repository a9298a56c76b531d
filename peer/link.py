"""One TLS connection, once its handshake is over: what leaves it, what comes in, and when it has to end.

Sending never waits: bytes are queued, and leave in slices, one each turn of the event loop, as fast as the other side takes them. Who takes
too little is cut off by one of two rules: too much waits (`queue_bytes`), or nothing was taken for `stall_s` and four times as long as a
slice should need at the rate measured so far. So a slow link lives, and a dead one does not hold memory for long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol, cast

from protocol.identity import PeerId
from protocol.messages import MAX_PAYLOAD_BYTES

from .admission import Place
from .events import Address, LinkId
from .sockets import in_words

STALL_FACTOR: Final = 4
"""Wi-Fi halves and doubles its rate within seconds; a factor of four below the measured one is still the same link."""

MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of every link. Sizes in bytes, times in seconds."""

    slice_bytes: int = 256 * 1024
    """Given to TLS at once: encrypting it takes 0.3 ms. 64 MiB at once would hold the event loop for 223 ms."""

    queue_bytes: int = MAX_PAYLOAD_BYTES + 2 * MEBIBYTE
    """Waiting to be sent. One state of the largest size, and the messages of a busy minute."""

    stall_s: float = 30.0
    """Nothing at all taken. The kernel tells of progress only when a third of its buffer (up to 4 MiB) is free again."""

    slowest_bytes_per_s: float = 16 * 1024.0
    """Rate assumed until one was measured, and the lowest that is believed."""

    linger_s: float = 5.0
    """From our last byte to the end of the connection: the other side has to take it and say goodbye."""


class Owner(Protocol):
    """What a link tells to whoever holds it."""

    def made(self, link: Link, transport: asyncio.Transport) -> str | None:
        """The handshake is over. Why this connection must not be, or None."""

    def received(self, link: Link, data: bytes) -> None: ...

    def lost(self, link: Link, reason: str) -> None:
        """The last call. Comes once for every `made` that returned None."""


class Link(asyncio.BufferedProtocol):
    """See the module. dialled: the address this peer asked for, None if the other side dialled; expected: who should answer there."""

    def __init__(
        self,
        owner: Owner,
        limits: Limits,
        buffer: memoryview,
        remote: Address,
        dialled: Address | None = None,
        expected: PeerId | None = None,
    ) -> None:
        self.remote, self.dialled, self.expected = remote, dialled, expected
        self.number: LinkId | None = None
        self.place: Place | None = None
        self.refusal: str | None = None
        """Why the owner did not take this connection."""
        self._owner, self._limits, self._buffer = owner, limits, buffer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._is_paused = self._is_scheduled = self._is_closing = False
        self._why: str | None = None
        self._rate = limits.slowest_bytes_per_s
        self._paused_at, self._paused_bytes = 0.0, 0
        self._timer: asyncio.TimerHandle | None = None

    # what the owner asks -----------------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Queue these bytes. The link is dropped if too many wait already; nothing happens if it is closing."""
        if self._transport is None or self._is_closing:
            return
        if self._queued_bytes + len(data) > self._limits.queue_bytes:
            return self.drop(f"the other side takes too little: more than {self._limits.queue_bytes / MEBIBYTE:.3g} MiB wait for it")
        self._queue.append(memoryview(data))
        self._queued_bytes += len(data)
        if not self._is_scheduled:
            self._pump()

    def close(self, why: str = "closed by this peer") -> None:
        """End the connection once everything queued has left. Nothing is received from now on."""
        if self._transport is None or self._is_closing:
            return
        self._is_closing, self._why = True, why
        waiting = self._queued_bytes + self._transport.get_write_buffer_size()
        self._watch(self._limits.linger_s + STALL_FACTOR * waiting / self._rate, why)
        if not self._is_scheduled:
            self._pump()

    def drop(self, why: str) -> None:
        """End the connection now, and what is queued with it."""
        self._is_closing, self._why = True, why
        self._queue.clear()
        self._queued_bytes = 0
        if self._transport is not None:
            self._transport.abort()

    def hold(self, is_held: bool) -> None:
        """Take nothing from the other side for a while, so that TCP slows it down."""
        if self._transport is not None and not self._transport.is_closing():
            if is_held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # what asyncio calls ------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.slice_bytes)
        self.refusal = self._owner.made(self, self._transport)
        if self.refusal is not None:
            self.drop(self.refusal)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._is_closing:
            self._owner.received(self, bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        """The other side has said its last; asyncio closes, and must not wait for ever for our last bytes to be taken."""
        if not self._is_closing:
            self._is_closing, self._why = True, "the other side hung up"
            self._queue.clear()
            self._watch(self._limits.linger_s, self._why)

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._is_paused = True
        self._paused_at, self._paused_bytes = self._loop.time(), self._transport.get_write_buffer_size()
        if not self._is_closing:
            patience = self._limits.stall_s + STALL_FACTOR * self._limits.slice_bytes / self._rate
            self._watch(patience, f"the other side took nothing for {patience:.0f} s")
        elif not self._is_scheduled:
            self._schedule()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._is_paused = False
        taken = self._paused_bytes - self._transport.get_write_buffer_size()
        measured = taken / max(self._loop.time() - self._paused_at, 0.001)
        self._rate = max((self._rate + measured) / 2, self._limits.slowest_bytes_per_s)
        if not self._is_closing:
            self._unwatch()
        if not self._is_scheduled:
            self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._queue.clear()
        self._queued_bytes = 0
        self._transport = None
        self._is_closing = True
        if self.refusal is None:
            self._owner.lost(self, self._why or ("the other side hung up" if exc is None else in_words(exc)))

    # the pump ----------------------------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Hand one slice to TLS; the next follows in the next turn of the loop, so that other links have theirs."""
        self._is_scheduled = False
        transport = self._transport
        if transport is None:
            return
        if self._queue and not self._is_paused and not transport.is_closing():
            first = self._queue[0]
            piece = first[: self._limits.slice_bytes]
            if len(piece) == len(first):
                self._queue.popleft()
            else:
                self._queue[0] = first[len(piece) :]
            self._queued_bytes -= len(piece)
            transport.write(piece)
        if self._queue and not self._is_paused and not self._is_scheduled:
            self._schedule()
        elif not self._queue and self._is_closing:
            self._finish(transport)

    def _finish(self, transport: asyncio.Transport) -> None:
        """Close, once TLS has handed on all that it holds: what it still held then would be lost."""
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() == 0:
            transport.close()
            self._watch(self._limits.linger_s, self._why or "")
        else:
            # From now on asyncio calls pause_writing or resume_writing when nothing is left, and we look again.
            transport.set_write_buffer_limits(high=0)

    def _watch(self, seconds: float, why: str) -> None:
        """Cut the connection off after so long, unless told otherwise."""
        self._unwatch()
        self._timer = self._loop.call_later(seconds, self.drop, why)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
