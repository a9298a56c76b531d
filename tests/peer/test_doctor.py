"""Each check of the doctor by what it is told; the whole of it once, on loopback."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import peer.doctor as doctor
from peer.doctor import (
    DAY_S,
    Check,
    check_clock,
    check_firewall,
    check_folder,
    check_interfaces,
    check_libraries,
    check_multicast,
    check_neighbours,
    check_port,
    check_python,
    check_room,
    hear_self,
    run_checks,
    try_port,
)
from peer.firewall import Verdict
from peer.interfaces import Interface, choose

NOON = 1_790_000_000.0
"""A day in September 2026."""


def test_an_old_python_is_too_old() -> None:
    assert check_python((3, 10, 14)) == Check(
        "python", False, "Python 3.10.14 is too old.", "install Python 3.11 or newer, and Chinwag in it"
    )
    assert check_python((3, 11, 0)).is_ok
    assert check_python((4, 0, 0)).is_ok


def test_libraries_are_compared_with_what_the_package_asks_for() -> None:
    has = {"zeroconf": "0.154.0", "msgpack": "1.0.8", "numpy": "2.1"}
    asked = ["zeroconf>=0.150", "msgpack >=1.1,<2", "numpy", "safetensors>=0.4", 'aiomqtt<3,>=2.5; extra == "mqtt"']
    check = check_libraries(asked, has.get)
    assert not check.is_ok
    assert check.says == "msgpack 1.0.8 is older than 1.1; safetensors is missing."
    assert check_libraries(asked[:1], has.get).says == "All 1 libraries are there."
    assert check_libraries([], has.get).is_ok


def test_a_folder_that_is_missing_open_or_read_only_is_told_with_what_to_type(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert check_folder(home).next == "chinwag init"
    (home / "identity").mkdir(parents=True, mode=0o755)
    (home / "identity" / "key.pem").touch(0o644)
    home.chmod(0o755)
    check = check_folder(home)
    assert not check.is_ok
    assert check.says == f"Others on this device can read {home}, {home / 'identity'}, {home / 'identity' / 'key.pem'}."
    assert check.next == f'chmod -R go= "{home}"'
    subprocess.run(str(check.next), shell=True, check=True)
    assert check_folder(home) == Check("folder", True, f"{home} is writable, and yours alone.")
    assert not list(home.glob(".doctor*"))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: int = 0) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    assert check_folder(tmp_path).says == f"{tmp_path} cannot be written (Read-only file system)."


def test_little_room_is_told_even_before_the_folder_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_room(tmp_path / "not" / "yet").is_ok
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**7, 10**7))
    check = check_room(tmp_path / "not" / "yet")
    assert not check.is_ok
    assert check.says == f"0.0 GB free at {tmp_path}; 0.3 are needed."


@pytest.mark.parametrize(("now", "year"), [(0.0, 1970), (1_735_689_600.0, 2025), (4_200_000_000.0, 2103)])
def test_a_clock_that_was_never_set_is_told(now: float, year: int) -> None:
    check = check_clock(now, None, "linux")
    assert check == Check("clock", False, f"The clock shows the year {year}.", "sudo timedatectl set-ntp true")


def test_the_clock_is_compared_with_the_certificate() -> None:
    def at(days: float) -> Check:
        return check_clock(NOON, (int(NOON - days * DAY_S), int(NOON + (90 - days) * DAY_S)), "linux")

    assert at(10) == Check("clock", True, "It is 2026-09-21 14:13 UTC, and the certificate is good for 80 days more.")
    assert at(-3).says == "It is 2026-09-21 14:13 UTC: 3 days before this peer's certificate begins, so the clock is behind."
    assert at(-0.25).says.startswith("It is 2026-09-21 14:13 UTC: 6 hours before")
    assert at(95).says == "It is 2026-09-21 14:13 UTC: this peer's certificate ran out 5 days ago, or the clock is ahead."
    assert "chinwag join LINK" in str(at(95).next)


def test_each_platform_gets_its_own_command_for_the_clock() -> None:
    assert [check_clock(0.0, None, platform).next for platform in ("win32", "darwin", "freebsd")] == [
        "w32tm /resync",
        "sudo sntp -sS time.apple.com",
        "sudo timedatectl set-ntp true",
    ]


def interface(name: str, *networks: str, title: str = "") -> Interface:
    return Interface(name, title or name, 1, tuple(ipaddress.ip_interface(network) for network in networks))


def test_every_interface_is_listed_with_the_reason_why_it_is_or_is_not_used() -> None:
    found = [
        interface("eth0", "192.168.1.20/24"),
        interface("docker0", "172.17.0.1/16"),
        interface("{1F}", "10.0.0.1/8", title="Ethernet 2"),
    ]
    assert [(check.name, check.says) for check in check_interfaces(choose(found, "auto"), [])] == [
        ("interface eth0", "192.168.1.20/24: in use."),
        ("interface docker0", "172.17.0.1/16: a bridge for containers or virtual machines: its addresses repeat on every computer."),
        ("interface {1F} (Ethernet 2)", "10.0.0.1/8: in use."),
    ]


def test_an_interface_that_is_not_there_and_none_at_all_fail() -> None:
    found = [interface("eth0", "192.168.1.20/24")]
    failed = [check for check in check_interfaces(choose(found, ["wlan7"]), ["wlan7"]) if not check.is_ok]
    assert [check.says for check in failed] == [
        "The configuration names wlan7, which this device does not have.",
        "No interface is in use, so no neighbour can be found.",
    ]
    assert all(check.next for check in failed)


IN_USE = OSError(errno.EADDRINUSE, "Address already in use")


@pytest.mark.parametrize(
    ("port", "refusal", "daemon", "is_ok", "says"),
    [
        (8786, None, None, True, "TCP port 8786 is free."),
        (8786, IN_USE, 77, True, "TCP port 8786 is held by this peer's daemon (process 77)."),
        (8786, IN_USE, None, False, "TCP port 8786 is held by another program (Address already in use)."),
        (80, PermissionError(errno.EACCES, "Permission denied"), None, False, "TCP port 80 may not be used by this user."),
        (8786, None, 77, False, "The daemon runs (process 77) but does not hold TCP port 8786."),
        (0, None, None, True, "Any free TCP port is taken at each start, so others cannot keep this device's address."),
    ],
)
def test_the_port_is_free_ours_or_somebody_elses(port: int, refusal: OSError | None, daemon: int | None, is_ok: bool, says: str) -> None:
    check = check_port(port, refusal, daemon)
    assert (check.is_ok, check.says, check.next is None) == (is_ok, says, is_ok)


def test_a_port_is_tried_by_listening_on_it() -> None:
    with socket.create_server(("", 0)) as held:
        port = held.getsockname()[1]
        refusal = try_port(port)
        assert refusal is not None
        assert refusal.errno == errno.EADDRINUSE
    assert try_port(port) is None


def test_multicast_on_loopback_is_heard() -> None:
    assert hear_self("127.0.0.1") is None


def test_an_address_that_is_not_ours_says_why() -> None:
    refusal = hear_self("192.0.2.200")
    assert refusal is not None
    check = check_multicast("192.0.2.200", refusal, 8786, "linux")
    assert not check.is_ok
    assert check.says.startswith("Multicast does not work here (")
    assert check.next == 'on the others: static = ["192.0.2.200:8786"]'


@pytest.mark.parametrize(
    ("platform", "command"),
    [
        ("linux", "sudo ss -ulpn sport = :5353"),
        ("darwin", "sudo lsof -nP -iUDP:5353"),
        ("win32", "netstat -ano -p udp | findstr :5353"),
    ],
)
def test_who_holds_udp_5353_can_be_asked_on_each_platform(platform: str, command: str) -> None:
    check = check_multicast("10.0.0.1", IN_USE, 8786, platform)
    assert (check.says, check.next) == ("UDP port 5353 cannot be shared (Address already in use).", command)


def test_only_a_firewall_that_is_shut_fails() -> None:
    assert [check_firewall(Verdict(answer, "Says.", "do")).is_ok for answer in ("open", "unknown", "shut")] == [True, True, False]  # type: ignore[arg-type]


def test_neighbours_in_sight_that_take_no_connection_point_to_their_firewall_or_the_wifi() -> None:
    assert check_neighbours([], []).is_ok
    assert check_neighbours([("10.0.0.1", 1)], []).says == "Peers of this network in sight: 1, and all take connections."
    check = check_neighbours([("10.0.0.1", 1), ("10.0.0.2", 2)], [("10.0.0.2", 2)])
    assert not check.is_ok
    assert check.says.startswith("1 of 2 peers in sight: no connection (10.0.0.2:2).")


def test_the_whole_of_it_on_loopback_has_a_sentence_for_everything_and_a_step_for_every_failure(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0o700)
    checks = asyncio.run(run_checks(home, 0, ["127.0.0.1"], validity=(0, 2**33), tag="0" * 16, run=lambda argv: None))
    assert [check.name for check in checks if not check.name.startswith("interface")] == [
        "python", "libraries", "folder", "disk", "clock", "port", "multicast 127.0.0.1", "firewall", "neighbours",
    ]  # fmt: skip
    assert all(check.says.endswith((".", ":")) for check in checks)
    assert all(check.next for check in checks if not check.is_ok)


def test_neighbours_are_really_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from peer.discovery import Discovery

    async def work() -> tuple[object, object]:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with socket.socket() as shut:
            shut.bind(("127.0.0.1", 0))  # bound but not listening: it refuses
            tag = os.urandom(8).hex()
            here = [Discovery(tag, number, lambda address: None, ["lo"]) for number in (port, shut.getsockname()[1])]
            for each in here:
                await each.start()
            seen, silent = await doctor.look_around(tag, ["127.0.0.1"])
            for each in here:
                await each.stop()
            server.close()
            assert set(seen) == {("127.0.0.1", port), ("127.0.0.1", shut.getsockname()[1])}
            assert silent == [("127.0.0.1", shut.getsockname()[1])]
        return seen, silent

    asyncio.run(work())


def test_it_needs_neither_numpy_nor_scikit_learn() -> None:
    code = "import sys; sys.modules['numpy'] = sys.modules['sklearn'] = None; import peer.doctor, peer.discovery"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
