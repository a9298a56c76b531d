"""Joining end to end: a stranger dials a listening transport on loopback and comes back a member."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from peer.control import ControlError, Exit
from peer.events import Connected, Disconnected, Event, LinkId, Received
from peer.joining import join
from peer.transport import Transport
from protocol.connection import Connection, MessageReceived
from protocol.identity import Identity, found_network
from protocol.joining import Invite, JoinRefused, admit, invite_link
from protocol.messages import CloseCode, Hello, Join

NOW = int(time.time())
FOUNDER = found_network(b"r" * 32, b"a" * 32, b"p" * 32, NOW)
OTHER = found_network(b"R" * 32, b"A" * 32, b"P" * 32, NOW)
HELLO = Hello((1,), "chinwag/1", (), bytes(32), bytes(32))
HOST = "127.0.0.1"
TOKEN = b"t" * 16


class Inviter:
    """The least a listener must be: it greets, admits whoever has the token, and hangs up."""

    def __init__(self, identity: Identity = FOUNDER, tokens: tuple[bytes, ...] = (TOKEN,), may_invite: bool = False) -> None:
        self.identity, self.tokens, self.may_invite = identity, set(tokens), may_invite
        self.members: list[bytes] = []
        self.names: list[str] = []
        self.told: list[Event] = []
        self._links: dict[LinkId, Connection] = {}
        self.transport = Transport(identity, self._take)

    async def open(self) -> int:
        self.transport.set_door(True)
        return await self.transport.listen(HOST, 0)

    def _take(self, event: Event) -> None:
        self.told.append(event)
        match event:
            case Connected(link, certificate):
                if certificate is not None:
                    self.members.append(certificate.peer)
                self._links[link] = connection = Connection(True, HELLO, is_member=certificate is not None)
                self.transport.send(link, connection.start(time.time()))
            case Received(link, data):
                events, answer = self._links[link].receive(data, time.time())
                self.transport.send(link, answer)
                for found in events:
                    if isinstance(found, MessageReceived) and isinstance(found.message, Join):
                        self._admit(link, found.message)
            case _:
                pass

    def _admit(self, link: LinkId, wanted: Join) -> None:
        connection = self._links[link]
        try:
            if wanted.token not in self.tokens:
                raise JoinRefused("unknown token")
            joined = admit(self.identity, wanted, self.may_invite, time.time())
        except JoinRefused:
            self.transport.send(link, connection.close(CloseCode.INVITE_REFUSED))
        else:
            self.tokens.discard(wanted.token)
            self.names.append(wanted.name)
            self.transport.send(link, connection.send(joined) + connection.close(CloseCode.NORMAL))
        self.transport.disconnect(link)


def link_to(port: int, *more: str, inviter: bytes = FOUNDER.peer, token: bytes = TOKEN, expires: int = NOW + 600) -> str:
    return invite_link(Invite((*more, f"{HOST}:{port}"), inviter, token, expires))


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def test_whoever_has_the_link_becomes_a_member_once() -> None:
    async def work() -> None:
        inviter = Inviter()
        port = await inviter.open()
        link = link_to(port)
        identity = await join(link, "cellar")
        assert identity.network == FOUNDER.network
        assert identity.certificate.invited_by == FOUNDER.peer
        assert not identity.may_invite
        assert inviter.names == ["cellar"]
        with pytest.raises(ControlError, match="used already") as refused:
            await join(link, "attic")
        assert refused.value.exit == Exit.REFUSED

        told: list[Event] = []
        joined = Transport(identity, told.append)
        joined.dial((HOST, port), FOUNDER.peer)
        async with asyncio.timeout(5):
            while identity.peer not in inviter.members:  # noqa: ASYNC110 (a socket's doing)
                await asyncio.sleep(0.005)
        await joined.close()
        await inviter.transport.close()

    run(work)


def test_the_right_to_invite_comes_with_the_invite_and_can_be_used() -> None:
    async def work() -> None:
        founder = Inviter(may_invite=True)
        second = Inviter(await join(link_to(await founder.open()), "second"))
        assert second.identity.may_invite
        third = await join(link_to(await second.open(), inviter=second.identity.peer), "third")
        assert third.network == FOUNDER.network
        assert third.certificate.invited_by == second.identity.peer
        for side in (founder, second):
            await side.transport.close()

    run(work)


def test_the_addresses_of_an_invite_are_tried_in_turn() -> None:
    async def work() -> None:
        inviter, squatter = Inviter(), Inviter(OTHER)
        other_port = await squatter.open()
        link = link_to(await inviter.open(), f"{HOST}:{free_port()}", f"{HOST}:{other_port}")
        assert (await join(link, "cellar")).network == FOUNDER.network
        assert squatter.tokens == {TOKEN}
        assert not [event for event in squatter.told if isinstance(event, Received)]
        for side in (inviter, squatter):
            await side.transport.close()

    run(work)


@pytest.mark.parametrize(
    ("token", "expires", "says"), [(b"u" * 16, NOW + 600, "used already"), (TOKEN, NOW - 5, "expired")], ids=["unknown", "expired"]
)
def test_an_invite_that_is_not_open_is_refused_in_words(token: bytes, expires: int, says: str) -> None:
    async def work() -> None:
        inviter = Inviter()
        with pytest.raises(ControlError, match=says) as refused:
            await join(link_to(await inviter.open(), token=token, expires=expires), "cellar")
        assert refused.value.exit == Exit.REFUSED
        assert refused.value.next is not None
        assert inviter.names == []
        await inviter.transport.close()

    run(work)


def test_a_shut_door_says_that_no_invite_is_open() -> None:
    async def work() -> None:
        inviter = Inviter()
        link = link_to(await inviter.open())
        inviter.transport.set_door(False)
        with pytest.raises(ControlError, match="used already"):
            await join(link, "cellar")
        assert inviter.told == []
        await inviter.transport.close()

    run(work)


def test_an_inviter_that_cannot_be_reached_is_told_with_the_reason_for_each_address() -> None:
    async def work() -> None:
        async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-whatever\r\n")
            writer.close()

        server = await asyncio.start_server(banner, HOST, 0)
        ssh = server.sockets[0].getsockname()[1]
        with pytest.raises(ControlError, match="nothing listens") as failed:
            await join(link_to(free_port(), f"{HOST}:{ssh}"), "cellar")
        assert "TLS" in str(failed.value)
        assert failed.value.exit == Exit.UNREACHABLE
        server.close()

    run(work)


def test_a_link_with_a_typing_error_reaches_nobody() -> None:
    async def work() -> None:
        inviter = Inviter()
        link = link_to(await inviter.open())
        with pytest.raises(ControlError, match="once more") as failed:
            await join(link[:-1], "cellar")
        assert failed.value.exit == Exit.USAGE
        assert inviter.told == []
        await inviter.transport.close()

    run(work)


def test_an_inviter_sees_a_joiner_come_and_go() -> None:
    async def work() -> None:
        inviter = Inviter()
        await join(link_to(await inviter.open()), "cellar")
        await inviter.transport.close()
        assert isinstance(inviter.told[0], Connected)
        assert isinstance(inviter.told[-1], Disconnected)

    run(work)
