"""One connection: who speaks first, versions, what may be said when, ping, limits, and how it ends (SPEC 3).

The listener speaks first. In TLS 1.3 a dialer believes the handshake is over before the listener has checked its certificate; so a dialer
sends nothing until it holds the listener's HELLO. Then both have said HELLO, and anything may be said. A stranger at the door of an open
invite gets a HELLO as well, and answers it with JOIN, once.

Bytes in, events and bytes out; time is an argument. Nothing that arrives raises an exception: each fault becomes one CLOSE with the code of
the clause that is broken, and a closed connection ignores all that follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .frames import XID_BYTES, Frame, FrameError, FrameReader, FrameTooLarge, UnknownType, message_frame
from .messages import CHUNK_TYPE, MESSAGES, VERSION, Close, CloseCode, Hello, Join, Joined, Message, Ping, Pong, decode_message
from .wire import WireError

HELLO_S: Final = 10.0
"""Seconds until the other side must have said HELLO. A phone on bad Wi-Fi needs two; Syncthing allows 20."""

IDLE_S: Final = 15.0
"""Seconds of silence after which a side asks whether the other is there."""

DEAD_S: Final = 45.0
"""Seconds of silence after which the connection is given up: three pings unanswered."""

MAX_EARLY_BYTES: Final = 16 * 1024
"""What a side may send before HELLO is exchanged. A HELLO has about 200 bytes, a JOIN 300."""


class State(Enum):
    SILENT = auto()
    """Dialer: waits for the listener's HELLO and says nothing."""
    WAITING = auto()
    """Listener: has said HELLO, waits for the dialer's."""
    DOOR = auto()
    """Listener: has said HELLO to a stranger, who may JOIN."""
    JOINING = auto()
    """Dialer without a certificate: holds the listener's HELLO, asks to JOIN."""
    OPEN = auto()
    """Both have said HELLO."""
    CLOSED = auto()


MAY_RECEIVE: Final[Mapping[State, tuple[type[Message], ...]]] = {
    State.SILENT: (Hello, Close),
    State.WAITING: (Hello, Close),
    State.DOOR: (Join, Close),
    State.JOINING: (Joined, Close),
    State.OPEN: tuple(m for m in MESSAGES.values() if m not in (Hello, Join, Joined)),
    State.CLOSED: (),
}
"""What counts when it arrives in each state; anything else is BAD_STATE."""

MAY_SEND: Final[Mapping[State, tuple[type[Message], ...]]] = {
    State.DOOR: (Joined,),
    State.JOINING: (Join,),
    State.OPEN: MAY_RECEIVE[State.OPEN],
}
"""What the user of a connection may say in each state. HELLO, CLOSE, PING and PONG the connection says itself."""

AGREED: Final = frozenset({VERSION})


@dataclass(frozen=True, slots=True)
class Greeted:
    """Both sides have said HELLO and share a version."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class MessageReceived:
    message: Message


@dataclass(frozen=True, slots=True)
class ChunkReceived:
    xid: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over. `by_us` if the other side broke a rule or was silent; `reason` is for the log."""

    code: int
    by_us: bool
    reason: str


ConnectionEvent = Greeted | MessageReceived | ChunkReceived | Closed


