"""What keeps peers from finding or reaching each other on this device, found out by trying, each with what to type about it.

Why: "the devices never see each other, and nothing says why" is what people complain of most with programs like this one. Every check ends
in a sentence, and every one that failed in a next step.

Nothing is changed, and nothing heavy is imported: it must run where the rest does not. The checks are small functions of what they judge;
`run_checks` alone asks the system.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from . import firewall
from .interfaces import MULTICAST_GROUP, Choice, Wanted, addresses_to_ask_on, choose, read_interfaces, unknown

if TYPE_CHECKING:
    from .events import Address

MDNS_PORT = 5353

ECHO_S = 1.0
"""How long a multicast packet may take to come back to the device that sent it. It takes a tenth of a millisecond."""

LOOK_S = 1.5
"""How long to look for neighbours: those there are answer within 0.6 s, and a lost packet is asked for again after 1 s."""

REACH_S = 2.0
"""How long a neighbour may take to take a TCP connection: twice the second after which a lost first packet is sent again."""

MAX_REACHED = 16
"""Neighbours that are tried."""

MIN_FREE_BYTES = 256 * 1024 * 1024
"""Room for the largest model (64 MiB) as it is, as it comes in, and as it is being written."""

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""A clock that shows less was never set: this program is younger."""

LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()

