"""Every message of the protocol, declared once: its number, its fields and their bounds (SPEC 4).

A message is the payload of one frame (`frames.py`); its number is the frame's type. Encoding and decoding are `wire.py`'s. Messages carry
no floating-point numbers: weights are counts of rows, times are whole milliseconds, so that every language writes them alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from .wire import Bytes, Choice, Many, Structure, Text, UInt, decode, optional, wire

VERSION: Final = 1
"""The one version of the protocol there is."""

MAX_CONTROL_BYTES: Final = 64 * 1024
"""Payload of a control message. The largest we send is a task card of 1,024 columns, about 50 KiB; memberlist allows 20 MiB."""

MAX_PAYLOAD_BYTES: Final = 64 * 1024 * 1024
"""State of one exchange, by default. A 64 MiB model is 16 million f32 parameters."""

MAX_TASK_CARD_BYTES: Final = 62 * 1024
"""A task card: the largest body a card may have (`cards.MAX_BODY_BYTES`) with its signature. What can be signed can be sent."""

DIGEST: Final = Bytes(32, 32)
PEER: Final = Bytes(32, 32)
XID: Final = Bytes(16, 16)

PARTS: Final = ("statistics", "weights")
ENCODINGS: Final = ("f64", "f32", "f16", "int8")
REASONS: Final = (
    "busy",
    "unknown-task",
    "not-taking-part",
    "epoch",
    "schema",
    "encoding",
    "nothing-yet",
    "ended",
    "policy",
)


class CloseCode(IntEnum):
    """Why a connection ends (SPEC 3.8). A stranger at the door learns INVITE_REFUSED, not why."""

    NORMAL = 0
    PROTOCOL = 1
    VERSION = 2
    FRAME_TOO_LARGE = 3
    UNKNOWN_TYPE = 4
    BAD_STATE = 5
    NOT_MEMBER = 6
    REVOKED = 7
    SELF_CONNECT = 8
    DUPLICATE_CONNECTION = 9
    TIMEOUT = 10
    LIMIT = 11
    INVITE_REFUSED = 12
    SHUTDOWN = 13
    INTERNAL = 14


class Message(Structure):
    """Base of all messages."""

    __slots__ = ()
    TYPE: ClassVar[int]


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """First message of each side; the listener's goes first (SPEC 3.3). `revocations` and `tasks` are digests of what the sender knows."""

    TYPE: ClassVar[int] = 0x01
    versions: tuple[int, ...] = wire(Many(UInt(1, 255), 16, low=1))
    agent: str = wire(Text(64))
    capabilities: tuple[str, ...] = wire(Many(Text(32), 32))
    revocations: bytes = wire(DIGEST)
    tasks: bytes = wire(DIGEST)


@dataclass(frozen=True, slots=True)
class Close(Message):
    """Last message of a side that ends the connection."""

    TYPE: ClassVar[int] = 0x02
    code: int = wire(UInt(0, 255))


@dataclass(frozen=True, slots=True)
class Ping(Message):
    TYPE: ClassVar[int] = 0x03


@dataclass(frozen=True, slots=True)
class Pong(Message):
    TYPE: ClassVar[int] = 0x04


@dataclass(frozen=True, slots=True)
class Revocation(Message):
    """One signed revocation (`identity.py`), pushed before anything else to whoever may not know it."""

    TYPE: ClassVar[int] = 0x05
    card: bytes = wire(Bytes(1, 4096))


@dataclass(frozen=True, slots=True)
class TaskCard(Message):
    """One signed task card (`tasks.py`), pushed to whoever may not know it."""

    TYPE: ClassVar[int] = 0x06
    card: bytes = wire(Bytes(1, MAX_TASK_CARD_BYTES))


@dataclass(frozen=True, slots=True)
class Records(Message):
    """Some signed peer records (`records.py`): the sender's own first, then a sample of its view."""

    TYPE: ClassVar[int] = 0x07
    cards: tuple[bytes, ...] = wire(Many(Bytes(1, 2048), 16, low=1))


@dataclass(frozen=True, slots=True)
class Propose(Message):
    """The initiator offers an exchange and says what it will send: `size` bytes with this digest, in this encoding (SPEC 5.2).

    `schema` is the digest of the manifest; `weight` is 1 for statistics and the rows trained on for weights.
    """

    TYPE: ClassVar[int] = 0x10
    xid: bytes = wire(XID)
    task: bytes = wire(DIGEST)
    part: str = wire(Choice(PARTS))
    epoch: int = wire(UInt(0, 2**53))
    starter: bytes = wire(PEER)
    schema: bytes = wire(DIGEST)
    encoding: str = wire(Choice(ENCODINGS))
    weight: int = wire(UInt(1, 2**40))
    size: int = wire(UInt(0, 2**40))
    digest: bytes = wire(DIGEST)


