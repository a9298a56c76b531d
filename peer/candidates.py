"""Neighbours as mDNS shows them: what a daemon says of itself, whether a record is meant for us, and which of those seen are worth a dial.

mDNS is not authenticated, so all of this may be anybody's. A forged record costs a dial that fails at the TLS handshake; the bounds below
keep a flood of them at that. No sockets, no clock: text and numbers in, answers out."""

from __future__ import annotations

import re
import secrets
import string
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.messages import VERSION

if TYPE_CHECKING:
    from .events import Address

SERVICE = "_chinwag._tcp.local."
NAME_ALPHABET = string.ascii_lowercase + string.digits
NAME_LENGTH = 32
"""165 random bits. A DNS label may have 63 bytes."""

MAX_TXT_BYTES = 200
"""RFC 6763 6.2 wants TXT data to fit a packet with everything else; ours has 75 bytes. Longer ones are not ours."""

MAX_CANDIDATES = 256
"""Neighbours remembered. Four times as many as a daemon connects to; the one longest not seen goes first."""

MAX_CANDIDATES_PER_HOST = 16
"""Of those, with one and the same address: more daemons than one computer runs, and few enough that a forger cannot aim us all at one
victim."""

MAX_OFFERS = MAX_CANDIDATES
"""Candidates handed on within OFFER_AGAIN_S, and of these at most MAX_CANDIDATES_PER_HOST with one address: who sends ten thousand names
gets no more dials than who sends sixteen, and does not use up the turns of the others."""

OFFER_AGAIN_S = 10.0
"""A neighbour that was just offered is not offered again for so long: every announcement is sent three times, on every interface."""


def new_name() -> str:
    """A fresh instance name."""
    return "".join(secrets.choice(NAME_ALPHABET) for _ in range(NAME_LENGTH))


def write_txt(tag: str, instance: str) -> dict[str, str]:
    """The TXT record of an instance."""
    return {"v": str(VERSION), "n": tag, "i": instance}


def is_for_us(text: bytes, tag: str, instance: str) -> bool:
    """Whether a TXT record is that of a member of our network that speaks our version. Anything out of shape is not.

    text: the record's strings, each with its length before it. Of two equal keys the first counts, in either case (RFC 6763 6.4).
    """
    if len(text) > MAX_TXT_BYTES:
        return False
    entries: dict[str, str] = {}
    position = 0
    while position < len(text):
        size = text[position]
        entry = text[position + 1 : position + 1 + size]
        if len(entry) != size or not entry.isascii():
            return False
        key, separator, value = entry.decode().partition("=")
        if separator:
            entries.setdefault(key.lower(), value)
        position += 1 + size
    versions = entries.get("v", "").split(",")
    if not all(re.fullmatch("[1-9][0-9]{0,2}", version) for version in versions):
        return False
    return str(VERSION) in versions and entries.get("n") == tag and entries.get("i") == instance


def instance_of(name: str) -> str | None:
    """The instance in a service's full name, or None if it is not one of ours."""
    label = name.lower().removesuffix("." + SERVICE)
    return label if re.fullmatch("[a-z0-9]{32}", label) else None


@dataclass(slots=True)
class _Known:
    address: Address
    offered: float


class Candidates:
    """The neighbours seen, within bounds. `see` decides whether one is worth a dial now."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._on_host: Counter[str] = Counter()
        self._window = float("-inf")
        self._offers: Counter[str] = Counter()

    def see(self, instance: str, address: Address, now: float) -> bool:
        """Note that an instance was seen at an address. True if it should be offered: it is new, has moved, or was last offered a while
        ago."""
        before = self._known.get(instance)
        if before is not None and before.address != address:
            self.forget(instance)
            before = None
        if before is None:
            if self._on_host[address[0]] >= MAX_CANDIDATES_PER_HOST:
                # Most likely instances that crashed, so the newest is the one that lives.
                self.forget(next(name for name, known in self._known.items() if known.address[0] == address[0]))
            elif len(self._known) >= MAX_CANDIDATES:
                self.forget(next(iter(self._known)))
            self._known[instance] = before = _Known(address, float("-inf"))
            self._on_host[address[0]] += 1
        self._known.move_to_end(instance)
        if now - before.offered < OFFER_AGAIN_S or not self._may_offer(address[0], now):
            return False
        before.offered = now
        return True

    def forget(self, instance: str) -> None:
        """An instance said goodbye, or is the one to go."""
        known = self._known.pop(instance, None)
        if known is not None:
            self._on_host[known.address[0]] -= 1
            if not self._on_host[known.address[0]]:
                del self._on_host[known.address[0]]

    def _may_offer(self, host: str, now: float) -> bool:
        if now - self._window >= OFFER_AGAIN_S:
            self._window = now
            self._offers.clear()
        if self._offers[host] >= MAX_CANDIDATES_PER_HOST or self._offers.total() >= MAX_OFFERS:
            return False
        self._offers[host] += 1
        return True

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(known.address for known in self._known.values())

    def __len__(self) -> int:
        return len(self._known)
