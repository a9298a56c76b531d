"""Discovery between real hosts: every claim that peer/discovery.py makes about a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scenarios.lan import Host, Lan

LanFactory = Callable[[int], Lan]
ROOT = Path(__file__).parents[2]
TAG = "0123456789abcdef"
PORT = 8786

PATIENCE_S = 20.0
"""How long a test waits for what must happen. Far longer than it takes, as the machine may be busy with other tests."""


class Looker:
    """A daemon that only looks for neighbours, on a host of the LAN (discoverer.py)."""

    def __init__(self, host: Host, tag: str = TAG, port: int = PORT, interfaces: str = "auto") -> None:
        self.host, self.port = host, port
        argv = [sys.executable, str(Path(__file__).with_name("discoverer.py")), tag, str(port), interfaces]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.said: list[dict[str, Any]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.started = self.wait("started")

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.said.append(json.loads(line))
                self._news.notify_all()

    def found(self) -> set[tuple[str, int]]:
        return {(host, port) for line in self.said if "found" in line for host, port in [line["found"]]}

    def wait_for(self, *addresses: tuple[str, int]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: set(addresses) <= self.found(), PATIENCE_S), f"found {self.found()}, not {addresses}"

    def wait(self, what: str, after: int = 0) -> dict[str, Any]:
        """The first line since `after` that has `what`."""
        with self._news:
            assert self._news.wait_for(lambda: any(what in line for line in self.said[after:]), PATIENCE_S), f"{what}: not in {self.said}"
            return next(line for line in self.said[after:] if what in line)

    def candidates(self) -> set[tuple[str, int]]:
        before = len(self.said)
        self.process.stdin.write("candidates\n")
        self.process.stdin.flush()
        return {(host, port) for host, port in self.wait("candidates", before)["candidates"]}

    def wait_until_candidates_are(self, *addresses: tuple[str, int]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (seen := self.candidates()) != set(addresses):
            assert time.monotonic() < deadline, f"candidates are {seen}, not {set(addresses)}"
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)

    @property
    def address(self) -> tuple[str, int]:
        return self.host.address, self.port


def test_eight_hosts_with_nothing_configured_all_find_all(lan: LanFactory) -> None:
    lookers = [Looker(host) for host in lan(8).hosts]
    for looker in lookers:
        looker.wait_for(*(other.address for other in lookers if other is not looker))
    for looker in lookers:
        assert looker.candidates() == {other.address for other in lookers if other is not looker}


def test_twenty_percent_loss_hides_nobody(lan: LanFactory) -> None:
    hosts = lan(4).hosts
    for host in hosts:
        host.lossy(20)
    lookers = [Looker(host) for host in hosts]
    for looker in lookers:
        looker.wait_for(*(other.address for other in lookers if other is not looker))


def test_hosts_without_ipv4_find_each_other_by_their_link_local_addresses(lan: LanFactory) -> None:
    a, b = lan(2).hosts
    for host in (a, b):
        host.run(["ip", "-4", "address", "flush", "dev", "eth0"], check=True)
    first, second = Looker(a), Looker(b)
    zone = json.loads(a.run(["ip", "-json", "link", "show", "eth0"], check=True).stdout)[0]["ifindex"]
    first.wait_for((f"{b.link_local}%{zone}", PORT))
    second.wait_until_candidates_are((f"{a.link_local}%{zone}", PORT))


def test_a_member_of_another_network_is_not_seen(lan: LanFactory) -> None:
    a, b, c = lan(3).hosts
    first, stranger = Looker(a), Looker(b, tag="fedcba9876543210")
    friend = Looker(c)
    first.wait_for(friend.address)
    friend.wait_for(first.address)
    assert first.candidates() == {friend.address}
    assert stranger.found() == set()


def test_a_goodbye_removes(lan: LanFactory) -> None:
    a, b, c = lan(3).hosts
    first, second, third = Looker(a), Looker(b), Looker(c)
    first.wait_until_candidates_are(second.address, third.address)
    second.stop()
    first.wait_until_candidates_are(third.address)
    assert second.wait("stopped")
    assert second.process.returncode == 0


def test_who_starts_with_the_cable_out_is_found_when_it_is_plugged_in(lan: LanFactory) -> None:
    a, b = lan(2).hosts
    first = Looker(a)
    b.link(False)
    second = Looker(b)
    time.sleep(0.7)  # its three announcements, at 0, 0.225 and 0.45 s, are lost
    b.link(True)
    second.wait_for(first.address)
    first.wait_for(second.address)


def test_a_new_address_is_announced_and_the_daemon_is_told(lan: LanFactory) -> None:
    a, b = lan(2).hosts
    first, second = Looker(a), Looker(b)
    first.wait_for(second.address)
    b.move_to("10.77.0.99")
    assert second.wait("changed")["changed"] == ["10.77.0.99"]
    first.wait_for(("10.77.0.99", PORT))
    first.wait_until_candidates_are(("10.77.0.99", PORT))


def test_three_daemons_on_one_computer_meet_on_loopback_alone(lan: LanFactory) -> None:
    [host] = lan(1).hosts
    host.run(["ip", "link", "delete", "eth0"], check=True)  # no interface but loopback, no route at all
    for interfaces in ("auto", "127.0.0.1", "lo"):
        lookers = [Looker(host, port=port, interfaces=interfaces) for port in (1001, 1002, 1003)]
        for looker in lookers:
            looker.wait_for(*(("127.0.0.1", other.port) for other in lookers if other is not looker))
        for looker in lookers:
            looker.stop()


def test_loopback_is_not_used_beside_a_network_unless_asked_for(lan: LanFactory) -> None:
    [host] = lan(1).hosts
    first, second = Looker(host, port=1001), Looker(host, port=1002)
    alone = Looker(host, port=1003, interfaces="lo")
    first.wait_for(second.address)
    second.wait_for(first.address)
    assert first.candidates() == {second.address}
    assert alone.found() == set()


HOLD_5353 = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 5353))
print("held", flush=True)
sys.stdin.read()
"""


