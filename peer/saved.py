"""Everything a peer makes durable, declared once. `Node` asks with Persist; `store.py` writes; after a crash `Saved` is what is left.

One Persist is one transaction: all of its records are on disk, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from protocol.exchange import Epoch
from protocol.identity import PeerId
from protocol.tensors import Arrays

from .events import Seconds, TaskId


@dataclass(frozen=True, slots=True)
class HoldState:
    """What this peer holds of one part of a task now (replaces what it held). `facts` are plain numbers and booleans."""

    task: TaskId
    part: str
    epoch: Epoch
    arrays: Arrays
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeepResult:
    """A published result: what an epoch ended with, in use until the next ends (replaces the one before)."""

    task: TaskId
    part: str
    epoch: Epoch
    arrays: Arrays
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prepare:
    """The initiator's half of an exchange, before COMMIT: what it will add if the responder applied."""

    xid: bytes
    task: TaskId
    part: str
    partner: PeerId
    epoch: Epoch
    delta: Arrays


@dataclass(frozen=True, slots=True)
class Settle:
    """The outcome of a prepared exchange is known; forget it. (The new state, if it moved, is a HoldState beside it.)"""

    xid: bytes


@dataclass(frozen=True, slots=True)
class Apply:
    """The responder applied this exchange (its new state is a HoldState beside it). One is kept per partner, task and part: an initiator
    proposes again only when the one before is settled."""

    xid: bytes
    task: TaskId
    part: str
    partner: PeerId


@dataclass(frozen=True, slots=True)
class KeepTask:
    """A task card, and what the owner decided: "offered", "accepted" or "left"."""

    task: TaskId
    card: bytes
    decision: str


@dataclass(frozen=True, slots=True)
class EraseTask:
    """Delete states, results, prepared halves and scores of a task. The card and the decision stay."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class KeepRevocation:
    card: bytes


@dataclass(frozen=True, slots=True)
class KeepRecord:
    """The newest record of a peer."""

    peer: PeerId
    card: bytes


@dataclass(frozen=True, slots=True)
class ForgetRecord:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class KeepCertificate:
    """The leaf a peer was last seen with (DER): an inviter needs it to revoke."""

    peer: PeerId
    leaf: bytes


@dataclass(frozen=True, slots=True)
class KeepInvite:
    """An open invite, by the SHA-256 of its token."""

    digest: bytes
    expires: Seconds
    may_invite: bool


@dataclass(frozen=True, slots=True)
class SpendInvite:
    """The invite was used, or is over."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class KeepLeaf:
    """This peer's own new certificate and the authority that signed it, both DER."""

    leaf: bytes
    inviter: bytes


@dataclass(frozen=True, slots=True)
class KeepSequence:
    """The number of this peer's newest record; it never goes back."""

    number: int


@dataclass(frozen=True, slots=True)
class AddScore:
    """A point of the curve that `watch` draws. `exchanges` is the count committed up to then."""

    task: TaskId
    at: Seconds
    exchanges: int
    now: float


@dataclass(frozen=True, slots=True)
class Saved:
    """What a restarted peer finds. Of the scores the newest 1,000 of each task are kept."""

    states: Mapping[tuple[TaskId, str], HoldState] = field(default_factory=dict)
    results: Mapping[tuple[TaskId, str], KeepResult] = field(default_factory=dict)
    prepared: Mapping[bytes, Prepare] = field(default_factory=dict)
    applied: Mapping[tuple[PeerId, TaskId, str], bytes] = field(default_factory=dict)
    tasks: Mapping[TaskId, KeepTask] = field(default_factory=dict)
    revocations: tuple[bytes, ...] = ()
    records: Mapping[PeerId, bytes] = field(default_factory=dict)
    certificates: Mapping[PeerId, bytes] = field(default_factory=dict)
    invites: Mapping[bytes, KeepInvite] = field(default_factory=dict)
    sequence: int = 0
    scores: Mapping[TaskId, tuple[AddScore, ...]] = field(default_factory=dict)
