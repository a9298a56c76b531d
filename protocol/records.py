"""A peer's record: where it can be reached and what it learns, signed by itself, so that others may carry it (SPEC 6.5).

A record with a higher sequence replaces the one before, whoever brings it. It is a hint whom to dial where, and no proof: TLS proves who
answers.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .cards import open_card, sign_card
from .identity import PeerId
from .messages import DIGEST
from .wire import U64, Many, OutOfBounds, Structure, Text, UInt, decode, wire

MAX_ADDRESSES: Final = 8
"""A device has a wired, a wireless and a tunnel interface at most, each with two families; more are somebody's aim at others' time."""

MAX_TASKS: Final = 32
"""Tasks named in a record. A device that takes part in more is still found through these."""

ADDRESS: Final = Text(80)
"""An address as text: an IPv6 literal needs 47 bytes, names beyond 74 are not used on a LAN."""

RECORDS_REMEMBERED: Final = 2048
"""Cards whose signature is not checked again, about 3 MiB: the same card comes from every neighbour, and a check costs 0.1 ms."""

RECORD: Final = "record"

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadAddress(OutOfBounds):
    """Text that is no address one can dial. The text of the error says what one looks like."""


@dataclass(frozen=True, slots=True)
class PeerRecord(Structure):
    """What a peer says of itself. `addresses` are its own, each as `format_address` writes it; `tasks` are ids of tasks it takes part in.

    `expires` is in seconds since 1970, UTC: a record that nobody renews is forgotten then.
    """

    sequence: int = wire(UInt(0, U64))
    name: str = wire(Text(64))
    addresses: tuple[str, ...] = wire(Many(ADDRESS, MAX_ADDRESSES))
    tasks: tuple[bytes, ...] = wire(Many(DIGEST, MAX_TASKS))
    expires: int = wire(UInt(0, 2**40))

    def validate(self) -> None:
        for text in self.addresses:
            if format_address(parse_address(text)) != text:
                raise BadAddress(f"{text}: an address in another form than the canonical one")
            if "%" in text:
                raise BadAddress(f"{text}: the zone after % means something on that device only")


def sign_record(record: PeerRecord, key: Ed25519PrivateKey) -> bytes:
    """The record as a card."""
    return sign_card(RECORD, record.encode(), key)


@lru_cache(RECORDS_REMEMBERED)
def open_record(card: bytes) -> tuple[PeerId, PeerRecord]:
    """Whose record this is, and what it says. Raises BadSignature or another WireError."""
    peer, body = open_card(RECORD, card)
    return peer, decode(PeerRecord, body)


def is_newer(record: PeerRecord, known: PeerRecord) -> bool:
    """Whether `record` replaces `known` of the same peer.

    Two of one sequence come only from a device restored from an old copy; then the bytes decide, so that all peers end with the same one.
    """
    return (record.sequence, record.encode()) > (known.sequence, known.encode())


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of "host:port", "1.2.3.4:port" or "[v6]:port"; without a port only if `default_port` is given.

    Literals come back in their canonical form and names in lower case. Raises BadAddress for what cannot be dialled: port 0, multicast,
    Literals come back in canonical form, names in lower case. Raises BadAddress for what cannot be dialled: port 0, multicast,
    """
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?", text, re.ASCII)
    plain = re.fullmatch(r"([^\[\]:]+)(?::([0-9]{1,5}))?", text, re.ASCII)
    if bracketed:
        host, port = _literal(bracketed[1], text), bracketed[2]
        if ":" not in bracketed[1]:
            raise BadAddress(f"{text!r}: only IPv6 addresses stand in brackets")
    elif plain:
        host, port = _literal_or_name(plain[1], text), plain[2]
    elif default_port is not None and text.count(":") > 1:
        host, port = _literal(text, text), None
    else:
        raise BadAddress(f"{text!r}: an address looks like 192.168.1.7:8786, [fd00::7]:8786 or host.local:8786")
    number = default_port if port is None else int(port)
    if number is None:
        raise BadAddress(f"{text!r}: the port is missing, as in {text}:8786")
    if not 1 <= number <= 65_535 or (port or "").startswith("0"):
        raise BadAddress(f"{text!r}: a port is a number from 1 to 65535")
    return host, number


def format_address(address: tuple[str, int]) -> str:
    """The address as text that `parse_address` reads."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(1024)
def tellable(addresses: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Those of a peer's own addresses that others can use, as a record or an invite holds them: canonical, without doubles, at most 8.

    IPv6 addresses with a zone are left out: the zone names an interface of this device, and neighbours on that link meet through mDNS.
    """
    found = []
    for address in addresses:
        try:
            text = format_address(parse_address(format_address(address)))
        except BadAddress:
            continue
        if "%" not in text and text not in found and len(text) <= ADDRESS.high:
            found.append(text)
    return tuple(found[:MAX_ADDRESSES])


def _literal_or_name(host: str, text: str) -> str:
    labels = host.lower().removesuffix(".").split(".")
    # A name that ends in a number is an IPv4 address or a mistake: resolvers take "127.1" and "0x7f.1" for one.
    if re.fullmatch(r"0x[0-9a-f]*|[0-9]+", labels[-1]):
        return _literal(host, text)
    if len(host) > 253 or not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", label) for label in labels):
        raise BadAddress(f"{text!r}: not the name of a host")
    return ".".join(labels)


def _literal(host: str, text: str) -> str:
    try:
        ip: IPAddress = ipaddress.ip_address(host)
    except ValueError:
        raise BadAddress(f"{text!r}: not an IP address") from None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,32}", ip.scope_id):
            raise BadAddress(f"{text!r}: not the name of an interface")
        ip = ip.ipv4_mapped or ip
    if ip.is_multicast or ip.is_unspecified or ip == ipaddress.IPv4Address("255.255.255.255"):
        raise BadAddress(f"{text!r}: no single host has this address")
    return str(ip)
