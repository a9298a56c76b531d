"""One connection: who speaks first, versions, what may be said when, ping, limits, and how it ends (SPEC 3).

The listener speaks first. In TLS 1.3 a dialer believes the handshake is over before the listener has checked its certificate; so a dialer
sends nothing until it holds the listener's HELLO. Then it says HELLO too, and anything may be said. A stranger at the door of an open
invite gets a HELLO as well, answers it with JOIN, once, and is told JOINED or turned away.

Bytes in, events and bytes out; time is an argument. Nothing that arrives raises an exception: each fault becomes one CLOSE with the code of
the clause that is broken, and a closed connection ignores all that follows. Where the stream was split on its way makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .frames import SKIPPED_FROM, XID_BYTES, Frame, FrameError, FrameReader, FrameTooLarge, OverBudget, UnknownType, message_frame
from .messages import CHUNK_TYPE, MESSAGES, VERSION, Close, CloseCode, Hello, Join, Joined, Message, Ping, Pong, decode_message
from .wire import WireError

GREETING_S: Final = 10.0
"""Seconds that a connection may take in each state but OPEN. A phone on bad Wi-Fi needs two for HELLO; Syncthing allows 20."""

IDLE_S: Final = 15.0
"""Seconds without a message after which a side says PING. Chunks do not count: whoever takes in a long transfer says PING through it, for
its sender hears nothing else, and the sender's own PING waits behind the chunks."""

DEAD_S: Final = 45.0
"""Seconds of silence after which the connection is given up: two pings unanswered, as long again to spare."""

MAX_EARLY_BYTES: Final = 16 * 1024
"""What a peer takes in before the other side has said HELLO, or JOIN. A HELLO has 150 to 1,300 bytes, a JOIN about 300."""


class State(Enum):
    SILENT = auto()
    """Dialer: awaits the listener's HELLO and says nothing."""
    WAITING = auto()
    """Listener: has said HELLO, awaits the member's."""
    OPEN = auto()
    """Both have said HELLO."""
    DOOR = auto()
    """Listener: has said HELLO to a stranger, awaits JOIN."""
    ADMITTING = auto()
    """Listener: holds a JOIN, to be answered with JOINED or CLOSE."""
    SEEKING = auto()
    """Dialer without a certificate: awaits the listener's HELLO and says nothing."""
    JOINING = auto()
    """Dialer without a certificate: holds the listener's HELLO, says JOIN, awaits JOINED."""
    JOINED = auto()
    """Dialer without a certificate: has what it came for. Only CLOSE is left to say."""
    CLOSED = auto()


BETWEEN_MEMBERS: Final = tuple(m for m in MESSAGES.values() if m not in (Hello, Join, Joined))

TRANSITIONS: Final[Mapping[tuple[State, type[Message]], State]] = {
    (State.SILENT, Hello): State.OPEN,
    (State.WAITING, Hello): State.OPEN,
    **{(State.OPEN, message): State.OPEN for message in BETWEEN_MEMBERS},
    (State.DOOR, Join): State.ADMITTING,
    (State.SEEKING, Hello): State.JOINING,
    (State.JOINING, Joined): State.JOINED,
    **{(state, Close): State.CLOSED for state in State},
}
"""What a message that arrives leads to. What is not here is BAD_STATE."""

MAY_SEND: Final[Mapping[State, tuple[type[Message], ...]]] = {
    State.OPEN: BETWEEN_MEMBERS,
    State.ADMITTING: (Joined,),
    State.JOINING: (Join,),
}
"""What the user of a connection may say. HELLO, PING and PONG the connection says itself; CLOSE is `close`'s."""

MUTE: Final = (State.SILENT, State.SEEKING)
"""Nothing at all may be sent in these, CLOSE included."""

