"""Links over real sockets on loopback: members talk; everybody else gets nothing and disturbs nobody."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import socket
import ssl
import struct
import tempfile
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import peer.transport as transport_room
from peer.events import Connected, DialFailed, Disconnected, Event, LinkId, Received
from peer.link import Limits
from peer.sockets import address_of, open_listeners
from peer.tls import dialling_context, listening_context, stranger_context
from peer.transport import MAX_DIALS, Transport
from protocol.identity import Identity, found_network, issue_leaf, key_from_seed

NOW = int(time.time())
FOUNDER = found_network(b"r" * 32, b"a" * 32, b"p" * 32, NOW)
OTHER = found_network(b"R" * 32, b"A" * 32, b"P" * 32, NOW)
MIB = 1024 * 1024
HOST = "127.0.0.1"
E = TypeVar("E", bound=Event)


def member(seed: bytes, of: Identity = FOUNDER, now: int = NOW, days: int = 90) -> Identity:
    assert of.authority_key is not None
    assert of.authority is not None
    key = key_from_seed(seed * 32)
    return Identity(key, of.root, of.authority, issue_leaf(of.authority_key, of.authority, key.public_key(), now, days))


MEMBER = member(b"m")


class Side:
    """A transport and all that it told."""

    def __init__(self, identity: Identity, limits: Limits | None = None) -> None:
        self.told: list[Event] = []
        self.transport = Transport(identity, self._deliver, limits)
        self.port = 0
        self.react: Callable[[Event], None] = lambda event: None

    def _deliver(self, event: Event) -> None:
        self.told.append(event)
        self.react(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.told if isinstance(event, kind)]

    def bytes_of(self, link: LinkId) -> bytes:
        return b"".join(event.data for event in self.of(Received) if event.link == link)

    async def until(self, kind: type[E], count: int = 1) -> E:
        await eventually(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]


async def eventually(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 (what is waited for are sockets' doings, which set no Event)
            await asyncio.sleep(0.005)


@asynccontextmanager
async def sides(*identities: Identity, limits: Limits | None = None) -> Any:
    """Sides that are closed afterwards; the first one listens."""
    made = [Side(identity, limits) for identity in identities]
    made[0].port = await made[0].transport.listen(HOST, 0)
    try:
        yield made
    finally:
        for side in made:
            await side.transport.close()


async def linked(listener: Side, dialler: Side) -> tuple[LinkId, LinkId]:
    """A new link between two sides, as each of them numbers it."""
    here, there = len(listener.of(Connected)) + 1, len(dialler.of(Connected)) + 1
    dialler.transport.dial((HOST, listener.port), None)
    return (await listener.until(Connected, here)).link, (await dialler.until(Connected, there)).link


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def outsider(key: Ed25519PrivateKey, *chain: bytes) -> ssl.SSLContext:
    """A client that shows this chain and would believe anybody."""
    context = stranger_context()
    pems = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chain.pem"
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + b"".join(pems))
        context.load_cert_chain(file)
    return context


async def heard_by(port: int, context: ssl.SSLContext | None, says: bytes = b"") -> bytes:
    """What somebody hears who connects, says this and listens until the end."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname="" if context else None)
        writer.write(says)
        async with asyncio.timeout(10):
            heard = await reader.read()
        writer.close()
        return heard
    except OSError:
        return b""


async def still_serves(listener: Side) -> bool:
    """Whether a member can connect and be heard."""
    friend = Side(member(b"f"))
    try:
        here, there = await linked(listener, friend)
        friend.transport.send(there, b"well?")
        await eventually(lambda: listener.bytes_of(here) == b"well?")
        return True
    finally:
        await friend.transport.close()


# members ---------------------------------------------------------------------------------------------------------------------------------


def test_two_members_talk_and_know_who_the_other_is() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            dialler.transport.dial((HOST, listener.port), FOUNDER.peer)
            here, there = await listener.until(Connected), await dialler.until(Connected)
            assert here.certificate == MEMBER.certificate
            assert there.certificate == FOUNDER.certificate
            assert (here.dialled, there.dialled) == (None, (HOST, listener.port))
            assert here.remote[0] == HOST
            listener.transport.send(here.link, b"hello")
            dialler.transport.send(there.link, b"good day")
            assert (await dialler.until(Received)).data == b"hello"
            assert (await listener.until(Received)).data == b"good day"
            dialler.transport.disconnect(there.link)
            assert (await listener.until(Disconnected)).link == here.link
            await dialler.until(Disconnected)

    run(work)


