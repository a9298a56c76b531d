"""The neighbours I know: seen, reachable, failed, next to talk to.

No failure detector: a gossip learner needs a live neighbour, not a membership list. *Dial failed: try another; heard from lately: alive*
is all there is. Back-off doubles from a second to a minute with jitter, per neighbour, so that a network that comes back is not stormed.
Candidates (mDNS, static addresses) are hints only: they are dialled, and become neighbours when a key has answered.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from protocol.identity import PeerId, short
from protocol.records import PeerRecord, format_address, is_newer, open_record, parse_address
from protocol.wire import WireError

from .events import Address, TaskId

MAX_NEIGHBOURS: Final = 512
"""Records kept. On a LAN all members fit; beyond it a random part of them is view enough. About 0.5 MiB."""

MAX_CANDIDATES: Final = 256
"""Addresses of which no key is known yet."""

SAMPLE: Final = 15
"""Records sent along with one's own, so that a network grows past the reach of multicast. Sixteen of 500 bytes are one small frame."""

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
"""Back-off between dials of one address, in seconds."""

LOST_AFTER_DIALS: Final = 3
"""Dials in a row that must have failed before a neighbour may count as lost: one may fail while a laptop's lid is closed."""


@dataclass(slots=True)
class Dialling:
    """Back-off of one address or neighbour."""

    failures: int = 0
    not_before: float = 0.0
    is_under_way: bool = False

    def failed(self, now: float, random: Random) -> None:
        self.is_under_way = False
        self.not_before = now + random.uniform(0.5, 1.0) * min(FIRST_WAIT_S * 2.0**self.failures, LONGEST_WAIT_S)
        self.failures = min(self.failures + 1, 16)

    def succeeded(self) -> None:
        self.failures, self.not_before = 0, 0.0

    def may(self, now: float) -> bool:
        return not self.is_under_way and now >= self.not_before


@dataclass(slots=True)
class Neighbour:
    """A peer whose signed record, or whose key, we have seen. `links` are those open now."""

    peer: PeerId
    record: PeerRecord | None = None
    former: PeerRecord | None = None
    """The record that `record` replaced."""
    card: bytes | None = None
    addresses: list[Address] = field(default_factory=list)
    last_heard: float | None = None
    silent_since: float | None = None
    """When it was last heard from; of one known from before this daemon started, when that was. None if it was never met."""
    links: list[int] = field(default_factory=list)
    dialling: Dialling = field(default_factory=Dialling)
    exchanges: int = 0
    is_lost: bool = False
    next_address: int = 0

    @property
    def name(self) -> str | None:
        return self.record.name if self.record else None

    def takes_part_in(self, task: bytes) -> bool:
        return self.record is not None and task in self.record.tasks


