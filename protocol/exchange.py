"""The exchange: two peers move by opposite amounts, or neither moves (SPEC 5).

Why: the mean over the network must survive loss, crash and reordering. Whatever one side gains the other gives, so the sum over all
peers stays what it was; a one-way merge, or a reply that may be lost, drifts by 10 % and more.

    initiator                                        responder
    PROPOSE xid, digest of x_i         ->            free, same epoch, same schema; else REFUSE
                                       <-  ACCEPT digest of x_j, chunks of x_j
    chunks of x_i                      ->
    validates x_j; durable {xid, d_i}
    COMMIT xid, digest of both         ->            pending on THIS connection, all of x_i here and valid, same digest:
    durable {x += d_i, forget xid}     <-  DONE      durable {x += d_j, remember xid}; anything else: ABORTED

    d_i = n_j / (n_i + n_j) * (x_j - x_i), from the bytes that travelled, so n_i d_i + n_j d_j = 0.

The decision is the responder's durable apply. An initiator that hears neither DONE nor ABORTED is in doubt and asks RESOLVE at the next
contact, on any connection. Two rules carry the proof: (1) COMMIT counts only on the connection of its PROPOSE and with the digest of both
snapshots; (2) RESOLVE never applies, and drops whatever is pending under its xid before it is answered ABORTED, for the COMMIT may still
lie in an old socket's buffer.

The increments are *added*: training and other exchanges may go on meanwhile. No clock, no I/O: messages in, effects out; the order of
effects is the safety contract (durable first, then said).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from .identity import PeerId
from .messages import Aborted, Accept, Commit, Done, Message, Propose, Refuse, Resolve
from .tensors import Arrays, Assembly, BadTensor, Manifest, decode

ANSWER_S: Final = 3.0
"""Seconds to wait for ACCEPT, and for DONE. A responder answers from memory, or after one durable write. Whoever waits exchanges with
nobody else, so a neighbour behind a cut cable must not hold it up for long."""

TRANSFER_S: Final = 30.0
"""Seconds a transfer may take before its size counts."""

SLOWEST_BYTES_PER_S: Final = 64 * 1024
"""What a link must carry: a 64 MiB model in 17 minutes. Slower ones hold up both peers for longer than it is worth."""

BUSY_RETRY_MS: Final = 100
"""What a busy peer asks for: an exchange of a small model takes a few milliseconds."""


class Epoch(NamedTuple):
    """One restart of an average: its number, and the peer that started it. Compared in that order, so two that start at once agree."""

    number: int
    starter: PeerId


class Subject(NamedTuple):
    """What an exchange is about: one part of one task's state."""

    task: bytes
    part: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot of what this peer holds, as the bytes it would send."""

    epoch: Epoch
    manifest: Manifest
    schema: bytes
    encoding: str
    weight: int
    payload: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is nothing to offer now."""

    reason: str
    retry_ms: int = 0


class Holdings(Protocol):
    """What the exchange asks of its peer."""

    def offer(self, subject: Subject) -> Offer | Refusal:
        """A snapshot of this part, or why there is none to be had."""

    def epoch(self, subject: Subject) -> Epoch | None:
        """The epoch this peer is in; None if it takes no part."""

    def objection(self, subject: Subject, arrays: Arrays, weight: int) -> str | None:
        """Why a neighbour's state must not be mixed into ours: not a mean of moments, out of all proportion. None if it may."""


# effects, in the order in which they must be carried out -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    link: int
    message: Message
    subject: Subject


@dataclass(frozen=True, slots=True)
class SayState:
    """Send this payload as chunks."""

    link: int
    xid: bytes
    payload: bytes
    subject: Subject


@dataclass(frozen=True, slots=True)
class Prepared:
    """Initiator: make this durable before the COMMIT that follows."""

    xid: bytes
    subject: Subject
    partner: PeerId
    epoch: Epoch
    delta: Arrays


@dataclass(frozen=True, slots=True)
class Moved:
    """This peer's half is decided: add `delta`, durably, together with forgetting (initiator) or remembering (responder) the xid."""

    xid: bytes
    subject: Subject
    partner: PeerId
    delta: Arrays
    is_initiator: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """No exchange took place: nothing moved. `xid` is given when a prepared half must be forgotten."""

    subject: Subject
    partner: PeerId
    reason: str
    retry_ms: int
    xid: bytes | None
    theirs: Epoch | None = None


Effect = Say | SayState | Prepared | Moved | Dropped


