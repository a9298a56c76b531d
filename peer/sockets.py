"""Plain TCP: sockets that listen on every family, sockets that reach an address, and what went wrong in words.

Why not asyncio's own servers and connections: they begin TLS before one can count who is at the door, and their errors are lists.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from typing import Any, Final

from .events import Address

BACKLOG: Final = 128
"""Connections that the kernel holds until they are accepted."""

MAX_ATTEMPTS: Final = 4
"""Addresses of one name that are tried, in the resolver's order, within the time for one."""

PORT_ATTEMPTS: Final = 8
"""Free ports of IPv4 that are tried until one is free for IPv6 too."""


def open_listeners(host: str | None, port: int) -> list[socket.socket]:
    """Listening sockets on this host's addresses (None: all interfaces, IPv4 and IPv6) and on one port; 0 is any free one. Raises OSError.

    A computer without one of the families has one socket fewer. A port that is taken in one family is taken.
    """
    for attempt in range(PORT_ATTEMPTS):
        opened: list[socket.socket] = []
        try:
            for family, name in _names(host, port):
                # The second socket takes the port that the first was given.
                chosen = opened[0].getsockname()[1] if opened else port
                if (listener := _listener(family, (name[0], chosen, *name[2:]))) is not None:
                    opened.append(listener)
        except OSError as error:
            for listener in opened:
                listener.close()
            if port == 0 and opened and error.errno == errno.EADDRINUSE and attempt + 1 < PORT_ATTEMPTS:
                continue
            raise
        if opened:
            return opened
    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _names(host: str | None, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    if host is None:
        return [(socket.AF_INET, ("0.0.0.0", port)), (socket.AF_INET6, ("::", port))]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list({name: (family, name) for family, _, _, _, name in found}.values())


def _listener(family: socket.AddressFamily, name: tuple[Any, ...]) -> socket.socket | None:
    """None if the computer does not have this family, or no address of it."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            # On Windows SO_REUSEADDR lets another program take over a port that is in use; this forbids it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined]
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(name)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise
    return sock


async def connect(address: Address, timeout_s: float) -> tuple[socket.socket, Address]:
    """A connected socket, and what it is connected to. Each of a name's addresses has its share of the time.

    Raises OSError (of which TimeoutError is one), or UnicodeError for what cannot be a name.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        found = (await loop.getaddrinfo(address[0], address[1], type=socket.SOCK_STREAM))[:MAX_ATTEMPTS]
        failed: OSError = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        for family, kind, proto, _, name in found:
            try:
                async with asyncio.timeout(timeout_s / len(found)):
                    return await _connected(family, kind, proto, name), address_of(name)
            except OSError as error:
                failed = error
        raise failed


async def _connected(family: int, kind: int, proto: int, name: Any) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, name)
    except BaseException:
        sock.close()
        raise
    return sock


def address_of(name: Any) -> Address:
    """Host and port of a socket's name; an IPv6 address of one link only keeps its zone, without which nobody can dial it."""
    host, port = str(name[0]), int(name[1])
    zone = name[3] if len(name) > 3 else 0
    return (f"{host}%{zone}" if zone and "%" not in host else host), port


def in_words(error: BaseException) -> str:
    """What a person can make of a connection that failed or broke."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"what answers is no member of this network ({error.verify_message})"
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
            return "the other side does not take this peer for a member of its network"
        case ssl.SSLError():
            return f"what answers does not speak our TLS ({error.reason})" if error.reason else "what answers does not speak our TLS"
        case ConnectionRefusedError():
            return "nothing listens there"
        case ConnectionResetError() | BrokenPipeError():
            return "the other side hung up"
        case TimeoutError():
            return "no answer in time"
        case ConnectionAbortedError():
            return "the TLS handshake took too long" if "handshake" in str(error) else "the connection was cut"
        case socket.gaierror():
            return "no address is known for this name"
        case UnicodeError():
            return "this is not the name of a host"
        case OSError():
            return (error.strerror or str(error) or type(error).__name__).lower()
        case _:
            return str(error) or type(error).__name__
