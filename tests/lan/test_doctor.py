"""The doctor on real hosts: what it says of multicast, ports and firewalls is what a neighbour then meets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenarios.lan import Host, Lan

LanFactory = Callable[[int], Lan]
ROOT = Path(__file__).parents[2]

EXAMINE = """
import asyncio, json, sys
from dataclasses import asdict
from pathlib import Path
from peer.doctor import run_checks
home, port, interfaces = sys.argv[1:]
checks = asyncio.run(run_checks(Path(home), int(port), "auto" if interfaces == "auto" else [interfaces]))
print(json.dumps([asdict(check) for check in checks]))
"""

ACCEPT = """
import socket
with socket.create_server(("", 8786)) as listener:
    print("ready", flush=True)
    while True:
        listener.accept()[0].close()
"""

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 8786), timeout=0.5).close()
except OSError:
    sys.exit(1)
"""


def examine(host: Host, home: Path, port: int = 8786, interfaces: str = "auto") -> dict[str, dict[str, Any]]:
    """The doctor's checks on this host, by name."""
    done = host.run(
        [sys.executable, "-c", EXAMINE, str(home), str(port), interfaces],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    return {check["name"]: check for check in json.loads(done.stdout)}


def nft(host: Host, rules: str) -> None:
    """Give this host one table with these chains and sets, and nothing else."""
    lines = re.sub(r"\} (?=chain|set)", "}\n", rules)
    host.run(["nft", "flush", "ruleset"], check=True)
    host.run(["nft", f"table inet mine {{\n{lines}\n}}"], check=True)


def test_a_healthy_host_is_healthy(lan: LanFactory, tmp_path: Path) -> None:
    [host] = lan(1).hosts
    tmp_path.chmod(0o700)
    checks = examine(host, tmp_path)
    assert [check for check in checks.values() if not check["is_ok"]] == []
    assert checks["interface eth0"]["says"] == f"{host.address}/24, {host.link_local}/64: in use."
    assert checks["interface lo"]["says"].endswith("loopback reaches this computer only.")
    assert checks[f"multicast {host.address}"]["says"] == "What is sent to 224.0.0.251 comes back."


def test_a_host_without_a_network_looks_at_loopback(lan: LanFactory, tmp_path: Path) -> None:
    [host] = lan(1).hosts
    host.run(["ip", "link", "delete", "eth0"], check=True)
    checks = examine(host, tmp_path)
    assert "only this computer" in checks["interface lo"]["says"]
    assert checks["multicast 127.0.0.1"]["is_ok"]


def test_dropped_multicast_is_found_by_trying_and_the_firewall_is_named_with_the_command_that_helps(
    lan: LanFactory, tmp_path: Path
) -> None:
    [host] = lan(1).hosts
    nft(host, "chain in { type filter hook input priority 0; policy drop; iifname lo accept; tcp dport 22 accept; }")
    checks = examine(host, tmp_path)
    assert checks[f"multicast {host.address}"]["says"] == "Multicast does not work here (nothing comes back); neighbours must be told."
    assert checks["firewall"]["says"] == "The kernel's firewall drops TCP 8786 and UDP 5353."
    command = checks["firewall"]["next"].replace("sudo ", "")
    host.run(["sh", "-c", command], check=True)
    checks = examine(host, tmp_path)
    assert checks[f"multicast {host.address}"]["is_ok"]
    assert checks["firewall"]["says"] == "The kernel's firewall lets peers in."


def test_udp_5353_that_another_program_keeps_to_itself_is_told(lan: LanFactory, tmp_path: Path) -> None:
    [host] = lan(1).hosts
    hold = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 5353)); print(1, flush=True); sys.stdin.read()"
    holder = host.popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert examine(host, tmp_path)[f"multicast {host.address}"]["says"] == "UDP port 5353 cannot be shared (Address already in use)."


def test_a_taken_tcp_port_is_told(lan: LanFactory, tmp_path: Path) -> None:
    [host] = lan(1).hosts
    listener = host.popen([sys.executable, "-c", ACCEPT], stdout=subprocess.PIPE)
    listener.stdout.readline()
    assert examine(host, tmp_path)["port"]["says"] == "TCP port 8786 is held by another program (Address already in use)."
    assert examine(host, tmp_path, port=8787)["port"]["says"] == "TCP port 8787 is free."