def test_a_peer_listens_on_both_families_with_one_port() -> None:
    async def work() -> None:
        listener, dialler = Side(FOUNDER), Side(MEMBER)
        port = await listener.transport.listen(None, 0)
        families = [HOST, "::1"] if socket.has_ipv6 and has_loopback_6() else [HOST]
        for host in [*families, "localhost"]:
            dialler.transport.dial((host, port), FOUNDER.peer)
        await dialler.until(Connected, len(families) + 1)
        assert not dialler.of(DialFailed)
        for side in (listener, dialler):
            await side.transport.close()

    run(work)


def has_loopback_6() -> bool:
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return False
    return True


def test_eight_mebibytes_each_way_arrive_whole_and_in_order() -> None:
    async def work() -> None:
        payload = b"".join(hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(8 * MIB // 32))
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            here, there = await linked(listener, dialler)
            for at in range(0, len(payload), 300_000):
                listener.transport.send(here, payload[at : at + 300_000])
            dialler.transport.send(there, payload)
            await eventually(lambda: sum(len(e.data) for side in (listener, dialler) for e in side.of(Received)) == 2 * len(payload))
            assert listener.bytes_of(here) == payload
            assert dialler.bytes_of(there) == payload

    run(work)


def test_what_was_sent_before_a_disconnect_arrives() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            here, there = await linked(listener, dialler)
            listener.transport.send(here, b"x" * (6 * MIB))
            listener.transport.send(here, b"the end")
            listener.transport.disconnect(here)
            listener.transport.send(here, b"too late")
            await dialler.until(Disconnected)
            received = dialler.bytes_of(there)
            assert len(received) == 6 * MIB + 7
            assert received.endswith(b"the end")

    run(work)


def test_nothing_is_received_after_a_disconnect_and_the_end_is_told_once() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            here, there = await linked(listener, dialler)
            dialler.react = lambda event: dialler.transport.send(there, b"more") if isinstance(event, Received) else None
            listener.transport.send(here, b"go on")
            listener.transport.disconnect(here)
            await listener.until(Disconnected)
            await dialler.until(Disconnected)
            listener.transport.disconnect(here)
            listener.transport.send(here, b"anybody?")
            await asyncio.sleep(0.05)
            assert not listener.of(Received)
            assert len(listener.of(Disconnected)) == len(dialler.of(Disconnected)) == 1

    run(work)


def test_a_link_may_be_closed_from_within_its_own_event() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            listener.react = lambda event: listener.transport.disconnect(event.link) if isinstance(event, Connected) else None
            dialler.transport.dial((HOST, listener.port), None)
            await listener.until(Disconnected)
            await dialler.until(Disconnected)

    run(work)


# dialling --------------------------------------------------------------------------------------------------------------------------------


def test_another_peer_than_the_one_that_was_meant_is_a_failed_dial() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            dialler.transport.dial((HOST, listener.port), OTHER.peer)
            failed = await dialler.until(DialFailed)
            assert "another peer" in failed.reason
            assert failed.address == (HOST, listener.port)
            assert dialler.told == [failed]
            assert await still_serves(listener)
            assert len(listener.of(Connected)) == 1

    run(work)


def test_a_dial_that_cannot_be_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (_, dialler):
            unused = free_port()
            cases = {
                (HOST, unused): "nothing listens",
                ("no-such-host.invalid", 8786): "no address",
                ("x" * 80, 8786): "not the name",
                ("a..b", 8786): "not the name",
                ("fe80::1%nosuch0", 8786): "",
                (HOST, 70_000): "",
            }
            for address in cases:
                dialler.transport.dial(address, None)
            await dialler.until(DialFailed, len(cases))
            for failed in dialler.of(DialFailed):
                assert cases[failed.address] in failed.reason

    run(work)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def test_a_listener_that_never_shakes_hands_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_room, "HANDSHAKE_S", 0.2)

    async def work() -> None:
        silent = socket.create_server((HOST, 0))
        dialler = Side(MEMBER)
        dialler.transport.dial((HOST, silent.getsockname()[1]), None)
        assert "too long" in (await dialler.until(DialFailed)).reason
        silent.close()
        await dialler.transport.close()

    run(work)


def test_too_many_dials_fail_at_once_but_not_within_the_call() -> None:
    async def work() -> None:
        dialler, unused = Side(MEMBER), free_port()
        for _ in range(MAX_DIALS + 3):
            dialler.transport.dial((HOST, unused), None)
        assert dialler.told == []
        await dialler.until(DialFailed, MAX_DIALS + 3)
        assert sum("too many" in e.reason for e in dialler.of(DialFailed)) == 3
        await dialler.transport.close()

    run(work)


# outsiders -------------------------------------------------------------------------------------------------------------------------------


def leaf_issued_by_a_leaf() -> ssl.SSLContext:
    key = key_from_seed(b"z" * 32)
    return outsider(key, issue_leaf(MEMBER.key, MEMBER.leaf, key.public_key(), NOW), MEMBER.leaf, MEMBER.inviter)


def expired() -> Identity:
    return member(b"e", now=NOW - 5 * 86_400, days=1)


OUTSIDERS: dict[str, Callable[[], ssl.SSLContext]] = {
    "a member of another network": lambda: outsider(OTHER.key, OTHER.leaf, OTHER.inviter),
    "a member without its inviter's certificate": lambda: outsider(MEMBER.key, MEMBER.leaf),
    "an expired member": lambda: outsider(expired().key, expired().leaf, expired().inviter),
    "a leaf issued by a leaf": leaf_issued_by_a_leaf,
    "an authority as a leaf": lambda: outsider(authority_key(), FOUNDER.inviter),
    "nobody": stranger_context,
}


def authority_key() -> Ed25519PrivateKey:
    assert FOUNDER.authority_key is not None
    return FOUNDER.authority_key


@pytest.mark.parametrize(("who", "is_door_open"), [*((who, False) for who in OUTSIDERS), *((who, True) for who in list(OUTSIDERS)[:-1])])
def test_who_is_no_member_gets_nothing_and_makes_no_event(who: str, is_door_open: bool) -> None:
    async def work() -> None:
        async with sides(FOUNDER) as (listener,):
            listener.transport.set_door(is_door_open)
            listener.react = lambda event: listener.transport.send(event.link, b"secret") if isinstance(event, Connected) else None
            assert await heard_by(listener.port, OUTSIDERS[who](), b"let me in") == b""
            assert listener.told == []
            listener.react = lambda event: None
            assert await still_serves(listener)

    run(work)


def test_a_dialler_takes_no_other_networks_member_and_no_expired_one() -> None:
    async def work() -> None:
        for identity in (OTHER, expired()):
            async with sides(identity, MEMBER) as (listener, dialler):
                dialler.transport.dial((HOST, listener.port), None)
                assert "no member of this network" in (await dialler.until(DialFailed)).reason
                assert listener.told == []

    run(work)


def test_the_door_lets_a_stranger_in_while_it_is_open() -> None:
    async def work() -> None:
        async with sides(FOUNDER) as (listener,):
            listener.react = lambda event: listener.transport.send(event.link, b"hello") if isinstance(event, Connected) else None
            assert await heard_by(listener.port, stranger_context()) == b""
            listener.transport.set_door(True)
            reader, writer = await asyncio.open_connection(HOST, listener.port, ssl=stranger_context(), server_hostname="")
            assert await reader.readexactly(5) == b"hello"
            assert (await listener.until(Connected)).certificate is None
            assert await still_serves(listener)
            listener.transport.set_door(False)
            assert await heard_by(listener.port, stranger_context()) == b""
            writer.write(b"I am still here")
            await eventually(lambda: listener.bytes_of(LinkId(1)) == b"I am still here")
            writer.close()
            await listener.until(Disconnected)

    run(work)


def tls_1_2() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def other_alpn() -> ssl.SSLContext:
    context = outsider(MEMBER.key, MEMBER.leaf, MEMBER.inviter)
    context.set_alpn_protocols(["h2"])
    return context


def no_alpn() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("context", [tls_1_2, other_alpn, no_alpn])
def test_other_kinds_of_tls_get_nothing(context: Callable[[], ssl.SSLContext]) -> None:
    async def work() -> None:
        async with sides(FOUNDER) as (listener,):
            listener.transport.set_door(True)
            assert await heard_by(listener.port, context(), b"hello") == b""
            assert listener.told == []
            assert await still_serves(listener)

    run(work)


def test_a_connection_cannot_be_resumed_so_each_proves_its_membership_anew() -> None:
    async def work() -> None:
        async with sides(FOUNDER) as (listener,):
            context = outsider(MEMBER.key, MEMBER.leaf, MEMBER.inviter)
            listener.react = lambda event: listener.transport.send(event.link, b"hello") if isinstance(event, Connected) else None
            reader, writer = await asyncio.open_connection(HOST, listener.port, ssl=context, server_hostname="")
            assert await reader.readexactly(5) == b"hello"
            assert not writer.get_extra_info("ssl_object").session.has_ticket
            writer.close()

    run(work)


# hostile bytes ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 100_000,
        bytes(range(256)) * 400,
        b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + b"\xff" * 16_380,
        b"\x16\x03\x01\x00\x05hello",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"",
    ],
)
def test_garbage_on_the_port_makes_no_event_and_leaves_it_serving(garbage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_room, "HANDSHAKE_S", 0.3)

    async def work() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        async with sides(FOUNDER) as (listener,):
            await asyncio.gather(*(heard_by(listener.port, None, garbage) for _ in range(8)))
            assert listener.told == []
            assert await still_serves(listener)
        assert faults == []

    run(work)


