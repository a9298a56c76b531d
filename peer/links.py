"""The connections of one peer: who is at the other end, what has been said, whom to tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protocol.connection import Connection
from protocol.identity import MemberCertificate, PeerId
from protocol.messages import Hello, Message

from .events import Action, LinkId, Send


@dataclass(slots=True)
class Link:
    """One connection. `certificate` is None for a stranger at the door; `hello` is None until both have greeted."""

    id: LinkId
    connection: Connection
    certificate: MemberCertificate | None
    is_dialled: bool
    used: float
    hello: Hello | None = None
    is_introduced: bool = False

    @property
    def peer(self) -> PeerId | None:
        return self.certificate.peer if self.certificate is not None else None


class Links:
    """All connections, by number, in the order in which they were made."""

    def __init__(self) -> None:
        self._links: dict[LinkId, Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def __contains__(self, link: LinkId) -> bool:
        return link in self._links

    def add(self, link: Link) -> None:
        assert link.id not in self._links, "a driver never uses a link's number twice"
        self._links[link.id] = link

    def get(self, link: LinkId) -> Link | None:
        return self._links.get(link)

    def pop(self, link: LinkId) -> Link | None:
        return self._links.pop(link, None)

    def greeted(self, peer: PeerId | None = None) -> list[Link]:
        """Connections on which both have said HELLO: all, or those to one peer."""
        return [k for k in self._links.values() if k.hello is not None and (peer is None or k.peer == peer)]

    def say(self, link: Link, message: Message) -> Send:
        return Send(link.id, link.connection.send(message))

    def tell_all(self, message: Message, *, but: Link | None = None) -> list[Action]:
        """Say this to everybody except the one it came from."""
        return [self.say(k, message) for k in self.greeted() if k is not but]