RULES = {
    "nothing": "",
    "policy accept": "chain in { type filter hook input priority 0; policy accept; }",
    "policy drop": "chain in { type filter hook input priority 0; policy drop; }",
    "port open": "chain in { type filter hook input priority 0; policy drop; tcp dport 8786 accept; }",
    "range open": "chain in { type filter hook input priority 0; policy drop; tcp dport 8000-9000 accept; }",
    "set open": "chain in { type filter hook input priority 0; policy drop; tcp dport { 22, 80, 8786 } accept; }",
    "other port open": "chain in { type filter hook input priority 0; policy drop; tcp dport { 22, 80 } accept; }",
    "wrong protocol": "chain in { type filter hook input priority 0; policy drop; udp dport 8786 accept; }",
    "not that port": "chain in { type filter hook input priority 0; policy drop; tcp dport != 22 accept; }",
    "both protocols": "chain in { type filter hook input priority 0; policy drop; meta l4proto { tcp, udp } th dport 8786 accept; }",
    "established only": "chain in { type filter hook input priority 0; policy drop; ct state established,related accept; }",
    "new too": "chain in { type filter hook input priority 0; policy drop; ct state { new, established } accept; }",
    "by interface": 'chain in { type filter hook input priority 0; policy drop; iifname "eth0" accept; }',
    "by other interface": 'chain in { type filter hook input priority 0; policy drop; iifname { "wlan0", "lo" } accept; }',
    "last rule drops": "chain in { type filter hook input priority 0; policy accept; tcp dport 22 accept; drop; }",
    "rejected": "chain in { type filter hook input priority 0; policy accept; tcp dport 8786 reject; }",
    "jump": "chain tcps { tcp dport 8786 accept; } chain in { type filter hook input priority 0; policy drop; ip protocol tcp jump tcps; }",
    "jump returns": "chain tcps { return; accept; } chain in { type filter hook input priority 0; policy drop; jump tcps; }",
    "goto does not come back": "chain a { counter; } chain in { type filter hook input priority 0; policy drop; goto a; accept; }",
    "verdict map": "chain in { type filter hook input priority 0; policy drop; tcp dport vmap { 22 : drop, 8786 : accept }; }",
    "state map": "chain new { tcp dport 8786 accept; } chain in { type filter hook input priority 0; policy drop;"
    " ct state vmap { established : accept, invalid : drop, new : jump new }; }",
    "named set": "set mine { type inet_service; flags interval; elements = { 22, 8780-8790 }; }"
    " chain in { type filter hook input priority 0; policy drop; tcp dport @mine accept; }",
    "two chains, one shut": "chain a { type filter hook input priority 0; policy accept; accept; }"
    " chain b { type filter hook input priority 10; policy drop; tcp dport 22 accept; }",
    "a named offender": "chain in { type filter hook input priority 0; policy accept; ip saddr 192.0.2.9 drop; }",
    "counters and comments": "chain in { type filter hook input priority 0; policy drop;"
    ' tcp dport 8786 counter log prefix "peer" accept comment "peers"; }',
    "the other family": "chain in { type filter hook input priority 0; policy drop; meta nfproto ipv6 accept; }",
}


def test_the_verdict_on_a_ruleset_is_what_a_neighbour_meets(lan: LanFactory) -> None:
    from peer.netfilter import Packet, walk_nft

    a, b = lan(2).hosts
    listener = b.popen([sys.executable, "-c", ACCEPT], stdout=subprocess.PIPE)
    listener.stdout.readline()
    differ = {}
    for name, rules in RULES.items():
        nft(b, rules)
        ruleset = b.run(["nft", "--json", "list", "ruleset"], check=True).stdout
        verdict = "shut" if "shut" in walk_nft(ruleset, Packet("tcp", 8786, frozenset({"eth0"}))).values() else "open"
        is_met = a.run([sys.executable, "-I", "-S", "-c", CONNECT, b.address]).returncode == 0
        if is_met != (verdict == "open"):
            differ[name] = verdict
    assert differ == {}


@pytest.mark.parametrize("rule", ["ip saddr 10.77.0.0/24 accept", "limit rate 10/second accept", "ip saddr { 10.0.0.1 } accept"])
def test_a_rule_whose_meaning_cannot_be_told_makes_no_false_claim(lan: LanFactory, tmp_path: Path, rule: str) -> None:
    [host] = lan(1).hosts
    nft(host, f"chain in {{ type filter hook input priority 0; policy drop; {rule}; }}")
    check = examine(host, tmp_path)["firewall"]
    assert (check["is_ok"], check["next"]) == (True, None)
    assert check["says"] == "The kernel's firewall lets some devices in; by which rule cannot be told."