def test_who_dribbles_a_handshake_byte_by_byte_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_room, "HANDSHAKE_S", 0.3)

    async def work() -> None:
        async with sides(FOUNDER) as (listener,):
            reader, writer = await asyncio.open_connection(HOST, listener.port)
            begun = asyncio.get_running_loop().time()
            for byte in b"\x16\x03\x01\x02\x00\x01" + bytes(1000):
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.02)
                if reader.at_eof():
                    break
            assert asyncio.get_running_loop().time() - begun < 3
            assert listener.told == []
            writer.close()

    run(work)


def test_a_crowd_of_silent_connections_does_not_keep_a_member_out() -> None:
    async def work() -> None:
        async with sides(FOUNDER) as (listener,):
            crowd = [await asyncio.open_connection(HOST, listener.port) for _ in range(100)]
            await eventually(lambda: sum(reader.at_eof() for reader, _ in crowd) >= 68)
            assert await still_serves(listener)
            for _, writer in crowd:
                writer.close()

    run(work)


def test_a_storm_of_resets_leaves_the_port_serving() -> None:
    async def work() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        async with sides(FOUNDER) as (listener,):
            for i in range(150):
                sock = socket.create_connection((HOST, listener.port))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if i % 2:
                    sock.send(b"\x16\x03\x01")
                sock.close()
                await asyncio.sleep(0)
            assert await still_serves(listener)
        assert faults == []

    run(work)


