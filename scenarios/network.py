"""The virtual network: links that are ordered streams of bytes, as TCP's are, and everything that goes wrong with them.

Nothing is reordered or lost within a stream that lives; a lost packet costs a retransmission, many in a row cost the connection. When one
breaks, often only one end notices; what was in flight towards the other may come late, when a new link has long been up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from peer import events as ev
from peer.events import Address, LinkId
from protocol.identity import PeerId

from .queue import Queue
from .world import Weather

if TYPE_CHECKING:
    from .host import Host

SHORTEST_S: Final = 1e-5
"""No packet is faster than 0.01 ms."""

PACKET_BYTES: Final = 1400
"""What is lost at a time."""

RETRANSMIT_S: Final = 0.2
"""First wait before a lost packet is sent again; doubles each time."""

MAX_RETRANSMITS: Final = 7
"""In a row, after 25 s, the connection counts as broken."""

DIAL_TIMEOUT_S: Final = 5.0
"""What a dial into silence takes."""

HANDSHAKE_TRIPS: Final = 3
"""One-way trips of TCP's and TLS's handshakes."""

LONGEST_UNNOTICED_S: Final = 40.0
"""An end that sends nothing may believe in a broken link for this long."""

LATEST_S: Final = 20.0
"""How late what was in flight when a link broke may still arrive."""


@dataclass(slots=True)
class Link:
    """One connection. Index 0 is the dialer's end, 1 the listener's; a direction has the index of its sender."""

    id: LinkId
    ends: tuple[int, int]
    is_open: list[bool] = field(default_factory=lambda: [False, False])
    arrival: list[float] = field(default_factory=lambda: [0.0, 0.0])
    sent_until: list[float] = field(default_factory=lambda: [0.0, 0.0])
    is_dead: list[bool] = field(default_factory=lambda: [False, False])
    late_until: list[float] = field(default_factory=lambda: [0.0, 0.0])
    held: list[list[bytes | None]] = field(default_factory=lambda: [[], []])

    def end(self, host: int) -> int:
        return 0 if self.ends[0] == host else 1


@dataclass(slots=True, eq=False)
class Barrier:
    """Nothing passes from `sources` to the rest; with `is_both` nor the other way; with `is_total` not even among themselves."""

    sources: frozenset[int]
    is_both: bool = False
    is_total: bool = False

    def stops(self, source: int, target: int) -> bool:
        if source in self.sources:
            return self.is_total or target not in self.sources
        return self.is_both and target in self.sources


class Network:
    """All links. `hosts` is filled by the simulation."""

    def __init__(self, weather: Weather, queue: Queue, random: Random, hosts: Sequence[Host]) -> None:
        self._weather, self._queue, self._random, self._hosts = weather, queue, random, hosts
        self.links: dict[LinkId, Link] = {}
        self._of: list[dict[LinkId, Link]] = [{} for _ in hosts]
        self.barriers: list[Barrier] = []
        self.bytes_sent = [0] * len(hosts)
        self._at: dict[Address, Host] = {h.address: h for h in hosts}
        self._next = 1
        self._reach: list[frozenset[int]] | None = None
        if weather.topology is not None:
            near: list[set[int]] = [set() for _ in hosts]
            for a, b in weather.topology:
                near[a].add(b)
                near[b].add(a)
            self._reach = [frozenset(n) for n in near]
        self._across: dict[tuple[int, int], float] = {}
        self._seed = random.getrandbits(64)

    def reach(self, host: int) -> list[int]:
        """Whom a host can reach when nothing is wrong, in order."""
        return [h.number for h in self._hosts if h.number != host] if self._reach is None else sorted(self._reach[host])

    def is_stopped(self, source: int, target: int) -> bool:
        return any(b.stops(source, target) for b in self.barriers)

    def open_ends(self, host: int) -> set[LinkId]:
        """Links that this host believes in."""
        return {k.id for k in self._links_of(host) if k.is_open[k.end(host)]}

    def neighbours(self, host: int) -> list[int]:
        """Hosts to which there is a link that both ends believe in."""
        return sorted({k.ends[1 - k.end(host)] for k in self._links_of(host) if all(k.is_open)})

    # what hosts ask ----------------------------------------------------------------------------------------------------

    def dial(self, host: Host, address: Address, expected: PeerId | None) -> None:
        other = self._at.get(address)
        there = other is not None and (self._reach is None or other.number in self._reach[host.number] or other is host)
        if other is None or not there:
            self._fail(host, address, "no route", SHORTEST_S)
        elif self.is_stopped(host.number, other.number) or self.is_stopped(other.number, host.number):
            self._fail(host, address, "no answer", DIAL_TIMEOUT_S)
        elif not other.is_up:
            is_off = other.is_silent
            self._fail(host, address, "no answer" if is_off else "refused", DIAL_TIMEOUT_S if is_off else 2 * self._delay(host, other))
        else:
            trips = HANDSHAKE_TRIPS * self._delay(host, other)
            self._queue.after(trips, self._meet, (host, other, address, expected, host.boots, other.boots))

    def send(self, link_id: LinkId, source: int, data: bytes) -> None:
        link = self.links.get(link_id)
        if link is None or not link.is_open[link.end(source)]:
            return
        self.bytes_sent[source] += len(data)
        self._pass(link, link.end(source), data)

    def close(self, link_id: LinkId, source: int) -> None:
        """Close one end, after what was sent before."""
        link = self.links.get(link_id)
        if link is not None and link.is_open[link.end(source)]:
            link.is_open[link.end(source)] = False
            self._pass(link, link.end(source), None)

    # what goes wrong ---------------------------------------------------------------------------------------------------

    def power_off(self, host: int, *, is_silent: bool) -> None:
        """A host is gone. Its kernel says goodbye if only the daemon was killed."""
        for link in self._links_of(host):
            end = link.end(host)
            link.is_open[end] = False
            if is_silent:
                link.is_dead[end] = True
            else:
                self._pass(link, end, None)

    def reset_old(self, host: int) -> None:
        """A host is back: whoever still believes in a link of its former life is told otherwise at the next packet."""
        for link in self._links_of(host):
            if not link.is_open[link.end(host)]:
                self._queue.after(2 * SHORTEST_S + self._random.random(), self._notice, (link, 1 - link.end(host), "reset"))

    def break_links(self, hosts: Sequence[int], share: float) -> None:
        """Break links of these hosts, each noticed by one end now and by the other later."""
        for link in [k for k in self.links.values() if (k.ends[0] in hosts or k.ends[1] in hosts) and all(k.is_open)]:
            if self._random.random() < share:
                self._break(link)

    def raise_barrier(self, barrier: Barrier) -> None:
        self.barriers.append(barrier)

    def lift_barrier(self, barrier: Barrier) -> None:
        """Let through what waited, in order."""
        self.barriers.remove(barrier)
        for link in list(self.links.values()):
            for direction in (0, 1):
                if link.held[direction] and not self.is_stopped(link.ends[direction], link.ends[1 - direction]):
                    waiting, link.held[direction] = link.held[direction], []
                    for data in waiting:
                        self._pass(link, direction, data)

    # streams -----------------------------------------------------------------------------------------------------------

    def _meet(self, host: Host, other: Host, address: Address, expected: PeerId | None, boots: int, other_boots: int) -> None:
        if not host.is_up or host.boots != boots:
            return
        if not other.is_up or other.boots != other_boots or self.is_stopped(host.number, other.number):
            host.feed(ev.DialFailed(address, "no answer"))
            return
        if expected is not None and other.peer != expected:
            host.feed(ev.DialFailed(address, "another peer answers there"))
            return
        link = Link(LinkId(self._next), (host.number, other.number), [True, True])
        self._next += 1
        if host is other:
            host.feed(ev.Connected(link.id, other.certificate, address, address))
            return
        self.links[link.id] = self._of[host.number][link.id] = self._of[other.number][link.id] = link
        certificate = host.certificate
        host.feed(ev.Connected(link.id, other.certificate, address, address))
        other.feed(ev.Connected(link.id, certificate, None, host.address))

    def _fail(self, host: Host, address: Address, reason: str, after_s: float) -> None:
        self._queue.after(after_s, host.feed_if, (host.boots, ev.DialFailed(address, reason)))

    def _pass(self, link: Link, direction: int, data: bytes | None) -> None:
        """Send a piece of the stream, None for its end."""
        if link.is_dead[direction]:
            return
        source, target = link.ends[direction], link.ends[1 - direction]
        if link.held[direction] or (self.barriers and self.is_stopped(source, target)):
            link.held[direction].append(data)
            return
        weather, now = self._weather, self._queue.now
        leaves = now
        if weather.bytes_per_s is not None and data is not None:
            leaves = link.sent_until[direction] = max(now, link.sent_until[direction]) + len(data) / weather.bytes_per_s
        losses = self._losses(len(data or b"")) if weather.loss > 0.0 else 0
        if losses >= MAX_RETRANSMITS:
            self._break(link)
            return
        wait = RETRANSMIT_S * (2.0**losses - 1.0) if losses else 0.0
        at = max(leaves + self._delay(self._hosts[source], self._hosts[target]) + wait, link.arrival[direction])
        link.arrival[direction] = at
        self._queue.at(at, self._arrive, (link, direction, data))

    def _losses(self, size: int) -> int:
        """How often in a row one packet of these is lost."""
        loss = self._weather.loss
        if self._random.random() >= 1.0 - (1.0 - loss) ** (1 + size // PACKET_BYTES):
            return 0
        return 1 + int(math.log(max(self._random.random(), 1e-300)) / math.log(loss))

    def _arrive(self, link: Link, direction: int, data: bytes | None) -> None:
        if link.late_until[direction] > self._queue.now:
            self._queue.at(link.late_until[direction], self._arrive, (link, direction, data))
            return
        if data is None:
            self._notice(link, 1 - direction, "closed by the other side")
        elif link.is_open[1 - direction]:
            self._hosts[link.ends[1 - direction]].feed(ev.Received(link.id, data))
        elif link.is_open[direction]:
            self._notice(link, direction, "reset")

    def _notice(self, link: Link, end: int, reason: str) -> None:
        """An end learns that the link is over."""
        if link.is_open[end]:
            link.is_open[end] = False
            self._hosts[link.ends[end]].feed(ev.Disconnected(link.id, reason))
        if not any(link.is_open):
            for links in (self.links, *(self._of[end] for end in link.ends)):
                links.pop(link.id, None)

    def _break(self, link: Link) -> None:
        first = self._random.randrange(2)
        link.is_dead = [True, True]
        link.late_until[first] = self._queue.now + LATEST_S * self._random.random() * self._random.randrange(2)
        self._queue.after(SHORTEST_S, self._notice, (link, first, "connection lost"))
        later = LONGEST_UNNOTICED_S * self._random.random()
        self._queue.after(
            max(later, link.late_until[first] - self._queue.now) + SHORTEST_S, self._notice, (link, 1 - first, "connection lost")
        )

    def _links_of(self, host: int) -> list[Link]:
        return list(self._of[host].values())

    def _delay(self, a: Host, b: Host) -> float:
        latency = self._weather.latency_ms
        seconds = latency.median / 1000.0
        if latency.across > 0.0:
            pair = (min(a.number, b.number), max(a.number, b.number))
            if pair not in self._across:
                self._across[pair] = math.exp(latency.across * Random(f"{self._seed}/{pair}").gauss(0.0, 1.0))
            seconds *= self._across[pair]
        if latency.spread > 0.0:
            seconds *= math.exp(latency.spread * self._random.gauss(0.0, 1.0))
        return max(seconds, SHORTEST_S)