class Connection:
    """See the module. `hello` is what this side says (None: it only joins); `is_member` is False where the dialer has no certificate."""

    def __init__(self, is_listener: bool, hello: Hello | None, *, is_member: bool = True) -> None:
        assert hello is not None or not (is_listener or is_member)
        self._hello = hello
        self._is_member = is_member
        self._reader = FrameReader()
        self._early_bytes = 0
        self._heard = self._said = 0.0
        self._started = 0.0
        self.state = State.SILENT if not is_listener else State.WAITING if is_member else State.DOOR

    def start(self, now: float) -> bytes:
        """Begin. What a listener says at once; nothing for a dialer."""
        self._started = self._heard = self._said = now
        is_listener = self.state is not State.SILENT
        return message_frame(self._hello) if is_listener and self._hello is not None else b""

    def receive(self, data: bytes, now: float) -> tuple[list[ConnectionEvent], bytes]:
        """Take in bytes. What they mean, and what to send back."""
        if self.state is State.CLOSED:
            return [], b""
        self._heard = now
        events: list[ConnectionEvent] = []
        out = bytearray()
        try:
            self._count_early(len(data))
            for frame in self._reader.receive(data):
                event, answer = self._take(frame)
                events += [event] if event is not None else []
                out += answer
                if isinstance(event, Closed):
                    break
        except (WireError, FrameError, _Fault) as error:
            code = _code(error)
            events.append(Closed(code, True, f"{type(error).__name__.lstrip('_')}: {error}"))
            out += self.close(code)
        if out:
            self._said = now
        return events, bytes(out)

    def send(self, message: Message) -> bytes:
        """The bytes of a message. Only what may be said in this state is said: a caller that errs is stopped here."""
        assert isinstance(message, MAY_SEND.get(self.state, ())), f"{type(message).__name__} in state {self.state.name}"
        return message_frame(message)

    def close(self, code: CloseCode) -> bytes:
        """End the connection. The bytes of CLOSE; none if it is closed already, or if this side may not speak yet."""
        if self.state is State.CLOSED:
            return b""
        may_speak = self.state is not State.SILENT
        self.state = State.CLOSED
        return message_frame(Close(code=int(code))) if may_speak else b""

    def tick(self, now: float) -> tuple[list[ConnectionEvent], bytes]:
        """Ask whether the other side is there, or give it up."""
        if self.state is State.CLOSED:
            return [], b""
        is_late = self.state is not State.OPEN and now >= self._started + HELLO_S
        if is_late or now >= self._heard + DEAD_S:
            reason = "no HELLO in time" if is_late else "silent for too long"
            return [Closed(CloseCode.TIMEOUT, True, reason)], self.close(CloseCode.TIMEOUT)
        if self.state is State.OPEN and now >= max(self._heard, self._said) + IDLE_S:
            self._said = now
            return [], message_frame(Ping())
        return [], b""

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        if self.state is State.CLOSED:
            return None
        if self.state is not State.OPEN:
            return self._started + HELLO_S
        return min(max(self._heard, self._said) + IDLE_S, self._heard + DEAD_S)

    def _count_early(self, size: int) -> None:
        if self.state is not State.OPEN:
            self._early_bytes += size
            if self._early_bytes > MAX_EARLY_BYTES:
                raise _Fault(CloseCode.LIMIT, f"more than {MAX_EARLY_BYTES} bytes before HELLO")

    def _take(self, frame: Frame) -> tuple[ConnectionEvent | None, bytes]:
        if frame.type == CHUNK_TYPE:
            if self.state is not State.OPEN:
                raise _Fault(CloseCode.BAD_STATE, "a chunk before HELLO")
            if len(frame.payload) <= XID_BYTES:
                raise _Fault(CloseCode.PROTOCOL, "a chunk without state")
            return ChunkReceived(frame.payload[:XID_BYTES], frame.payload[XID_BYTES:]), b""
        message = decode_message(frame.type, frame.payload)
        if not isinstance(message, MAY_RECEIVE[self.state]):
            raise _Fault(CloseCode.BAD_STATE, f"{type(message).__name__} in state {self.state.name}")
        match message:
            case Hello():
                return self._greeted(message)
            case Close(code):
                self.state = State.CLOSED
                return Closed(code, False, f"the other side closed: {close_name(code)}"), b""
            case Ping():
                return None, message_frame(Pong())
            case Pong():
                return None, b""
        return MessageReceived(message), b""

    def _greeted(self, hello: Hello) -> tuple[ConnectionEvent, bytes]:
        was, self.state = self.state, State.OPEN if self._is_member else State.JOINING
        if not AGREED & set(hello.versions):
            raise _Fault(CloseCode.VERSION, f"the other side speaks versions {hello.versions}, we speak {sorted(AGREED)}")
        is_dialer = was is State.SILENT
        return Greeted(hello), message_frame(self._hello) if is_dialer and self._hello is not None else b""


class _Fault(Exception):
    """A broken rule of this module, with its code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def close_name(code: int) -> str:
    """A close code in words; codes of later versions by number."""
    return CloseCode(code).name.lower().replace("_", " ") if code in {c.value for c in CloseCode} else f"code {code}"


def _code(error: Exception) -> CloseCode:
    match error:
        case _Fault():
            return error.code
        case FrameTooLarge():
            return CloseCode.FRAME_TOO_LARGE
        case UnknownType():
            return CloseCode.UNKNOWN_TYPE
    return CloseCode.PROTOCOL
