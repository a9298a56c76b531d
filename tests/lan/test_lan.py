"""The LAN itself: if a fault did not bite, the tests on top of it would prove nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scenarios.lan import MARK, Host, Lan, sweep

LanFactory = Callable[[int], Lan]
PYTHON = [sys.executable, "-I", "-S", "-c"]

ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(socket.getaddrinfo(sys.argv[1], 7, type=socket.SOCK_DGRAM)[0][4])
print("ready", flush=True)
while True:
    data, sender = s.recvfrom(2000)
    s.sendto(data, sender)
"""

PING = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.3)
try:
    s.connect(socket.getaddrinfo(sys.argv[1], 7, type=socket.SOCK_DGRAM)[0][4])
    s.send(b"hello")
    s.recv(2000)
except OSError as error:
    print(error)
    sys.exit(1)
"""

COUNT = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind(("", 9))
print("ready", flush=True)
count = 0
while s.recv(100) != b"end":
    count += 1
print(count)
"""

FLOOD = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(4000):
    s.sendto(b"x", (sys.argv[1], 9))
    if number % 50 == 0:
        time.sleep(0.001)
for _ in range(100):
    s.sendto(b"end", (sys.argv[1], 9))
"""

SINK = """
import socket, time
listener = socket.create_server(("", 9))
print("ready", flush=True)
connection, _ = listener.accept()
start, size = time.monotonic(), 0
while data := connection.recv(65536):
    size += len(data)
print(time.monotonic() - start, size)
"""

POUR = """
import socket, sys
with socket.create_connection((sys.argv[1], 9)) as s:
    s.sendall(bytes(200_000))
"""


def listening(host: Host, script: str, *arguments: str) -> subprocess.Popen[str]:
    process = host.popen([*PYTHON, script, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def answers(host: Host, address: str) -> bool:
    """Whether a packet to `address` comes back."""
    return host.run([*PYTHON, PING, address]).returncode == 0


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


def test_hosts_reach_each_other_and_nothing_else(lan: LanFactory) -> None:
    a, b = lan(2).hosts
    listening(b, ECHO, b.address)
    listening(b, ECHO, f"{b.link_local}%eth0")
    assert answers(a, b.address)
    assert answers(a, f"{b.link_local}%eth0")
    assert "unreachable" in a.run([*PYTHON, PING, "192.0.2.1"]).stdout


def test_two_lans_at_once_do_not_meet(lan: LanFactory) -> None:
    a, b = lan(2).hosts
    other, _ = lan(2).hosts
    assert other.address == a.address
    listening(b, ECHO, b.address)
    assert answers(a, b.address)
    assert not answers(other, b.address)


def test_a_partition_parts_and_heals(lan: LanFactory) -> None:
    network = lan(4)
    a, b, c, d = network.hosts
    for host in network.hosts:
        listening(host, ECHO, host.address)
    network.partition([a, b])
    assert answers(a, b.address)
    assert answers(c, d.address)
    assert not answers(a, c.address)
    assert not answers(d, b.address)
    network.partition([a], [b, c])
    assert not answers(a, b.address)
    assert answers(b, c.address)
    network.heal()
    assert answers(a, b.address)
    assert answers(a, d.address)


def test_a_pulled_cable_cuts_off_one_host_and_leaves_its_address(lan: LanFactory) -> None:
    a, b, c = lan(3).hosts
    listening(b, ECHO, b.address)
    b.link(False)
    assert not answers(a, b.address)
    assert b.address in b.run(["ip", "address"]).stdout
    b.link(True)
    assert answers(c, b.address)


def test_a_host_that_moved_is_reached_at_its_new_address_only(lan: LanFactory) -> None:
    a, b = lan(2).hosts
    before = b.address
    b.move_to("10.77.0.99")
    listening(b, ECHO, "0.0.0.0")
    assert answers(a, "10.77.0.99")
    assert not answers(a, before)


@pytest.mark.parametrize("loser", ["sender", "receiver"])
def test_loss_is_about_what_was_asked_for_in_either_direction(lan: LanFactory, loser: str) -> None:
    a, b = lan(2).hosts
    counter = listening(b, COUNT)
    {"sender": a, "receiver": b}[loser].lossy(10)
    a.run([*PYTHON, FLOOD, b.address], check=True)
    received = int(counter.communicate(timeout=20)[0])
    assert 3400 < received < 3800  # 3600 expected, standard deviation 19


def test_a_slow_link_is_slower_and_a_healed_one_is_not(lan: LanFactory) -> None:
    a, b = lan(2).hosts

    def takes() -> float:
        sink = listening(b, SINK)
        a.run([*PYTHON, POUR, b.address], check=True)
        seconds, size = sink.communicate(timeout=30)[0].split()
        assert size == "200000"
        return float(seconds)

    b.slow(1000)
    slow = takes()
    b.heal()
    assert slow > 1.0  # 200 kB at 1 Mbit/s take 1.6 s, less what fits the bucket
    assert takes() < slow / 2


def test_all_processes_and_their_children_end_with_the_lan(lan: LanFactory) -> None:
    with Lan(1) as network:
        shell = network.hosts[0].popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        child = int(shell.stdout.readline())
        assert is_alive(child)
    assert shell.returncode == -signal.SIGKILL
    wait_until_dead(child)


OWNER = """
import json, subprocess, time
from scenarios.lan import Lan
with Lan(2) as network:
    process = network.hosts[0].popen(["sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE)
    process.stdout.readline()
    print(json.dumps([process.pid, network._keeper.pid]), flush=True)
    time.sleep(1000)
"""


def owner_and_its_processes() -> tuple[subprocess.Popen[str], int, int]:
    here = str(Path(__file__).parents[2])
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=here)
    assert owner.stdout is not None
    process, keeper = json.loads(owner.stdout.readline())
    return owner, process, keeper


def test_nothing_is_left_when_the_owner_is_killed(lan: LanFactory) -> None:
    owner, process, keeper = owner_and_its_processes()
    owner.kill()
    owner.communicate()
    wait_until_dead(process)
    wait_until_dead(keeper)


def test_what_outlived_its_keeper_is_swept_up_and_a_running_lan_is_not(lan: LanFactory) -> None:
    ours = lan(1).hosts[0].popen(["sleep", "1000"])
    owner, process, keeper = owner_and_its_processes()
    os.kill(keeper, signal.SIGKILL)
    owner.kill()
    owner.communicate()
    wait_until_dead(keeper)
    assert is_alive(process)
    assert MARK.encode() in Path(f"/proc/{process}/environ").read_bytes()
    sweep()
    wait_until_dead(process)
    assert is_alive(ours.pid)
