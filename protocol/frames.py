"""Length-prefixed frames: how a stream of bytes is cut into messages and chunks (SPEC 3.3).

    type u8 | payload length u24, big-endian | payload

The type decides how long the payload may be, so a claim is refused on the header, before a byte of the payload is waited for. Types from
0x80 on are for extensions: unknown ones are skipped. Unknown types below are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .messages import CHUNK_TYPE, MAX_CONTROL_BYTES, MESSAGES, Message
from .tensors import MAX_CHUNK_BYTES

HEADER_BYTES: Final = 4
XID_BYTES: Final = 16
FIRST_SKIPPED_TYPE: Final = 0x80
MAX_CHUNK_PAYLOAD_BYTES: Final = XID_BYTES + MAX_CHUNK_BYTES


class FrameError(ValueError):
    """A stream that cannot be cut into frames any further."""


class FrameTooLarge(FrameError):
    """A header claims more than its type may have."""


class UnknownType(FrameError):
    """A type below 0x80 that is no message's."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `type` is a message's number or CHUNK_TYPE; frames to be skipped never get here."""

    type: int
    payload: bytes


def frame(number: int, payload: bytes) -> bytes:
    """The bytes of one frame."""
    assert len(payload) <= limit(number)
    return bytes((number,)) + len(payload).to_bytes(3, "big") + payload


def message_frame(message: Message) -> bytes:
    """The bytes of the frame that carries this message."""
    return frame(message.TYPE, message.encode())


def limit(number: int) -> int:
    """The longest payload of a type, in bytes."""
    return MAX_CHUNK_PAYLOAD_BYTES if number == CHUNK_TYPE else MAX_CONTROL_BYTES


class FrameReader:
    """Cuts a stream into frames. Feed it bytes as they come; it holds back what is not yet whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes held back: at most one frame's, since a longer claim is refused."""
        return len(self._buffer)

    def receive(self, data: bytes | memoryview) -> Iterator[Frame]:
        """The frames that are whole now. Raises FrameTooLarge or UnknownType when it comes to such a header, after the frames before it."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= HEADER_BYTES:
                number = self._buffer[start]
                size = int.from_bytes(self._buffer[start + 1 : start + HEADER_BYTES], "big")
                if number not in MESSAGES and number != CHUNK_TYPE and number < FIRST_SKIPPED_TYPE:
                    raise UnknownType(f"type {number:#04x}")
                if size > limit(number):
                    raise FrameTooLarge(f"{size} bytes of type {number:#04x}; {limit(number)} at most")
                end = start + HEADER_BYTES + size
                if end > len(self._buffer):
                    break
                if number < FIRST_SKIPPED_TYPE:
                    yield Frame(number, bytes(memoryview(self._buffer)[start + HEADER_BYTES : end]))
                start = end
        finally:
            del self._buffer[:start]