OLDEST_PYTHON = (3, 11)

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `says` is a sentence; `next` is what to type or do about it, None if there is nothing to do."""

    name: str
    is_ok: bool
    says: str
    next: str | None = None


async def run_checks(
    home: Path,
    port: int,
    interfaces: Wanted = "auto",
    *,
    validity: tuple[int, int] | None = None,
    tag: str | None = None,
    daemon: int | None = None,
    uses_mdns: bool = True,
    run: firewall.Run = firewall.run_tool,
) -> list[Check]:
    """Look at everything, in the order in which one thing rests on another.

    home: the peer's folder, which need not exist. port: the configured TCP port. validity: from when to when this peer's certificate is in
    force, in seconds since 1970. tag: the network's tag, to look for neighbours; without it none are looked for. daemon: process id of the
    daemon that runs from this folder.
    """
    try:
        found = read_interfaces()
    except OSError:
        found = []
    choices = choose(found, interfaces)
    names = [choice.interface.name for choice in choices if choice.is_used]
    checks = [
        check_python(sys.version_info[:3]),
        check_libraries(_requirements(), _installed),
        check_folder(home),
        check_room(home),
        check_clock(time.time(), validity),
        *check_interfaces(choices, unknown(found, interfaces)),
        check_port(port, try_port(port), daemon),
    ]
    if uses_mdns:
        places = [place for place in addresses_to_ask_on(choices) if ":" not in place]
        refusals = await asyncio.gather(*(asyncio.to_thread(hear_self, place) for place in places))
        checks += [check_multicast(place, refusal, port) for place, refusal in zip(places, refusals, strict=True)]
    checks.append(check_firewall(await asyncio.to_thread(firewall.judge, port or 8786, names, run)))
    if uses_mdns and tag is not None and names:
        checks.append(check_neighbours(*await look_around(tag, interfaces)))
    return checks


# what is judged ---------------------------------------------------------------------------------------------------------------------------


def check_python(version: tuple[int, int, int]) -> Check:
    says = f"Python {'.'.join(map(str, version))}"
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Check("python", False, f"{says} is too old.", f"install Python {oldest} or newer, and Chinwag in it")
    return Check("python", True, f"{says}.")


def check_libraries(requirements: Iterable[str], installed: Callable[[str], str | None]) -> Check:
    """requirements: as package metadata writes them, "zeroconf>=0.150". Optional ones (with a marker) are passed over."""
    wrong, count = [], 0
    for requirement in requirements:
        parts = re.fullmatch(r"([\w.-]+)\s*(.*)", requirement)
        if ";" in requirement or parts is None:
            continue
        count += 1
        has = installed(parts[1])
        lowest = re.search(r">=\s*([\d.]+)", parts[2])
        if has is None:
            wrong.append(f"{parts[1]} is missing")
        elif lowest and _numbers(has) < _numbers(lowest[1]):
            wrong.append(f"{parts[1]} {has} is older than {lowest[1]}")
    if wrong:
        return Check("libraries", False, f"{'; '.join(wrong)}.", f"{sys.executable} -m pip install --upgrade chinwag")
    return Check(
        "libraries", True, f"All {count} libraries are there." if count else "Not installed as a package; libraries are not compared."
    )


def check_folder(home: Path) -> Check:
    if not home.is_dir():
        return Check("folder", False, f"There is no peer in {home} yet.", "chinwag init")
    try:
        probe = home / f".doctor-{secrets.token_hex(4)}"
        probe.touch(0o600)
        probe.unlink()
    except OSError as error:
        return Check("folder", False, f"{home} cannot be written ({error.strerror}).", f'ls -ld "{home}"')
    # A folder that is shut hides all that is in it.
    inside = [home / "config.toml", home / "state.db", home / "identity", *sorted((home / "identity").glob("*"))]
    readable = [path for path in (home, *inside) if _is_readable_by_others(path)] if _is_readable_by_others(home) else []
    if readable:
        names = ", ".join(str(path) for path in readable[:3])
        return Check("folder", False, f"Others on this device can read {names}.", f'chmod -R go= "{home}"')
    return Check("folder", True, f"{home} is writable, and yours alone.")


def check_room(home: Path) -> Check:
    place = next((path for path in (home, *home.parents) if path.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free
    says = f"{free / 1e9:.1f} GB free at {place}"
    if free < MIN_FREE_BYTES:
        return Check(
            "disk", False, f"{says}; {MIN_FREE_BYTES / 1e9:.1f} are needed.", f"make room at {place}, or move the peer with --home"
        )
    return Check("disk", True, f"{says}.")


def check_clock(now: float, validity: tuple[int, int] | None, platform: str = sys.platform) -> Check:
    commands = {"win32": "w32tm /resync", "darwin": "sudo sntp -sS time.apple.com"}
    set_clock = commands.get(platform, "sudo timedatectl set-ntp true")
    if not EARLIEST <= now <= LATEST:
        return Check("clock", False, f"The clock shows the year {time.gmtime(now).tm_year}.", set_clock)
    says = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if validity is not None and now < validity[0]:
        behind = _days(validity[0] - now)
        return Check("clock", False, f"It is {says}: {behind} before this peer's certificate begins, so the clock is behind.", set_clock)
    if validity is not None and now > validity[1]:
        past = _days(now - validity[1])
        return Check(
            "clock",
            False,
            f"It is {says}: this peer's certificate ran out {past} ago, or the clock is ahead.",
            f"{set_clock}; if the time is right, ask for a new invite and type: chinwag join LINK",
        )
    return Check(
        "clock",
        True,
        f"It is {says}" + ("." if validity is None else f", and the certificate is good for {_days(validity[1] - now)} more."),
    )


def check_interfaces(choices: Sequence[Choice], missing: Sequence[str]) -> list[Check]:
    """One for each interface with why it is or is not used, one for each that was asked for and is not there, one if none is used."""
    checks = []
    for choice in choices:
        networks = ", ".join(str(network) for network in choice.networks or choice.interface.networks)
        title = "" if choice.interface.title == choice.interface.name else f" ({choice.interface.title})"
        checks.append(Check(f"interface {choice.interface.name}{title}", True, f"{networks}: {choice.why}."))
    fix = 'set interfaces = "auto" under [peer] in config.toml'
    checks += [
        Check(f"interface {word}", False, f"The configuration names {word}, which this device does not have.", fix) for word in missing
    ]
    if not any(choice.is_used for choice in choices):
        checks.append(
            Check("interfaces", False, "No interface is in use, so no neighbour can be found.", "connect this device to a network")
        )
    return checks


def check_port(port: int, refusal: OSError | None, daemon: int | None) -> Check:
    """refusal: what the system said when the port was tried."""
    if port == 0:
        return Check("port", True, "Any free TCP port is taken at each start, so others cannot keep this device's address.")
    if refusal is None:
        if daemon is not None:
            return Check(
                "port", False, f"The daemon runs (process {daemon}) but does not hold TCP port {port}.", "chinwag stop, then chinwag start"
            )
        return Check("port", True, f"TCP port {port} is free.")
    if daemon is not None:
        return Check("port", True, f"TCP port {port} is held by this peer's daemon (process {daemon}).")
    free = "set port = 0 under [peer] in config.toml, which takes any free one"
    if isinstance(refusal, PermissionError):
        return Check("port", False, f"TCP port {port} may not be used by this user.", free)
    return Check("port", False, f"TCP port {port} is held by another program ({refusal.strerror}).", free)


def check_multicast(address: str, refusal: OSError | None, port: int, platform: str = sys.platform) -> Check:
    """refusal: why a packet to the mDNS group did not come back on the interface with this address; None if it did."""
    name = f"multicast {address}"
    if refusal is None:
        return Check(name, True, f"What is sent to {MULTICAST_GROUP} comes back.")
    reason = refusal.strerror or str(refusal)
    if refusal.errno in (errno.EADDRINUSE, errno.EACCES):
        who = {"win32": "netstat -ano -p udp | findstr :5353", "darwin": f"sudo lsof -nP -iUDP:{MDNS_PORT}"}
        return Check(
            name, False, f"UDP port {MDNS_PORT} cannot be shared ({reason}).", who.get(platform, f"sudo ss -ulpn sport = :{MDNS_PORT}")
        )
    # Static addresses are equals of mDNS, so they are the way that always works.
    return Check(
        name, False, f"Multicast does not work here ({reason}); neighbours must be told.", f'on the others: static = ["{address}:{port}"]'
    )


def check_firewall(verdict: firewall.Verdict) -> Check:
    return Check("firewall", verdict.answer != "shut", verdict.says, verdict.next)


def check_neighbours(seen: Sequence[Address], silent: Sequence[Address]) -> Check:
    """seen: the addresses found by mDNS; silent: those of them that took no TCP connection."""
    if not seen:
        return Check("neighbours", True, "No other peer of this network is in sight.")
    if silent:
        where = ", ".join(f"{host}:{port}" for host, port in silent[:3])
        return Check(
            "neighbours",
            False,
            f"{len(silent)} of {len(seen)} peers in sight: no connection ({where}). A firewall is shut, or the Wi-Fi keeps devices apart.",
            "chinwag doctor, on that device; and turn off guest or client isolation at the access point",
        )
    return Check("neighbours", True, f"Peers of this network in sight: {len(seen)}, and all take connections.")


# what asks the system ---------------------------------------------------------------------------------------------------------------------


def try_port(port: int) -> OSError | None:
    """Listen on the TCP port for a moment; what the system says if it refuses."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                # As the daemon does: connections of a daemon that has just ended must not look like another program.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def hear_self(address: str) -> OSError | None:
    """Send a packet to the mDNS group from the interface with this IPv4 address, and wait until it comes back; why not, if it does not.

    The packet is a question for a name that nobody has, so nobody answers.
    """
    token = secrets.token_hex(16).encode()
    name = b"".join(bytes([len(label)]) + label for label in (token, b"_chinwag", b"_tcp", b"local", b""))
    question = bytes([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + name + bytes([0, 16, 0, 1])
    try:
        with (
            closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as ear,
            closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as mouth,
        ):
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            ear.bind(("", MDNS_PORT))
            group = socket.inet_aton(MULTICAST_GROUP) + socket.inet_aton(address)
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            mouth.sendto(question, (MULTICAST_GROUP, MDNS_PORT))
            deadline = time.monotonic() + ECHO_S
            while (left := deadline - time.monotonic()) > 0:
                ear.settimeout(left)
                if token in ear.recv(9000):
                    return None
    except TimeoutError:
        pass
    except OSError as error:
        return error
    return TimeoutError("nothing comes back")


async def look_around(tag: str, interfaces: Wanted) -> tuple[list[Address], list[Address]]:
    """The addresses of this network's peers in sight, and those of them that take no TCP connection."""
    from .discovery import Discovery

    looking = Discovery(tag, None, lambda address: None, interfaces)
    await looking.start()
    await asyncio.sleep(LOOK_S)
    seen = list(looking.candidates())
    await looking.stop()
    answers = await asyncio.gather(*(_takes_connections(address) for address in seen[:MAX_REACHED]))
    return seen, [address for address, does in zip(seen, answers, strict=False) if not does]


async def _takes_connections(address: Address) -> bool:
    try:
        async with asyncio.timeout(REACH_S):
            _, writer = await asyncio.open_connection(*address)
    except OSError:  # TimeoutError is one
        return False
    writer.transport.abort()
    return True


def _is_readable_by_others(path: Path) -> bool:
    try:
        return os.name == "posix" and bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def _requirements() -> list[str]:
    try:
        return metadata.requires("chinwag") or []
    except metadata.PackageNotFoundError:
        return []


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _days(seconds: float) -> str:
    days = round(seconds / DAY_S)
    return f"{round(seconds / 3600)} hours" if days < 2 else f"{days} days"