@dataclass(frozen=True, slots=True)
class Accept(Message):
    """The responder agrees, and says what it will send. Task, part, epoch, schema and encoding are the proposal's."""

    TYPE: ClassVar[int] = 0x11
    xid: bytes = wire(XID)
    weight: int = wire(UInt(1, 2**40))
    size: int = wire(UInt(0, 2**40))
    digest: bytes = wire(DIGEST)


@dataclass(frozen=True, slots=True)
class Refuse(Message):
    """No exchange (or no result) under this xid. `epoch` and `starter` say where the refuser is, when that is the reason."""

    TYPE: ClassVar[int] = 0x12
    xid: bytes = wire(XID)
    reason: str = wire(Choice(REASONS))
    retry_ms: int = wire(UInt(0, 3_600_000))
    epoch: int | None = optional(UInt(0, 2**53))
    starter: bytes | None = optional(PEER)


@dataclass(frozen=True, slots=True)
class Commit(Message):
    """The initiator has its half on disk. `digest` is that of both snapshots (SPEC 5.4)."""

    TYPE: ClassVar[int] = 0x13
    xid: bytes = wire(XID)
    digest: bytes = wire(DIGEST)


@dataclass(frozen=True, slots=True)
class Done(Message):
    """The responder has applied its half; the initiator must."""

    TYPE: ClassVar[int] = 0x14
    xid: bytes = wire(XID)


@dataclass(frozen=True, slots=True)
class Aborted(Message):
    """Nothing was or will be applied under this xid. Either side may send it."""

    TYPE: ClassVar[int] = 0x15
    xid: bytes = wire(XID)


@dataclass(frozen=True, slots=True)
class Resolve(Message):
    """An initiator in doubt asks what became of its COMMIT, on any connection to that responder (SPEC 5.5)."""

    TYPE: ClassVar[int] = 0x16
    xid: bytes = wire(XID)
    task: bytes = wire(DIGEST)


@dataclass(frozen=True, slots=True)
class Fetch(Message):
    """Ask for the result a neighbour published last. `xid` names the answer and its chunks."""

    TYPE: ClassVar[int] = 0x18
    xid: bytes = wire(XID)
    task: bytes = wire(DIGEST)
    part: str = wire(Choice(PARTS))


@dataclass(frozen=True, slots=True)
class Result(Message):
    """The published result: what an epoch ended with. `size` bytes of chunks under `xid` follow."""

    TYPE: ClassVar[int] = 0x19
    xid: bytes = wire(XID)
    epoch: int = wire(UInt(0, 2**53))
    starter: bytes = wire(PEER)
    encoding: str = wire(Choice(ENCODINGS))
    size: int = wire(UInt(0, 2**40))
    digest: bytes = wire(DIGEST)


@dataclass(frozen=True, slots=True)
class Join(Message):
    """On a connection without a client certificate, in answer to HELLO: ask for membership with an invite's token (SPEC 6.3).

    `key` and `inviter_key` are raw Ed25519 public keys; `proof` is `key`'s signature over the token and the listener's key hash.
    """

    TYPE: ClassVar[int] = 0x20
    token: bytes = wire(Bytes(16, 16))
    name: str = wire(Text(64))
    key: bytes = wire(Bytes(32, 32))
    proof: bytes = wire(Bytes(64, 64))
    inviter_key: bytes | None = optional(Bytes(32, 32))


@dataclass(frozen=True, slots=True)
class Joined(Message):
    """Membership: DER certificates. `inviter` is the authority that signed `leaf`; `authority` the joiner's own, if it may invite."""

    TYPE: ClassVar[int] = 0x21
    root: bytes = wire(Bytes(1, 4096))
    inviter: bytes = wire(Bytes(1, 4096))
    leaf: bytes = wire(Bytes(1, 4096))
    authority: bytes | None = optional(Bytes(1, 4096))


@dataclass(frozen=True, slots=True)
class Renew(Message):
    """A member asks an inviter for a new leaf for the key it is connected with."""

    TYPE: ClassVar[int] = 0x22


@dataclass(frozen=True, slots=True)
class Renewed(Message):
    """The new leaf and the authority that signed it, as DER."""

    TYPE: ClassVar[int] = 0x23
    inviter: bytes = wire(Bytes(1, 4096))
    leaf: bytes = wire(Bytes(1, 4096))


CHUNK_TYPE: Final = 0x30
"""A chunk is no map: its payload is a 16-byte xid, then raw bytes of the state, in order (SPEC 5.3)."""

_CONNECTION: Final = (Hello, Close, Ping, Pong, Revocation, TaskCard, Records)
_EXCHANGE: Final = (Propose, Accept, Refuse, Commit, Done, Aborted, Resolve, Fetch, Result)
_MEMBERSHIP: Final = (Join, Joined, Renew, Renewed)

MESSAGES: Final[dict[int, type[Message]]] = {m.TYPE: m for m in (*_CONNECTION, *_EXCHANGE, *_MEMBERSHIP)}


def decode_message(number: int, payload: bytes) -> Message:
    """The message of this type in this payload. Raises WireError; KeyError if the type is not a message's."""
    return decode(MESSAGES[number], payload)
