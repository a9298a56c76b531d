"""This device's network interfaces: which of them peers are looked for on, why not on the others, and which addresses are next door.

Why: a computer has more interfaces than networks. The bridge of a container engine has the same address on every computer, so a neighbour
that announces it sends us to ourselves; a tunnel carries no multicast. The reasons are kept in words, because `doctor` shows them.

`read_interfaces` and `can_join` ask the system; everything else is pure.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import ifaddr

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Wanted = Literal["auto"] | Sequence[str]
"""The owner's choice: "auto", or names and IP addresses."""

MULTICAST_GROUP = "224.0.0.251"
"""Where mDNS speaks (RFC 6762, 3)."""

MAX_ADDRESSES = 8
"""Addresses a device tells others, as in a peer record. A computer with eight networks is rare; one with fifty temporary IPv6 addresses is
not."""

VIRTUAL = re.compile(
    r"docker|br-|virbr|veth|vnet|lxc|lxd|incus|podman|cni|flannel|cali|kube|vmnet|vboxnet|bridge\d|anpi|vethernet|hyper-v|vmware|virtualbox",
    re.IGNORECASE,
)
"""How the bridges of containers and virtual machines are named on Linux, macOS (`bridge100`) and Windows (`vEthernet (WSL)`)."""

TUNNEL = re.compile(r"tun|tap|utun|wg|ppp|tailscale|ipsec|gpd|nordlynx|awdl|llw|wireguard|openvpn", re.IGNORECASE)
"""How tunnels are named. `awdl` and `llw` are Apple's own links between its devices: no TCP for us there."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as the system tells it: each address with the network it is in."""

    name: str
    title: str
    index: int
    networks: tuple[IPNetwork, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether peers are looked for on an interface, on which of its addresses, and in words why or why not."""

    interface: Interface
    networks: tuple[IPNetwork, ...]
    why: str

    @property
    def is_used(self) -> bool:
        return bool(self.networks)


def read_interfaces() -> list[Interface]:
    """The interfaces that have an address, in the system's order."""
    found = []
    for adapter in ifaddr.get_adapters():
        networks: list[IPNetwork] = []
        for ip in adapter.ips:
            # IPv6 comes as (address, flow, zone); the zone is the interface itself.
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0]
            networks.append(ipaddress.ip_interface(f"{text}/{ip.network_prefix}"))
        if networks:
            name = adapter.name.decode(errors="replace") if isinstance(adapter.name, bytes) else adapter.name
            found.append(Interface(name, adapter.nice_name, adapter.index or 0, tuple(networks)))
    return found


def choose(interfaces: Iterable[Interface], wanted: Wanted) -> list[Choice]:
    """Decide for each interface. With "auto" loopback is used only if there is nothing else: then at least the peers of this computer
    meet."""
    choices = [_auto(interface) if wanted == "auto" else _asked(interface, wanted) for interface in interfaces]
    if wanted == "auto" and not any(choice.is_used for choice in choices):
        return [
            Choice(choice.interface, _loopback(choice.interface), "no other interface has an address, so only this computer is searched")
            if _loopback(choice.interface)
            else choice
            for choice in choices
        ]
    return choices


def unknown(interfaces: Iterable[Interface], wanted: Wanted) -> list[str]:
    """What the owner asked for and this device does not have."""
    if wanted == "auto":
        return []
    known = {word for interface in interfaces for word in _words(interface)}
    return [word for word in wanted if word.lower() not in known]


def networks_of(choices: Iterable[Choice]) -> tuple[IPNetwork, ...]:
    """All networks that are used."""
    return tuple(network for choice in choices for network in choice.networks)


def addresses_to_tell(choices: Iterable[Choice]) -> tuple[str, ...]:
    """Addresses under which others can reach this device, IPv4 first. IPv6 link-local ones are left out: they mean nothing to a third
    device."""
    told = [network.ip for network in networks_of(choices) if not (network.version == 6 and network.is_link_local)]
    return tuple(str(ip) for ip in sorted(told, key=lambda ip: ip.version)[:MAX_ADDRESSES])