class View:
    """All neighbours of one peer, and the addresses that may become some."""

    def __init__(self, me: PeerId, name: str, random: Random, lost_after_s: float, max_neighbours: int = MAX_NEIGHBOURS) -> None:
        self._me, self._name = me, name
        self._random = random
        self._lost_after_s = lost_after_s
        self._max_neighbours = max_neighbours
        self.neighbours: dict[PeerId, Neighbour] = {}
        self._candidates: dict[Address, Dialling] = {}
        self._static: set[Address] = set()
        self._dialled: dict[Address, PeerId | None] = {}

    # what is seen ----------------------------------------------------------------------------------------------------

    def add_candidate(self, address: Address, now: float, *, is_static: bool = False) -> None:
        """Somebody may listen there. Of a neighbour that we could not reach it says that waiting is over."""
        if is_static:
            self._static.add(address)
        for neighbour in [n for n in self.neighbours.values() if address in n.addresses]:
            neighbour.dialling.not_before = min(neighbour.dialling.not_before, now)
            return
        if address in self._candidates:
            return
        if len(self._candidates) >= MAX_CANDIDATES:
            self._candidates.pop(next((a for a in self._candidates if a not in self._static), address), None)
        self._candidates[address] = Dialling()

    def take_record(self, card: bytes, now: float) -> Neighbour | None:
        """Take in a signed record. The neighbour it changed, or None if it is old news. Raises WireError if it is no record at all."""
        peer, record = open_record(card)
        if peer == self._me or record.expires < now:
            return None
        known = self.neighbours.get(peer)
        if known is not None and known.record is not None and not is_newer(record, known.record):
            return None
        if known is None and len(self.neighbours) >= self._max_neighbours and not self._make_room():
            return None
        neighbour = known or self._add(peer)
        neighbour.former, neighbour.record, neighbour.card = neighbour.record, record, card
        addresses = [parse_address(text) for text in record.addresses]
        if addresses != neighbour.addresses:
            neighbour.addresses = addresses
            neighbour.dialling.not_before = min(neighbour.dialling.not_before, now)
        for address in addresses:
            self._candidates.pop(address, None)
        return neighbour

    def load(self, cards: Mapping[PeerId, bytes], met: Container[PeerId], now: float) -> None:
        """Take in the records that were saved; those that no longer verify or have expired are dropped. Whoever was `met` before and does
        not answer any more is lost, as if it had fallen silent now: it may have died while this daemon did not run."""
        for card in cards.values():
            try:
                neighbour = self.take_record(card, now)
            except WireError:
                continue
            if neighbour is not None and neighbour.peer in met:
                neighbour.silent_since = now

    def connected(self, peer: PeerId, link: int, dialled: Address | None) -> Neighbour:
        neighbour = self.neighbours.get(peer) or self._add(peer)
        neighbour.links.append(link)
        if dialled is not None:
            self._dialled.pop(dialled, None)
            self._candidates.pop(dialled, None)
            if dialled not in neighbour.addresses:
                neighbour.addresses.append(dialled)
        neighbour.dialling.is_under_way = False
        return neighbour

    def greeted(self, peer: PeerId) -> None:
        """The neighbour has let us in: only now is the dial a success, for a listener may refuse after the handshake."""
        self.neighbours[peer].dialling.succeeded()

    def heard(self, peer: PeerId, now: float) -> None:
        neighbour = self.neighbours[peer]
        neighbour.last_heard, neighbour.silent_since, neighbour.is_lost = now, now, False

    def disconnected(self, peer: PeerId, link: int, now: float) -> None:
        neighbour = self.neighbours.get(peer)
        if neighbour is not None and link in neighbour.links:
            neighbour.links.remove(link)
            if not neighbour.links and not neighbour.dialling.is_under_way:
                neighbour.dialling.failed(now, self._random)

    def dial_failed(self, address: Address, now: float) -> None:
        peer = self._dialled.pop(address, None)
        neighbour = self.neighbours.get(peer) if peer else None
        if neighbour is not None:
            neighbour.dialling.failed(now, self._random)
            neighbour.next_address += 1
        elif address in self._candidates:
            dialling = self._candidates[address]
            dialling.failed(now, self._random)
            if dialling.failures >= LOST_AFTER_DIALS and address not in self._static:
                del self._candidates[address]

    def is_own(self, address: Address) -> None:
        """We reached ourselves there: never dial it again."""
        self._dialled.pop(address, None)
        self._candidates.pop(address, None)
        self._static.discard(address)

    def forget(self, peer: PeerId) -> None:
        self.neighbours.pop(peer, None)

    # what follows ----------------------------------------------------------------------------------------------------

    def to_dial(self, now: float, wanted: set[PeerId], room: int, *, only_wanted: bool) -> list[tuple[Address, PeerId | None]]:
        """Addresses to dial now, `room` at most: wanted neighbours first, then unknown candidates, then any neighbour without a link."""
        unlinked = [n for n in self.neighbours.values() if not n.links and n.addresses and n.dialling.may(now)]
        self._random.shuffle(unlinked)
        dials: list[tuple[Address, PeerId | None]] = [self._next_address(n) for n in unlinked if n.peer in wanted]
        if not only_wanted:
            dials += [(a, None) for a, d in self._candidates.items() if d.may(now)]
            dials += [self._next_address(n) for n in unlinked if n.peer not in wanted]
        dials = [d for d in dials if d[0] not in self._dialled][: max(room, 0)]
        for address, peer in dials:
            self._dialled[address] = peer
            (self.neighbours[peer].dialling if peer else self._candidates[address]).is_under_way = True
        return dials

    def newly_lost(self, now: float) -> list[Neighbour]:
        """Neighbours that count as lost from now on: not heard from for long, and dialled in vain since."""
        lost = [
            n
            for n in self.neighbours.values()
            if not n.is_lost
            and not n.links
            and n.silent_since is not None
            and now - n.silent_since >= self._lost_after_s
            and n.dialling.failures >= LOST_AFTER_DIALS
        ]
        for neighbour in lost:
            neighbour.is_lost = True
        return lost

    @property
    def dials_under_way(self) -> int:
        return len(self._dialled)

    def partners(self, task: bytes, *, with_lost: bool = False) -> list[Neighbour]:
        """Neighbours that take part in a task, those that are lost only if asked for."""
        return [n for n in self.neighbours.values() if n.takes_part_in(task) and (with_lost or not n.is_lost)]

    def sample(self) -> list[bytes]:
        """Cards of some neighbours to tell another of, those heard from before the rest."""
        known = [n for n in self.neighbours.values() if n.card and not n.is_lost]
        heard = [n for n in known if n.last_heard is not None]
        chosen = self._random.sample(heard, min(SAMPLE, len(heard))) if heard else []
        return [n.card for n in chosen if n.card]

    def present(self, task: bytes) -> int:
        """How many neighbours take part in a task and were heard from since this peer started: what thresholds count."""
        return sum(1 for n in self.partners(task) if n.last_heard is not None)

    def name(self, peer: PeerId) -> str:
        """What to call a peer on screen: the name it gives itself, or the beginning of its id."""
        if peer == self._me:
            return self._name
        neighbour = self.neighbours.get(peer)
        return (neighbour.name if neighbour else None) or short(peer)

    def describe(self, tasks: Mapping[TaskId, str], revoked: Iterable[PeerId]) -> list[dict[str, Any]]:
        """Every neighbour, and whoever was revoked, for people. `tasks` names the tasks this peer knows."""
        known = [self.neighbours.get(peer) or Neighbour(peer) for peer in {**self.neighbours, **dict.fromkeys(sorted(revoked))}]
        return [
            {
                "id": n.peer.hex(),
                "short": short(n.peer),
                "name": self.name(n.peer),
                "addresses": [format_address(a) for a in n.addresses],
                "state": "live" if n.links else "lost" if n.is_lost else "quiet" if n.peer in self.neighbours else "revoked",
                "last_heard": n.last_heard,
                "exchanges": n.exchanges,
                "tasks": [tasks[TaskId(t)] for t in (n.record.tasks if n.record else ()) if TaskId(t) in tasks],
            }
            for n in sorted(known, key=lambda n: (self.name(n.peer), n.peer))
        ]

    def next_deadline(self, now: float) -> float | None:
        """When a dial may be tried again."""
        waits = [n.dialling.not_before for n in self.neighbours.values() if not n.links and n.addresses and not n.dialling.is_under_way]
        waits += [d.not_before for d in self._candidates.values() if not d.is_under_way]
        return max(min(waits), now) if waits else None

    def _next_address(self, neighbour: Neighbour) -> tuple[Address, PeerId | None]:
        return neighbour.addresses[neighbour.next_address % len(neighbour.addresses)], neighbour.peer

    def _add(self, peer: PeerId) -> Neighbour:
        self.neighbours[peer] = Neighbour(peer)
        return self.neighbours[peer]

    def _make_room(self) -> bool:
        """Forget one that does not answer. Were others forgotten for newcomers, their records would go round a large network for ever, each
        news again to whoever had just forgotten it."""
        idle = [n for n in self.neighbours.values() if not n.links and (n.is_lost or n.dialling.failures >= LOST_AFTER_DIALS)]
        if idle:
            del self.neighbours[min(idle, key=lambda n: (n.last_heard or 0.0, n.peer)).peer]
        return bool(idle)