EARLY: Final = (State.SILENT, State.WAITING, State.DOOR, State.ADMITTING, State.SEEKING)
"""The other side has not said yet who it is, or is a stranger: MAX_EARLY_BYTES holds."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """The other side has said HELLO, and there is a version that both speak."""

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


class Fault(Exception):
    """A rule of this module is broken; `code` says which."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Connection:
    """See the module. `hello` is what this side says (None: it only joins); `is_member` is False where the dialer has no certificate."""

    def __init__(self, is_listener: bool, hello: Hello | None, *, is_member: bool = True) -> None:
        assert hello is not None or not (is_listener or is_member)
        self._hello = hello
        self._versions = hello.versions if hello is not None else (VERSION,)
        self._is_listener = is_listener
        self._reader = FrameReader()
        self._reader.budget = MAX_EARLY_BYTES
        self._heard = self._told = self._asked = self._entered = -math.inf
        first = {(True, True): State.WAITING, (True, False): State.DOOR, (False, True): State.SILENT, (False, False): State.SEEKING}
        self.state = first[is_listener, is_member]

    def start(self, now: float) -> bytes:
        """Begin. What a listener says at once; nothing for a dialer."""
        self._heard = self._told = self._asked = self._entered = now
        return message_frame(self._hello) if self._is_listener and self._hello is not None else b""

    def receive(self, data: bytes | memoryview, now: float) -> tuple[list[ConnectionEvent], bytes]:
        """Take in bytes. What they mean, and what to send before anything else that is said in answer to them."""
        if self.state is State.CLOSED:
            return [], b""
        self._heard = now
        events: list[ConnectionEvent] = []
        answers: list[bytes] = []
        try:
            for frame in self._reader.receive(data):
                event, answer = self._take(frame, now)
                if event is not None:
                    events.append(event)
                answers.append(answer)
                if isinstance(event, Closed):
                    break
        except (WireError, FrameError, Fault) as error:
            code = _code(error)
            events.append(Closed(code, True, f"{type(error).__name__}: {error}"))
            answers.append(self.close(code))
        return events, b"".join(answers)

    def send(self, message: Message) -> bytes:
        """The bytes of a message; none if the connection is closed by now, for the news of that may still be on its way to the caller.

        A caller that would say in another state what may not be said there is stopped here.
        """
        if self.state is State.CLOSED:
            return b""
        assert isinstance(message, MAY_SEND.get(self.state, ())), f"{type(message).__name__} in state {self.state.name}"
        return message_frame(message)

    def close(self, code: CloseCode) -> bytes:
        """End the connection. The bytes of CLOSE; none if it is closed already, or if this side may not speak yet."""
        if self.state is State.CLOSED:
            return b""
        may_speak = self.state not in MUTE
        self.state = State.CLOSED
        return message_frame(Close(code=int(code))) if may_speak else b""

    def tick(self, now: float) -> tuple[list[ConnectionEvent], bytes]:
        """Ask whether the other side is there, or give it up."""
        if now < self.next_deadline():
            return [], b""
        if self.state is State.OPEN and now < self._heard + DEAD_S:
            self._asked = now
            return [], message_frame(Ping())
        reason = "silent for too long" if self.state is State.OPEN else "no greeting in time"
        return [Closed(CloseCode.TIMEOUT, True, reason)], self.close(CloseCode.TIMEOUT)

    def next_deadline(self) -> float:
        """When `tick` has something to do; infinity if the connection is closed."""
        if self.state is State.CLOSED:
            return math.inf
        if self.state is not State.OPEN:
            return self._entered + GREETING_S
        return min(max(self._told, self._asked) + IDLE_S, self._heard + DEAD_S)

    def _take(self, frame: Frame, now: float) -> tuple[ConnectionEvent | None, bytes]:
        if frame.type == CHUNK_TYPE:
            return self._chunk(frame.payload), b""
        if frame.type >= SKIPPED_FROM:
            return None, b""
        self._told = now
        kind = MESSAGES[frame.type]
        after = TRANSITIONS.get((self.state, kind))
        if after is None:
            raise Fault(CloseCode.BAD_STATE, f"{kind.__name__} in state {self.state.name}")
        message = decode_message(frame.type, frame.payload)
        if isinstance(message, Hello) and not set(self._versions) & set(message.versions):
            self.state = State.WAITING  # a dialer may say why it hangs up: it holds a HELLO
            raise Fault(CloseCode.VERSION, f"the other side speaks {message.versions}, this one {self._versions}")
        before = self.state
        if after is not before:
            self._enter(after, now)
        match message:
            case Hello():
                return Greeted(message), message_frame(self._hello) if before is State.SILENT and self._hello is not None else b""
            case Close(code):
                return Closed(code, False, f"the other side closed: {close_name(code)}"), b""
            case Ping():
                return None, message_frame(Pong())
            case Pong():
                return None, b""
        return MessageReceived(message), b""

    def _chunk(self, payload: bytes) -> ChunkReceived:
        if self.state is not State.OPEN:
            raise Fault(CloseCode.BAD_STATE, f"a chunk in state {self.state.name}")
        if len(payload) <= XID_BYTES:
            raise Fault(CloseCode.PROTOCOL, "a chunk without state")
        return ChunkReceived(payload[:XID_BYTES], payload[XID_BYTES:])

    def _enter(self, state: State, now: float) -> None:
        self.state, self._entered = state, now
        if state not in EARLY:
            self._reader.budget = None


def close_name(code: int) -> str:
    """A close code in words; codes of later versions by number."""
    return CloseCode(code).name.lower().replace("_", " ") if code in {c.value for c in CloseCode} else f"code {code}"


def _code(error: Exception) -> CloseCode:
    match error:
        case Fault():
            return error.code
        case FrameTooLarge():
            return CloseCode.FRAME_TOO_LARGE
        case UnknownType():
            return CloseCode.UNKNOWN_TYPE
        case OverBudget():
            return CloseCode.LIMIT
    return CloseCode.PROTOCOL
