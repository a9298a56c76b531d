"""What goes into the brain and what comes out of it: every event and every action of `peer.node.Node`, declared once.

A driver (the daemon, the simulator) feeds events in and carries actions out in order, letting none overtake another of the same list: what
is promised is on disk before it is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

from protocol.identity import MemberCertificate, PeerId
from protocol.tensors import Arrays

Seconds = NewType("Seconds", float)
"""Time as the driver counts it: seconds since 1970, UTC (certificates, records and tasks end by the calendar)."""

LinkId = NewType("LinkId", int)
"""One ordered stream of bytes to another peer; the driver numbers them and never uses a number twice."""

TaskId = NewType("TaskId", bytes)
"""SHA-256 of a task's signed body."""

Address = tuple[str, int]
"""Host (name or IP literal) and TCP port."""


# events --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody may listen here (mDNS, a static address, an invite). A hint to dial, nothing more."""

    address: Address


@dataclass(frozen=True, slots=True)
class Connected:
    """A TLS handshake is over. `certificate` is None for a stranger who came in through the door of an open invite; `dialled` is the
    address this peer had asked for, None if the other side dialled."""

    link: LinkId
    certificate: MemberCertificate | None
    dialled: Address | None
    remote: Address


@dataclass(frozen=True, slots=True)
class DialFailed:
    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    link: LinkId
    data: bytes


@dataclass(frozen=True, slots=True)
class Disconnected:
    link: LinkId
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of `next_deadline` has come."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A job of the trainer is finished. On failure `error` says why in one sentence for the owner and the rest is empty."""

    task: TaskId
    job: str
    arrays: Arrays = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """The owner's file has changed; read it again."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class AddTask:
    """The owner has made a task; `card` is signed by this peer."""

    card: bytes


@dataclass(frozen=True, slots=True)
class AcceptTask:
    """The owner lets this device take part. The driver knows which rows belong to it."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class LeaveTask:
    """The owner withdraws. With `erase` all that this device holds of the task is deleted too."""

    task: TaskId
    erase: bool


@dataclass(frozen=True, slots=True)
class OpenInvite:
    """The owner invites somebody: a token that may be used once until `expires`."""

    token: bytes
    expires: Seconds
    may_invite: bool


@dataclass(frozen=True, slots=True)
class RevokePeer:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """This peer is reachable at these addresses from now on."""

    addresses: tuple[Address, ...]


Event = (
    Candidate | Connected | DialFailed | Received | Disconnected | Tick | Trained | RowsChanged
    | AddTask | AcceptTask | LeaveTask | OpenInvite | RevokePeer | AddressesChanged
)  # fmt: skip


# actions --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect. If `expected` is given and another key answers, the driver closes and reports DialFailed."""

    address: Address
    expected: PeerId | None


@dataclass(frozen=True, slots=True)
class Send:
    link: LinkId
    data: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close after what was sent before has left."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class Persist:
    """Make these durable in one transaction before any later action. See `peer/store.py` for the records."""

    records: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Train:
    """Give the trainer a job. Answered by one Trained, whatever happens. Jobs: see `peer/trainer.py`."""

    task: TaskId
    job: str
    arrays: Arrays = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """Let strangers without a certificate in until `until` (an invite is open); None shuts the door."""

    until: Seconds | None


@dataclass(frozen=True, slots=True)
class Notify:
    """Something happened that a person, a page or a trace may want to know. `kind` is dotted lower case, `facts` are plain JSON values."""

    kind: str
    facts: Mapping[str, Any]


Action = Dial | Send | Disconnect | Persist | Train | OpenDoor | Notify


def at_once(actions: list[Action]) -> list[Action]:
    """The same actions with all that they make durable in one transaction, before the rest."""
    records = tuple(record for action in actions if isinstance(action, Persist) for record in action.records)
    return [Persist(records), *(action for action in actions if not isinstance(action, Persist))] if records else actions
