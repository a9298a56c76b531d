"""Fetching what a neighbour has published: newcomers and listeners predict with it until they have a result of their own (SPEC 5.7).

FETCH xid, task, part -> RESULT xid, epoch, size, digest, then chunks; or REFUSE. Nothing moves at either
end, so nothing needs to be durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .exchange import SLOWEST_BYTES_PER_S, Epoch, Subject
from .identity import PeerId
from .messages import Fetch, Refuse, Result
from .tensors import Arrays, Assembly, BadTensor, Manifest, decode

ANSWER_S: Final = 60.0
"""Seconds until a fetch that brought nothing is given up. A result on its way has the time that its size takes besides."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A neighbour's published result arrived whole. Whether it may be used is for the peer to judge."""

    subject: Subject
    partner: PeerId
    epoch: Epoch
    arrays: Arrays


@dataclass(slots=True)
class _Wanted:
    link: int
    partner: PeerId
    subject: Subject
    manifest: Manifest
    deadline: float
    result: Result | None = None
    assembly: Assembly | None = None


class Fetches:
    """The fetches of one peer, at most one per subject."""

    def __init__(self) -> None:
        self._wanted: dict[bytes, _Wanted] = {}

    def ask(self, link: int, partner: PeerId, subject: Subject, manifest: Manifest, xid: bytes, now: float) -> Fetch | None:
        """The message to send, or None if this subject is being fetched already."""
        self._wanted = {x: w for x, w in self._wanted.items() if w.deadline > now}
        if any(w.subject == subject for w in self._wanted.values()):
            return None
        self._wanted[xid] = _Wanted(link, partner, subject, manifest, now + ANSWER_S)
        return Fetch(xid=xid, task=subject.task, part=subject.part)

    def receive(self, link: int, message: Result | Refuse) -> None:
        """Take in the answer. One that does not fit the subject's manifest ends the fetch."""
        wanted = self._wanted.get(message.xid)
        if wanted is None or wanted.link != link or wanted.result is not None:
            return
        if isinstance(message, Refuse) or message.size != wanted.manifest.size(message.encoding):
            del self._wanted[message.xid]
            return
        wanted.result, wanted.assembly = message, Assembly(message.xid, message.size)
        wanted.deadline += message.size / SLOWEST_BYTES_PER_S

    def chunk(self, link: int, xid: bytes, data: bytes) -> Fetched | None:
        """Take in a piece of a result."""
        wanted = self._wanted.get(xid)
        if wanted is None or wanted.link != link or wanted.result is None or wanted.assembly is None:
            return None
        result = wanted.result
        try:
            if not wanted.assembly.add(data):
                return None
            del self._wanted[xid]
            if wanted.assembly.digest() != result.digest:
                return None
            arrays = decode(wanted.manifest, wanted.assembly.payload(), result.encoding)
        except BadTensor:
            self._wanted.pop(xid, None)
            return None
        return Fetched(wanted.subject, wanted.partner, Epoch(result.epoch, PeerId(result.starter)), arrays)

    def link_lost(self, link: int) -> None:
        self._wanted = {x: w for x, w in self._wanted.items() if w.link != link}
