"""Sockets: TLS links to other peers, as events for the brain and actions from it.

    dial ──► TCP ──► TLS ──► the peer that was meant? ──► Connected ─► Received* ─► Disconnected
                                                     └──► DialFailed
    accept ─► a place? ─► TLS, a member? ──► Connected ─► Received* ─► Disconnected
                                        └──► nothing: whoever is no member gets no bytes, and makes no event

What one link does is in `link.py`, who may begin a handshake in `admission.py`, what TLS insists on in `tls.py`. Nothing here knows what
the bytes mean. In TLS 1.3 a dialler's handshake ends before the listener has checked it, so a dialler that is refused sees Connected, then
Disconnected. It has told nothing: the listener speaks first.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from protocol.identity import BadCertificate, Identity, PeerId, short

from .admission import Admission, Place
from .events import Address, Connected, DialFailed, Disconnected, Event, LinkId, Received
from .link import Limits, Link
from .sockets import address_of, connect, in_words, open_listeners
from .tls import certificate_of, dialling_context, listening_context, open_door

MAX_LINKS: Final = 64
"""Links at once. A gossip learner needs a few neighbours; a link costs 0.3 MiB, and a ping every 15 s."""

MAX_DIALS: Final = 32
"""Dials at once; more fail at once. Looking up a name holds a thread."""

DIAL_S: Final = 5.0
"""Finding the address and connecting. A peer that is there answers within milliseconds, or a second if its Wi-Fi slept."""

HANDSHAKE_S: Final = 5.0
"""The TLS handshake, from its first to its last byte, however slowly they come. 2 ms on a LAN."""

ACCEPT_PAUSE_S: Final = 0.5
"""Wait when the system refuses to accept (no file descriptors are left): asking again at once would spin."""

CLOSE_S: Final = 2.0
"""Time for the last messages to leave when the peer stops."""


class Transport:
    """All links of one peer. `deliver` is called on the event loop, and never from within `dial`, `send` or `disconnect`.

    For every Connected there is one Disconnected, and Received only in between; for every dial, one Connected or DialFailed. After
    `disconnect` nothing more is received from that link.
    """

    def __init__(self, identity: Identity, deliver: Callable[[Event], None], limits: Limits | None = None) -> None:
        self._deliver = deliver
        self._limits = limits or Limits()
        self._numbers = itertools.count(1)
        self._links: dict[LinkId, Link] = {}
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._dials = 0
        self._admission = Admission()
        self._is_door_open = self._is_held = self._is_closed = False
        self._is_empty = asyncio.Event()
        # Every link's bytes arrive here and are copied out before the next link's come, so one buffer is enough.
        self._buffer = memoryview(bytearray(self._limits.slice_bytes))
        self.replace_identity(identity)

    def replace_identity(self, identity: Identity) -> None:
        """Use these certificates in handshakes from now on. Links that are open stay."""
        self._listening = listening_context(identity)
        self._dialling = dialling_context(identity)
        open_door(self._listening, self._is_door_open)

    def set_door(self, is_open: bool) -> None:
        """Whether strangers without a certificate may connect, to be let in by an invite. Handshakes under way are not concerned."""
        self._is_door_open = is_open
        open_door(self._listening, is_open)

    # listening ---------------------------------------------------------------------------------------------------------------------------

    async def listen(self, host: str | None, port: int) -> int:
        """Listen on this host (None: all interfaces, IPv4 and IPv6) and port (0: any free one). The port. Raises OSError."""
        self._listeners = open_listeners(host, port)
        for listener in self._listeners:
            self._spawn(self._accept(listener))
        return int(self._listeners[0].getsockname()[1])

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, name = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            self._enter(sock, address_of(name))
            await asyncio.sleep(0)  # a full backlog is accepted without ever waiting, and other links must have their turn

    def _enter(self, sock: socket.socket, remote: Address) -> None:
        place = self._admission.enter(remote[0], asyncio.get_running_loop().time())
        if place is None:
            sock.close()
            return
        task = self._spawn(self._answer(sock, remote, place))
        place.give_up = task.cancel

    async def _answer(self, sock: socket.socket, remote: Address, place: Place) -> None:
        """Shake hands with whoever has dialled. What is wrong with it ends here, without a word."""
        link = Link(self, self._limits, self._buffer, remote)
        link.place = place
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link,
                sock,
                ssl=self._listening,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=self._limits.linger_s,
            )
        except OSError as error:
            _forget_frames(error)
        finally:
            if link.number is None:
                self._admission.leave(place)

    # dialling ----------------------------------------------------------------------------------------------------------------------------

    def dial(self, address: Address, expected: PeerId | None) -> None:
        """Connect. If `expected` is given, only that peer will do."""
        if self._is_closed:
            return
        if self._dials >= MAX_DIALS:
            asyncio.get_running_loop().call_soon(self._deliver, DialFailed(address, "too many dials at once"))
            return
        self._dials += 1
        self._spawn(self._dial(address, expected))

    async def _dial(self, address: Address, expected: PeerId | None) -> None:
        link = Link(self, self._limits, self._buffer, address, address, expected)
        try:
            sock, link.remote = await connect(address, DIAL_S)
            await asyncio.get_running_loop().create_connection(
                lambda: link,
                sock=sock,
                ssl=self._dialling,
                server_hostname="",  # none: it would tell everybody on the way whom we look for
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=self._limits.linger_s,
            )
            why = link.refusal
        except (OSError, UnicodeError, OverflowError) as error:
            why = in_words(error)
            _forget_frames(error)
        finally:
            self._dials -= 1
        if why is not None:
            self._deliver(DialFailed(address, why))

    # links -------------------------------------------------------------------------------------------------------------------------------

    def send(self, link: LinkId, data: bytes) -> None:
        """Queue these bytes. Never waits; a link whose other side takes too little is dropped."""
        if link in self._links:
            self._links[link].send(data)

    def disconnect(self, link: LinkId) -> None:
        """Close once what was sent before has left."""
        if link in self._links:
            self._links[link].close()

    def hold(self, is_held: bool) -> None:
        """Take nothing in from any link for a while: whoever works off the events has too many of them."""
        if is_held != self._is_held:
            self._is_held = is_held
            for link in self._links.values():
                link.hold(is_held)

    def made(self, link: Link, transport: asyncio.Transport) -> str | None:
        """A handshake is over: take the link in, or say why not."""
        try:
            certificate = certificate_of(transport.get_extra_info("ssl_object"))
        except BadCertificate as error:
            return str(error)
        if certificate is None and not self._is_door_open:
            return "the door is shut"
        if certificate is not None and link.expected not in (None, certificate.peer):
            return f"another peer answers there: {short(certificate.peer)}"
        if len(self._links) >= MAX_LINKS or self._is_closed:
            return f"there are {MAX_LINKS} links already"
        if link.place is not None and certificate is not None:
            self._admission.succeeded(link.place, asyncio.get_running_loop().time())
        elif link.place is not None:
            link.place.give_up = lambda: link.drop("its place was needed")
        link.number = LinkId(next(self._numbers))
        self._links[link.number] = link
        link.hold(self._is_held)
        self._deliver(Connected(link.number, certificate, link.dialled, link.remote))
        return None

    def received(self, link: Link, data: bytes) -> None:
        assert link.number is not None
        self._deliver(Received(link.number, data))

    def lost(self, link: Link, reason: str) -> None:
        assert link.number is not None
        del self._links[link.number]
        if link.place is not None:
            self._admission.leave(link.place)
        if self._is_closed and not self._links:
            self._is_empty.set()
        self._deliver(Disconnected(link.number, reason))

    # ending ------------------------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop listening and dialling, let what is queued leave for a moment, and end every link."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for end in (Link.close, Link.drop):
            for link in list(self._links.values()):
                end(link, "this peer is stopping")
            try:
                async with asyncio.timeout(CLOSE_S if self._links else 0):
                    await self._is_empty.wait()
            except TimeoutError:
                pass

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Only a fault in this program ends a task with an error; it is reported, and the other links go on."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler({"message": "a connection failed", "exception": error, "task": task})


def _forget_frames(error: Exception) -> None:
    """Break the circle of a failed handshake's error and the frames it went through. They hold asyncio's TLS buffers, 0.3 MiB, which would
    stay until the garbage collector comes by: a crowd of hostile connections cost 100 MiB, and now costs 12."""
    error.__traceback__ = None