def test_what_has_ended_leaves_no_buffers_to_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds 0.3 MiB; a hostile crowd would fill the memory faster than the collector comes by."""
    monkeypatch.setattr(transport_room, "HANDSHAKE_S", 0.2)

    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            begun = len(live_tls())
            crowd = [await asyncio.open_connection(HOST, listener.port) for _ in range(50)]
            await asyncio.gather(heard_by(listener.port, None, b"GET /"), heard_by(listener.port, stranger_context()))
            (await asyncio.open_connection(HOST, listener.port))[1].close()
            _, there = await linked(listener, dialler)
            dialler.transport.disconnect(there)
            dialler.transport.dial((HOST, listener.port), OTHER.peer)
            await dialler.until(DialFailed)
            await listener.until(Disconnected)
            await asyncio.gather(*(reader.read() for reader, _ in crowd), return_exceptions=True)
            for _, writer in crowd:
                writer.close()
            await asyncio.sleep(0.05)
            assert len(live_tls()) == begun

    gc.collect()
    gc.disable()
    try:
        run(work)
    finally:
        gc.enable()


def live_tls() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, SSLProtocol)]


# receivers that take too little ----------------------------------------------------------------------------------------------------------


async def deaf(port: int, identity: Identity) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A member that connects and never reads."""
    reader, writer = await asyncio.open_connection(
        HOST, port, ssl=outsider(identity.key, identity.leaf, identity.inviter), server_hostname="", limit=1024
    )
    writer.transport.pause_reading()
    return reader, writer


