"""Who may begin a handshake with this peer. Strangers cost a socket, a buffer and a signature each, so there is a limit on each.

Counts: so many unauthenticated connections at once, fewer from one host. When all places are taken the one held longest is given up: an
honest handshake takes milliseconds, a silent connection five seconds, so it is the silent ones that lose their place.

Pace: a handshake that fails is charged to its host and to a purse for all hosts; one that succeeds is not. Whoever has spent what it had is
turned away before any cryptography, until its purse fills up again. This peer can still dial others meanwhile, so a flood may slow the
network's growth at one peer but does not stop it.

Several peers may share a computer (a demo does), so loopback has no limit of its own.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_UNAUTHENTICATED: Final = 32
"""Connections at once whose other end is not known to be a member, of 0.3 MiB each. Honest ones last for milliseconds."""

MAX_PER_HOST: Final = 4

HOST_HANDSHAKES_PER_S: Final = 5.0
HOST_BURST: Final = 20.0
"""Failed handshakes of one host. A member whose certificate has ended dials once a minute."""

ALL_HANDSHAKES_PER_S: Final = 100.0
ALL_BURST: Final = 200.0
"""Failed handshakes in all: at about 1 ms each, a tenth of one core."""

MAX_HOSTS: Final = 1024
"""Hosts whose purse is remembered. Forgetting the one unused longest fills its purse, no more; the purse for all stays."""


@dataclass(slots=True)
class Purse:
    """A token bucket."""

    per_s: float
    most: float
    held: float
    counted_at: float

    def count(self, now: float) -> float:
        self.held = min(self.most, self.held + max(0.0, now - self.counted_at) * self.per_s)
        self.counted_at = now
        return self.held


def _nothing() -> None:
    return None


@dataclass(eq=False, slots=True)
class Place:
    """A place of one unauthenticated connection. `give_up` ends that connection; whoever holds the place sets it."""

    host: str
    give_up: Callable[[], object] = _nothing


class Admission:
    """The places, and the purses."""

    def __init__(self) -> None:
        self._places: OrderedDict[Place, None] = OrderedDict()
        self._purses: OrderedDict[str, Purse] = OrderedDict()
        self._purse = Purse(ALL_HANDSHAKES_PER_S, ALL_BURST, ALL_BURST, 0.0)

    def enter(self, host: str, now: float) -> Place | None:
        """A place for a connection from this host, or None if it must be turned away. May call another place's `give_up`."""
        is_here = _is_loopback(host)
        purse = self._purse_of(host, now)
        if self._purse.count(now) < 1 or (not is_here and purse.count(now) < 1):
            return None
        if not is_here and sum(place.host == host for place in self._places) >= MAX_PER_HOST:
            return None
        if len(self._places) >= MAX_UNAUTHENTICATED:
            oldest = next(iter(self._places))
            give_up = oldest.give_up
            self.leave(oldest)
            give_up()
        self._purse.held -= 1
        purse.held -= 1
        place = Place(host)
        self._places[place] = None
        return place

    def succeeded(self, place: Place, now: float) -> None:
        """A member holds this place: what it was charged comes back, and it needs the place no more."""
        if place in self._places:
            self.leave(place)
            for purse in (self._purse, self._purse_of(place.host, now)):
                purse.held += 1

    def leave(self, place: Place) -> None:
        """The connection is over, or authenticated."""
        self._places.pop(place, None)
        place.give_up = _nothing  # it leads to a task that leads back here: its memory would wait for the garbage collector

    def __len__(self) -> int:
        return len(self._places)

    def _purse_of(self, host: str, now: float) -> Purse:
        purse = self._purses.pop(host, None) or Purse(HOST_HANDSHAKES_PER_S, HOST_BURST, HOST_BURST, now)
        self._purses[host] = purse
        if len(self._purses) > MAX_HOSTS:
            self._purses.popitem(last=False)
        return purse


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