def test_without_udp_5353_discovery_is_off_with_a_sentence_and_comes_back_by_itself(lan: LanFactory) -> None:
    a, b = lan(2).hosts
    holder = b.popen([sys.executable, "-c", HOLD_5353], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    first, second = Looker(a), Looker(b)
    assert first.started["off"] is None
    assert second.started["off"] == (
        "UDP port 5353 cannot be used (Address already in use), so neighbours on this network cannot be found; "
        "static addresses and invites work, and it is tried again every few seconds."
    )
    assert second.started["addresses"] == [b.address]
    holder.communicate("")
    second.wait_for(first.address)
    first.wait_for(second.address)


FORGE = """
import asyncio, sys
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
from peer.candidates import SERVICE, new_name, write_txt

async def main(own, tag):
    zeroconf = AsyncZeroconf([own])
    async def announce(address, port, **changes):
        name = changes.pop("name", None) or new_name()
        txt = write_txt(tag, name) | changes
        who = dict(port=port, server=f"{name}.local.", parsed_addresses=[address], properties=txt)
        info = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}", **who)
        return await zeroconf.async_register_service(info, cooperating_responders=True, strict=False)
    jobs = [await announce(address, 1) for address in ("192.0.2.7", "127.0.0.1", "224.0.0.1", "10.77.0.255", "10.77.0.0", "0.0.0.0")]
    jobs += [await announce(own, 2, v="2"), await announce(own, 3, i="another"), await announce(own, 4, n=tag.upper())]
    jobs += [await announce(own, 5, x="x" * 200), await announce(own, 6, v="1,,"), await announce(own, 7, name="short")]
    jobs += [await announce("10.77.0.66", 1000 + number) for number in range(40)]
    await asyncio.gather(*jobs)
    jobs = [await announce(own, 8)]
    await asyncio.gather(*jobs)
    print("done", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


def test_forged_and_malformed_announcements_are_ignored_and_a_flood_is_bounded(lan: LanFactory) -> None:
    a, b, c = lan(3).hosts
    first = Looker(a)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    forger = b.popen([sys.executable, "-c", FORGE, b.address, TAG], stdout=subprocess.PIPE, text=True, env=environment)
    assert forger.stdout.readline() == "done\n"
    friend = Looker(c)
    first.wait_for(friend.address, (b.address, 8))
    seen = first.candidates()
    assert {address for address in seen if address[0] != "10.77.0.66"} == {friend.address, (b.address, 8)}
    assert len([address for address in seen if address[0] == "10.77.0.66"]) == 16


# a client that we did not write -----------------------------------------------------------------------------------------------------------

AVAHI = ("avahi-daemon", "avahi-browse", "dbus-daemon")

AVAHI_BROWSE = """
set -e
mount -t tmpfs none /run
mkdir -p /run/dbus
dbus-daemon --system --fork
avahi-daemon --no-drop-root --no-rlimits --no-chroot -D
echo ready
while read -r line; do avahi-browse --resolve --parsable --terminate _chinwag._tcp; echo end; done
"""
"""Bus and daemon see a /run of their own, so they meet neither those of the computer nor those of another test."""


@contextmanager
def avahi(host: Host) -> Iterator[Callable[[], list[list[str]]]]:
    """avahi-daemon on a host; the function gives the lines of avahi-browse that tell a resolved service."""
    shell = host.popen(
        ["unshare", "--mount", "sh", "-c", AVAHI_BROWSE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    first = shell.stdout.readline()
    assert first == "ready\n", first + shell.stdout.read()

    def browse() -> list[list[str]]:
        shell.stdin.write("\n")
        shell.stdin.flush()
        return [line.rstrip("\n").split(";") for line in iter(shell.stdout.readline, "end\n") if line.startswith("=")]

    yield browse
    shell.kill()


def test_avahi_sees_what_we_announce_and_its_end(lan: LanFactory, needs: Callable[[str | None], None]) -> None:
    missing = [tool for tool in AVAHI if shutil.which(tool) is None]
    needs(f"not installed: {', '.join(missing)} (packages avahi-daemon, avahi-utils, dbus)" if missing else None)
    has_all_users = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"] and os.geteuid() == 0
    needs(None if has_all_users else "avahi-daemon and dbus-daemon change their user, which only the computer's own root lets them")
    a, b, c = lan(3).hosts
    first, second = Looker(a), Looker(b, port=8999)
    with avahi(c) as browse:
        lines = browse_until(browse, {a.address, b.address})
        for looker in (first, second):
            name = looker.started["started"]
            [line] = [line for line in lines if line[3] == name]
            _, interface, _, _, kind, domain, host, address, port, txt = line
            assert (interface, kind, domain, host) == ("eth0", "_chinwag._tcp", "local", f"{name}.local")
            assert (address, int(port)) == looker.address
            assert set(txt.split()) == {'"v=1"', f'"n={TAG}"', f'"i={name}"'}
        second.stop()
        browse_until(browse, {a.address})


def browse_until(browse: Callable[[], list[list[str]]], addresses: set[str]) -> list[list[str]]:
    """Ask again until the services seen over IPv4 are at these addresses."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        lines = [line for line in browse() if line[2] == "IPv4"]
        if {line[7] for line in lines} == addresses:
            return lines
        assert time.monotonic() < deadline, lines
