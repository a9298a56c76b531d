"""Joining over sockets: dial the inviter as a stranger, let `protocol.joining.Joiner` do the talking, come back a member.

The addresses of the invite are tried in turn. A refusal ends the matter only if it is the inviter's: another device may have got its
address meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.identity import Identity
from protocol.joining import BadLink, Invite, Joiner, read_link
from protocol.messages import CloseCode
from protocol.records import parse_address

from .control import ControlError, Exit
from .events import Address
from .sockets import connect, in_words
from .tls import ALPN, stranger_context

DIAL_S: Final = 5.0
"""One address, until TCP is connected."""

HANDSHAKE_S: Final = 5.0

ANSWER_S: Final = 10.0
"""From the handshake to the certificate. The inviter signs and writes to its disk: tens of milliseconds."""

READ_BYTES: Final = 16 * 1024
"""Read at a time. JOINED has about 2 KiB."""


@dataclass(frozen=True, slots=True)
class StrangerLink:
    """A TLS connection without a certificate of ours. `certificate` is the one, DER, that the other side has proved to hold."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    certificate: bytes


async def connect_as_stranger(address: Address) -> StrangerLink:
    """Dial without a certificate. Who answers is not checked: only the invite can tell. Raises OSError."""
    sock, _ = await connect(address, DIAL_S)
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=stranger_context(), server_hostname="", ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=1.0
    )
    tls = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert(True)
    if tls.selected_alpn_protocol() != ALPN or certificate is None:
        writer.transport.abort()
        raise ConnectionAbortedError("it speaks another protocol")
    return StrangerLink(reader, writer, certificate)


async def join(link: str, name: str, wall: Callable[[], float] = time.time) -> Identity:
    """Become a member of the network that this link invites to, with a new key. Raises ControlError, which says what to do."""
    try:
        invite = read_link(link)
    except BadLink as error:
        raise ControlError(_sentence(str(error)), "chinwag join LINK, with the whole link", Exit.USAGE) from None
    seeds = os.urandom(32), os.urandom(32)
    failures = []
    for text in invite.addresses:
        try:
            joiner = await _join_at(parse_address(text), invite, name, seeds, wall)
        except (OSError, UnicodeError) as error:
            failures.append(f"{text}: {in_words(error)}")
            continue
        if joiner.identity is not None:
            return joiner.identity
        if joiner.is_inviter:
            raise _refused(joiner)
        failures.append(f"{text}: {joiner.error}")
    raise ControlError(f"The inviting device was not reached ({'; '.join(failures)}).", "chinwag doctor, on both devices", Exit.UNREACHABLE)


async def _join_at(address: Address, invite: Invite, name: str, seeds: tuple[bytes, bytes], wall: Callable[[], float]) -> Joiner:
    """One attempt. The joiner has an identity or an error afterwards. Raises OSError."""
    link = await connect_as_stranger(address)
    joiner = Joiner(invite, link.certificate, name, *seeds, wall())
    try:
        async with asyncio.timeout(ANSWER_S):
            while joiner.identity is None and joiner.error is None:
                if data := await link.reader.read(READ_BYTES):
                    link.writer.write(joiner.receive(data, wall()))
                    await link.writer.drain()
                else:
                    joiner.hung_up()
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        # A listener whose door is shut refuses in TLS, after our side of the handshake is over.
        joiner.hung_up()
    finally:
        link.writer.close()
    return joiner


def _refused(joiner: Joiner) -> ControlError:
    sentence = _sentence(joiner.error or "")
    if joiner.code == CloseCode.VERSION:
        return ControlError(sentence, "install the newer version of Chinwag on the other device", Exit.VERSION)
    return ControlError(sentence, "chinwag invite, on the device that is a member already", Exit.REFUSED)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
