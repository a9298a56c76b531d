"""Frames: where one message ends and the next begins (SPEC 3.2).

    u8 type | u24 payload length, big-endian | payload

A frame is judged by its four-byte header: nobody makes this peer hold bytes, or wait for them, that it would refuse in the end. Types from
0x80 up are reserved for messages that an older peer may skip; any other unknown type is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .messages import CHUNK_TYPE, MAX_CONTROL_BYTES, MESSAGES, Message
from .tensors import MAX_CHUNK_BYTES

HEADER_BYTES: Final = 4

XID_BYTES: Final = 16
"""At the beginning of every chunk's payload."""

SKIPPED_FROM: Final = 0x80
"""Types from here up may be skipped by whoever does not know them."""


class FrameError(ValueError):
    """A frame that cannot be read on from."""


class FrameTooLarge(FrameError):
    """A header that announces more than its type may hold."""


class UnknownType(FrameError):
    """A type below 0x80 that this version does not have."""


class OverBudget(FrameError):
    """More than this peer takes before it knows whom it talks to."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came. What the payload means is `messages.py`'s."""

    type: int
    payload: bytes


def limit(type: int) -> int:
    """The largest payload of a frame of this type, in bytes. Raises UnknownType."""
    if type == CHUNK_TYPE:
        return XID_BYTES + MAX_CHUNK_BYTES
    if type in MESSAGES or type >= SKIPPED_FROM:
        return MAX_CONTROL_BYTES
    raise UnknownType(f"type 0x{type:02x}")


def frame(type: int, payload: bytes) -> bytes:
    """The bytes of one frame."""
    assert len(payload) <= limit(type), "every sender keeps its own messages within the limits"
    return b"".join((type.to_bytes(1, "big"), len(payload).to_bytes(3, "big"), payload))


def message_frame(message: Message) -> bytes:
    """The frame of a message."""
    return frame(message.TYPE, message.encode())


class FrameReader:
    """Cuts a stream into frames, however it was split on the way."""

    def __init__(self) -> None:
        self.budget: int | None = None
        """How many bytes of frames may still come; None if as many as they like. Counted by whole frames."""
        self._buffer = bytearray()

    def receive(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """Take in some bytes; the frames that are whole now.

        The iterator raises FrameError where the stream goes wrong, after the frames before it, so that where a stream was split makes no
        difference. The reader is of no use after that.
        """
        self._buffer += data
        return self._frames()

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._buffer)

    def _frames(self) -> Iterator[Frame]:
        while len(self._buffer) >= HEADER_BYTES:
            type, length = self._buffer[0], int.from_bytes(self._buffer[1:HEADER_BYTES], "big")
            if length > limit(type):
                raise FrameTooLarge(f"a frame of type 0x{type:02x} with {length} bytes; {limit(type)} at most")
            end = HEADER_BYTES + length
            if self.budget is not None and end > self.budget:
                raise OverBudget("too many bytes before the connection is open")
            if len(self._buffer) < end:
                return
            payload = bytes(memoryview(self._buffer)[HEADER_BYTES:end])
            del self._buffer[:end]
            if self.budget is not None:
                self.budget -= end
            yield Frame(type, payload)