class State(Enum):
    OFFERED = auto()
    """Initiator: PROPOSE is sent."""
    TRANSFERRING = auto()
    """Both: the states are under way."""
    COMMITTING = auto()
    """Initiator: its half is durable, COMMIT is sent; from here on it is in doubt until told."""


@dataclass(slots=True)
class Flight:
    """One exchange under way in memory. `state` names the only messages that count."""

    xid: bytes
    link: int
    partner: PeerId
    subject: Subject
    mine: Offer
    is_initiator: bool
    state: State
    deadline: float
    their_weight: int = 0
    their_digest: bytes = b""
    assembly: Assembly | None = None
    arrived: Arrays | None = None


class Exchanges:
    """All exchanges of one peer: one under way per connection and per part of a task, any number in doubt."""

    def __init__(
        self, me: PeerId, holdings: Holdings, prepared: Mapping[bytes, Prepared], applied: Mapping[tuple[PeerId, bytes, str], bytes]
    ) -> None:
        self._me = me
        self._holdings = holdings
        self._prepared = dict(prepared)
        self._applied = dict(applied)
        self._flights: dict[Subject, Flight] = {}

    # what the peer does -----------------------------------------------------------------------------------------------

    def propose(self, link: int, partner: PeerId, subject: Subject, xid: bytes, now: float) -> list[Effect]:
        """Start an exchange with this partner. `xid` is 16 fresh random bytes, never used before."""
        assert self.may_propose(link, partner, subject)
        offer = self._holdings.offer(subject)
        if isinstance(offer, Refusal):
            return [Dropped(subject, partner, offer.reason, offer.retry_ms, None)]
        self._flights[subject] = Flight(xid, link, partner, subject, offer, True, State.OFFERED, now + ANSWER_S)
        message = Propose(
            xid=xid,
            task=subject.task,
            part=subject.part,
            epoch=offer.epoch.number,
            starter=offer.epoch.starter,
            schema=offer.schema,
            encoding=offer.encoding,
            weight=offer.weight,
            size=len(offer.payload),
            digest=offer.digest,
        )
        return [Say(link, message, subject)]

    def may_propose(self, link: int, partner: PeerId, subject: Subject) -> bool:
        """Whether nothing is under way for this part or on this link, and nothing in doubt with this partner about this part."""
        return subject not in self._flights and not self._on(link) and not self.is_in_doubt(partner, subject)

    def is_in_doubt(self, partner: PeerId, subject: Subject | None = None) -> bool:
        return any(p.partner == partner and subject in (None, p.subject) for p in self._prepared.values())

    @property
    def in_doubt(self) -> tuple[Prepared, ...]:
        return tuple(self._prepared.values())

    def is_busy(self, subject: Subject) -> bool:
        return subject in self._flights

    def subject_on(self, link: int) -> Subject | None:
        """What the exchange under way on this link is about."""
        flight = self._on(link)
        return flight.subject if flight else None

    def resolve(self, link: int, partner: PeerId) -> list[Effect]:
        """Ask what became of every exchange that is in doubt with this partner and not just being decided on some link."""
        deciding = {f.xid for f in self._flights.values()}
        return [
            Say(link, Resolve(xid=p.xid, task=p.subject.task), p.subject)
            for p in self._prepared.values()
            if p.partner == partner and p.xid not in deciding
        ]

    def abandon(self, subject: Subject) -> list[Effect]:
        """This peer leaves the epoch, or the task: nothing that is under way or in doubt about this part counts any more."""
        effects: list[Effect] = []
        if flight := self._flights.pop(subject, None):
            effects += self._give_up(flight, "epoch")
        for xid in [x for x, p in self._prepared.items() if p.subject == subject]:
            half = self._prepared.pop(xid)
            effects.append(Dropped(subject, half.partner, "epoch", 0, xid))
        return effects

    def forget(self, task: bytes) -> None:
        """The task is erased, and with it what was remembered of exchanges others began."""
        self._applied = {key: xid for key, xid in self._applied.items() if key[1] != task}

    def link_lost(self, link: int) -> list[Effect]:
        flight = self._on(link)
        if flight is None:
            return []
        del self._flights[flight.subject]
        return [] if flight.state is State.COMMITTING else [Dropped(flight.subject, flight.partner, "link lost", 0, None)]

    def tick(self, now: float) -> list[Effect]:
        """Give up what took too long. An initiator that is committing stays in doubt; it asks again on the same link or the next."""
        effects: list[Effect] = []
        for flight in [f for f in self._flights.values() if f.deadline <= now]:
            del self._flights[flight.subject]
            if flight.state is State.COMMITTING:
                effects.append(Say(flight.link, Resolve(xid=flight.xid, task=flight.subject.task), flight.subject))
            else:
                effects += self._give_up(flight, "too slow")
        return effects

    def next_deadline(self) -> float | None:
        return min((f.deadline for f in self._flights.values()), default=None)

    # what comes in ----------------------------------------------------------------------------------------------------

    def receive(self, link: int, partner: PeerId, message: Message, now: float) -> list[Effect]:
        """Take in one message of the exchange. Total: a message that does not count has no effect, or is answered ABORTED or REFUSE."""
        match message:
            case Propose():
                return self._proposed(link, partner, message, now)
            case Accept():
                return self._accepted(link, message, now)
            case Refuse():
                return self._refused(link, message)
            case Commit():
                return self._commit(link, partner, message)
            case Resolve():
                return self._resolve(link, partner, message)
            case Done() | Aborted():
                return self._told(link, partner, message)
        return []

    def chunk(self, link: int, xid: bytes, data: bytes, now: float) -> list[Effect]:
        """Take in a piece of the other side's state. Pieces of an exchange that was given up may still be under way; they are dropped."""
        flight = self._on(link)
        if flight is None or flight.xid != xid or flight.assembly is None:
            return []
        try:
            if not flight.assembly.add(data):
                return []
            assembly, flight.assembly = flight.assembly, None
            problem = self._take(flight, assembly)
        except BadTensor as error:
            problem = str(error)
        if problem is not None:
            del self._flights[flight.subject]
            return self._give_up(flight, problem)
        return self._prepare(flight, now) if flight.is_initiator else []

    # the initiator's half ---------------------------------------------------------------------------------------------

    def _accepted(self, link: int, message: Accept, now: float) -> list[Effect]:
        flight = self._on(link)
        if flight is None or flight.xid != message.xid or flight.state is not State.OFFERED:
            return []
        if message.size != len(flight.mine.payload):
            del self._flights[flight.subject]
            return self._give_up(flight, "schema")
        self._expect(flight, message.weight, message.size, message.digest, now)
        return [SayState(link, flight.xid, flight.mine.payload, flight.subject)]

    def _refused(self, link: int, message: Refuse) -> list[Effect]:
        flight = self._on(link)
        if flight is None or flight.xid != message.xid or flight.state is not State.OFFERED:
            return []
        del self._flights[flight.subject]
        theirs = Epoch(message.epoch, PeerId(message.starter)) if message.epoch is not None and message.starter is not None else None
        return [Dropped(flight.subject, flight.partner, message.reason, message.retry_ms, None, theirs)]

    def _prepare(self, flight: Flight, now: float) -> list[Effect]:
        half = Prepared(flight.xid, flight.subject, flight.partner, flight.mine.epoch, self._delta(flight))
        self._prepared[flight.xid] = half
        flight.state, flight.deadline = State.COMMITTING, now + ANSWER_S
        commit = Commit(xid=flight.xid, digest=both(flight.mine.digest, flight.their_digest))
        return [half, Say(flight.link, commit, flight.subject)]

    def _told(self, link: int, partner: PeerId, message: Done | Aborted) -> list[Effect]:
        flight = self._on(link)
        if flight is not None and flight.xid == message.xid:
            del self._flights[flight.subject]
            if flight.state is not State.COMMITTING:
                return [Dropped(flight.subject, partner, "aborted by the partner", 0, None)]
        half = self._prepared.get(message.xid)
        if half is None or half.partner != partner:
            return []
        del self._prepared[message.xid]
        if isinstance(message, Done) and self._holdings.epoch(half.subject) == half.epoch:
            return [Moved(half.xid, half.subject, partner, half.delta, True)]
        return [Dropped(half.subject, partner, "aborted by the partner", 0, half.xid)]

    # the responder's half ---------------------------------------------------------------------------------------------

    def _proposed(self, link: int, partner: PeerId, message: Propose, now: float) -> list[Effect]:
        subject = Subject(message.task, message.part)
        effects = self._cross(partner, subject)
        offer: Offer | Refusal
        if self.is_busy(subject) or self._on(link):
            offer = Refusal("busy", BUSY_RETRY_MS)
        elif self._is_spent(message.xid):
            offer = Refusal("policy")
        else:
            offer = self._holdings.offer(subject)
        reason = offer.reason if isinstance(offer, Refusal) else _mismatch(message, offer)
        if reason is not None or isinstance(offer, Refusal):
            ours = self._holdings.epoch(subject)
            refuse = Refuse(
                xid=message.xid,
                reason=reason or "policy",
                retry_ms=offer.retry_ms if isinstance(offer, Refusal) else 0,
                epoch=ours.number if ours else None,
                starter=ours.starter if ours else None,
            )
            return [*effects, Say(link, refuse, subject)]
        flight = Flight(message.xid, link, partner, subject, offer, False, State.OFFERED, now)
        self._expect(flight, message.weight, message.size, message.digest, now)
        self._flights[subject] = flight
        accept = Accept(xid=message.xid, weight=offer.weight, size=len(offer.payload), digest=offer.digest)
        return [*effects, Say(link, accept, subject), SayState(link, message.xid, offer.payload, subject)]

    def _cross(self, partner: PeerId, subject: Subject) -> list[Effect]:
        """Both proposed at once: the lower peer id's proposal stands, so the higher drops its own and answers."""
        own = self._flights.get(subject)
        if own is None or own.partner != partner or own.state is not State.OFFERED or not own.is_initiator or self._me < partner:
            return []
        del self._flights[subject]
        return [Dropped(subject, partner, "crossed", 0, None)]

    def _commit(self, link: int, partner: PeerId, message: Commit) -> list[Effect]:
        flight = self._on(link)
        if flight is None or flight.is_initiator or flight.xid != message.xid:
            return [Say(link, Aborted(xid=message.xid), flight.subject if flight else Subject(b"", ""))]
        del self._flights[flight.subject]
        is_whole = flight.arrived is not None and message.digest == both(flight.their_digest, flight.mine.digest)
        if not is_whole or self._holdings.epoch(flight.subject) != flight.mine.epoch:
            return self._give_up(flight, "commit without agreement")
        self._applied[partner, flight.subject.task, flight.subject.part] = flight.xid
        moved = Moved(flight.xid, flight.subject, partner, self._delta(flight), False)
        return [moved, Say(link, Done(xid=flight.xid), flight.subject)]

    def _resolve(self, link: int, partner: PeerId, message: Resolve) -> list[Effect]:
        subject = Subject(message.task, "")
        if any(xid == message.xid and key[0] == partner and key[1] == message.task for key, xid in self._applied.items()):
            return [Say(link, Done(xid=message.xid), subject)]
        effects: list[Effect] = []
        for flight in [f for f in self._flights.values() if f.xid == message.xid and f.partner == partner and not f.is_initiator]:
            del self._flights[flight.subject]
            effects.append(Dropped(flight.subject, partner, "aborted by the partner", 0, None))
        return [*effects, Say(link, Aborted(xid=message.xid), subject)]

    # both -------------------------------------------------------------------------------------------------------------

    def _on(self, link: int) -> Flight | None:
        return next((f for f in self._flights.values() if f.link == link), None)

    def _expect(self, flight: Flight, weight: int, size: int, digest: bytes, now: float) -> None:
        flight.state, flight.their_weight, flight.their_digest = State.TRANSFERRING, weight, digest
        flight.assembly = Assembly(flight.xid, size)
        flight.deadline = now + TRANSFER_S + 2 * size / SLOWEST_BYTES_PER_S

    def _take(self, flight: Flight, assembly: Assembly) -> str | None:
        if assembly.digest() != flight.their_digest:
            return "digest"
        arrays = decode(flight.mine.manifest, assembly.payload(), flight.mine.encoding)
        problem = self._holdings.objection(flight.subject, arrays, flight.their_weight)
        if problem is None:
            flight.arrived = arrays
        return problem

    def _is_spent(self, xid: bytes) -> bool:
        return xid in self._applied.values() or xid in self._prepared

    def _delta(self, flight: Flight) -> Arrays:
        assert flight.arrived is not None, "a half is computed only from a state that has arrived whole and was accepted"
        share = flight.their_weight / (flight.mine.weight + flight.their_weight)
        own = decode(flight.mine.manifest, flight.mine.payload, flight.mine.encoding)
        return {name: share * (flight.arrived[name] - own[name]) for name in own}

    def _give_up(self, flight: Flight, reason: str) -> list[Effect]:
        say = Say(flight.link, Aborted(xid=flight.xid), flight.subject)
        if flight.state is State.COMMITTING:
            return []
        return [say, Dropped(flight.subject, flight.partner, reason, 0, None)]


def both(initiators: bytes, responders: bytes) -> bytes:
    """The digest that COMMIT carries: of both snapshots, the initiator's first."""
    return hashlib.sha256(initiators + responders).digest()


def _mismatch(message: Propose, offer: Offer) -> str | None:
    if (message.epoch, message.starter) != offer.epoch:
        return "epoch"
    if message.schema != offer.schema or message.size != len(offer.payload):
        return "schema"
    if message.encoding != offer.encoding:
        return "encoding"
    return None