def test_a_receiver_that_takes_nothing_is_dropped_and_others_are_not_disturbed() -> None:
    async def work() -> None:
        limits = Limits(stall_s=0.3, slowest_bytes_per_s=10.0 * MIB)
        async with sides(FOUNDER, MEMBER, limits=limits) as (listener, dialler):
            _, writer = await deaf(listener.port, member(b"d"))
            stuck = (await listener.until(Connected)).link
            listener.transport.send(stuck, bytes(48 * MIB))
            here, there = await linked(listener, dialler)
            listener.transport.send(here, b"x" * MIB)
            await eventually(lambda: len(dialler.bytes_of(there)) == MIB)
            dropped = await listener.until(Disconnected)
            assert dropped.link == stuck
            assert "took nothing" in dropped.reason
            assert await still_serves(listener)
            writer.close()

    run(work)


def test_a_receiver_that_takes_little_but_steadily_is_not_dropped() -> None:
    async def work() -> None:
        limits = Limits(stall_s=0.5, slowest_bytes_per_s=10.0 * MIB)
        async with sides(FOUNDER, limits=limits) as (listener,):
            reader, writer = await deaf(listener.port, MEMBER)
            writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            link = (await listener.until(Connected)).link
            listener.transport.send(link, bytes(12 * MIB))
            writer.transport.resume_reading()
            taken = 0
            begun = asyncio.get_running_loop().time()
            while taken < 12 * MIB:
                data = await reader.read(64 * 1024)
                assert data, "dropped"
                taken += len(data)
                await asyncio.sleep(0.005)
            assert asyncio.get_running_loop().time() - begun > limits.stall_s
            assert not listener.of(Disconnected)
            writer.close()

    run(work)


def test_a_receiver_for_whom_too_much_waits_is_dropped() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER, limits=Limits(queue_bytes=MIB)) as (listener, dialler):
            here, _ = await linked(listener, dialler)
            for _ in range(40):
                listener.transport.send(here, bytes(256 * 1024))
            assert "too little" in (await listener.until(Disconnected)).reason

    run(work)


def test_a_disconnect_does_not_wait_for_ever_for_a_deaf_receiver() -> None:
    async def work() -> None:
        limits = Limits(linger_s=0.3, slowest_bytes_per_s=1000.0 * MIB)
        async with sides(FOUNDER, limits=limits) as (listener,):
            _, writer = await deaf(listener.port, MEMBER)
            link = (await listener.until(Connected)).link
            listener.transport.send(link, bytes(32 * MIB))
            listener.transport.disconnect(link)
            await listener.until(Disconnected)
            writer.close()

    run(work)


def test_a_held_transport_takes_nothing_until_it_is_released() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            here, there = await linked(listener, dialler)
            listener.transport.hold(True)
            dialler.transport.send(there, bytes(16 * MIB))
            late = await linked(listener, dialler)
            dialler.transport.send(late[1], b"more")
            await asyncio.sleep(0.1)
            assert not listener.of(Received)
            listener.transport.hold(False)
            await eventually(lambda: len(listener.bytes_of(here)) == 16 * MIB and listener.bytes_of(late[0]) == b"more")

    run(work)


# faults, identity, ending ----------------------------------------------------------------------------------------------------------------