def addresses_to_ask_on(choices: Iterable[Choice]) -> list[str]:
    """One IPv4 and one IPv6 link-local address of each interface: what multicast is sent from.

    One of each family, since two would send every packet twice; link-local, since it stays while temporary addresses come and go.
    """
    chosen = []
    for choice in choices:
        four = [network for network in choice.networks if network.version == 4]
        six = [network for network in choice.networks if network.version == 6 and network.is_link_local]
        chosen += [str(networks[0].ip) for networks in (four, six) if networks]
    return chosen


def nearest(addresses: Iterable[str], choices: Sequence[Choice]) -> str | None:
    """The one of a neighbour's addresses to dial, or None if none of them is in a network of ours.

    IPv4 before IPv6, in the order given; one of our own addresses last (a peer on the same computer has no other).
    Unspecified, multicast and broadcast addresses are nobody's. IPv6 link-local needs the zone it was heard on ("fe80::1%2").
    """
    used = networks_of(choices)
    own = {network.ip for network in used}
    best: tuple[tuple[bool, int], str] | None = None
    for text in addresses:
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            continue
        if ip.is_unspecified or ip.is_multicast or not _is_next_door(ip, choices):
            continue
        bare = ipaddress.ip_address(text.partition("%")[0])
        rank = (bare in own, bare.version)
        if best is None or rank < best[0]:
            best = (rank, text)
    return best[1] if best else None


def _is_next_door(ip: IPAddress, choices: Sequence[Choice]) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and ip.is_link_local:
        return ip.scope_id is not None and any(
            choice.is_used and ip.scope_id in (str(choice.interface.index), choice.interface.name) for choice in choices
        )
    for network in networks_of(choices):
        around = network.network
        if ip.version == network.version and ip in around:
            is_host = around.version == 6 or around.prefixlen >= 31 or ip not in (around.network_address, around.broadcast_address)
            return is_host
    return False


def _auto(interface: Interface) -> Choice:
    if _is_loopback(interface):
        return Choice(interface, (), "loopback reaches this computer only")
    names = (interface.name, interface.title)
    if any(VIRTUAL.match(name) for name in names):
        return Choice(interface, (), "a bridge for containers or virtual machines: its addresses repeat on every computer")
    if any(TUNNEL.match(name) for name in names):
        return Choice(interface, (), "a tunnel: multicast does not pass; give the others this device's address instead")
    return _joinable(interface, interface.networks, "in use")


def _asked(interface: Interface, wanted: Sequence[str]) -> Choice:
    words = {word.lower() for word in wanted}
    if words & {interface.name.lower(), interface.title.lower()}:
        networks = _loopback(interface) if _is_loopback(interface) else interface.networks
        return _joinable(interface, networks, "in use: the configuration names it")
    networks = tuple(network for network in interface.networks if str(network.ip) in words)
    if networks:
        return _joinable(interface, networks, f"in use: the configuration names {networks[0].ip}")
    return Choice(interface, (), "not in use: the configuration names others")


def _joinable(interface: Interface, networks: tuple[IPNetwork, ...], why: str) -> Choice:
    return Choice(interface, networks, why) if networks else Choice(interface, (), "has no address that peers could use")


def _words(interface: Interface) -> set[str]:
    return {interface.name.lower(), interface.title.lower()} | {str(network.ip) for network in interface.networks}


def _is_loopback(interface: Interface) -> bool:
    return any(network.is_loopback for network in interface.networks)


def _loopback(interface: Interface) -> tuple[IPNetwork, ...]:
    # IPv4 only: multicast on ::1 works on no system, and 127.0.0.1 is there on all.
    return tuple(network for network in interface.networks if network.is_loopback and network.version == 4)


def can_join(address: str) -> str | None:
    """Try to join the mDNS group on the interface with this IPv4 address; the system's reason if it refuses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(MULTICAST_GROUP) + socket.inet_aton(address))
        except OSError as error:
            return error.strerror or str(error)
    return None