def test_a_fault_in_one_link_ends_that_link_only() -> None:
    async def work() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))
        async with sides(FOUNDER, MEMBER, member(b"n")) as (listener, one, two):
            here_1, there_1 = await linked(listener, one)
            here_2, there_2 = await linked(listener, two)

            def fail(event: Event) -> None:
                if isinstance(event, Received) and event.link == here_1:
                    raise ZeroDivisionError

            listener.react = fail
            one.transport.send(there_1, b"boom")
            await listener.until(Disconnected)
            two.transport.send(there_2, b"unharmed")
            await eventually(lambda: listener.bytes_of(here_2) == b"unharmed")
            assert [e.link for e in listener.of(Disconnected)] == [here_1]
            assert await still_serves(listener)
        assert [type(fault) for fault in faults] == [ZeroDivisionError]

    run(work)


def test_a_renewed_certificate_is_shown_from_the_next_handshake_on_and_the_door_stays_as_it_was() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            here, there = await linked(listener, dialler)
            renewed = replace(MEMBER, leaf=member(b"m", now=NOW + 60).leaf)
            dialler.transport.replace_identity(renewed)
            await linked(listener, dialler)
            certificates = [event.certificate for event in listener.of(Connected)]
            assert certificates == [MEMBER.certificate, renewed.certificate]
            listener.transport.set_door(True)
            listener.transport.replace_identity(FOUNDER)
            (await asyncio.open_connection(HOST, listener.port, ssl=stranger_context(), server_hostname=""))[1].close()
            assert (await listener.until(Connected, 3)).certificate is None
            dialler.transport.send(there, b"the old link is still good")
            await eventually(lambda: bool(listener.bytes_of(here)))

    run(work)


def test_tls_insists_on_version_1_3_and_on_strict_certificates_on_both_sides() -> None:
    for context in (listening_context(FOUNDER), dialling_context(FOUNDER)):
        assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_flags & ssl.VERIFY_X509_STRICT
        assert context.verify_mode == ssl.CERT_REQUIRED


def test_the_key_is_on_disk_only_while_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[tuple[int, bytes]] = []
    load = ssl.SSLContext.load_cert_chain

    def spy(self: ssl.SSLContext, file: str, *rest: Any, **more: Any) -> None:
        seen.append((Path(file).stat().st_mode & 0o777, Path(file).read_bytes()))
        load(self, file, *rest, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)

    async def work() -> None:
        Transport(FOUNDER, lambda event: None)

    run(work)
    assert list(tmp_path.iterdir()) == []
    assert seen
    for mode, content in seen:
        assert mode == 0o600 or not hasattr(socket, "AF_UNIX")
        assert b"ENCRYPTED PRIVATE KEY" in content


def test_closing_says_goodbye_frees_the_port_and_leaves_nothing_running() -> None:
    async def work() -> None:
        async with sides(FOUNDER, MEMBER) as (listener, dialler):
            here, there = await linked(listener, dialler)
            silent = await asyncio.open_connection(HOST, listener.port)
            listener.transport.send(here, b"goodbye")
            await listener.transport.close()
            await dialler.until(Disconnected)
            assert dialler.bytes_of(there) == b"goodbye"
            assert [e.link for e in listener.of(Disconnected)] == [here]
            with pytest.raises(OSError):  # noqa: PT011 (refused, or reset, as the system likes)
                socket.create_connection((HOST, listener.port), 1).recv(1)
            silent[1].close()
        assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []

    run(work)
    gc.collect()


def test_a_port_that_is_taken_cannot_be_listened_on() -> None:
    first = open_listeners(None, 0)
    port = first[0].getsockname()[1]
    assert {listener.getsockname()[1] for listener in first} == {port}
    with pytest.raises(OSError, match=r"(?i)in use|Only one usage"):
        open_listeners(None, port)
    for listener in first:
        listener.close()


def test_the_address_of_a_link_local_neighbour_keeps_its_zone() -> None:
    assert address_of(("fe80::1", 8786, 0, 3)) == ("fe80::1%3", 8786)
    assert address_of(("fe80::1%eth0", 8786, 0, 3)) == ("fe80::1%eth0", 8786)
    assert address_of(("fd00::1", 8786, 0, 0)) == ("fd00::1", 8786)
    assert address_of(("10.0.0.1", 8786)) == ("10.0.0.1", 8786)
