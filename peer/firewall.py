"""Whether this device's own firewall lets peers in, and the exact command that lets them in.

A firewall is recognised by its own tool: ufw and firewalld are asked in their words; without them the kernel's rules (nftables, or iptables
of old) are walked with the packet that a peer would send. Windows and macOS are asked whether they know us. Reading the kernel's rules
needs root; what cannot be read is said to be unknown, never guessed.

Nothing is changed here. Tools are run by a function that is given (`Run`), so that every judgement can be tested with text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .netfilter import Answer, Packet, is_in, walk_iptables, walk_nft

Run = Callable[[Sequence[str]], str | None]
"""Runs a command and gives its output; None if it is not there, fails, or may not."""

RUN_TIMEOUT_S = 5.0
"""One tool. They answer in milliseconds; firewalld over a hung bus never does."""

MDNS_PORT = 5353
MAC_TOOL = "/usr/libexec/ApplicationFirewall/socketfilterfw"
UFW_SETTINGS = "/etc/ufw/ufw.conf"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a firewall does with peers. `next` is the command that opens it, None if it is open."""

    answer: Answer
    says: str
    next: str | None = None


def run_tool(argv: Sequence[str]) -> str | None:
    """Run a command of the system."""
    try:
        # In English, since we read it.
        environment = os.environ | {"LC_ALL": "C"}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, env=environment, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def judge(port: int, interfaces: Iterable[str], run: Run = run_tool, platform: str = sys.platform) -> Verdict:
    """The verdict on TCP `port` and on mDNS, for packets that come in on `interfaces`."""
    if platform == "win32":
        return judge_windows(port, run)
    if platform == "darwin":
        return judge_mac(sys.executable, run)
    return judge_linux(port, frozenset(interfaces), run)


def judge_linux(port: int, interfaces: frozenset[str], run: Run) -> Verdict:
    status = run(["ufw", "status"])
    if status is not None and "inactive" not in status:
        return judge_ufw(status, port)
    if status is None and _ufw_is_enabled():
        return Verdict("unknown", "ufw is on; only root can read whether it lets peers in. This lets them in:", ufw_command(port))
    if (run(["firewall-cmd", "--state"]) or "").strip() == "running":
        zone = run(["firewall-cmd", "--list-all"])
        if zone is not None:
            return judge_firewalld(zone, port)
    return judge_kernel(port, interfaces, run)


def judge_kernel(port: int, interfaces: frozenset[str], run: Run) -> Verdict:
    """Walk the kernel's own rules."""
    ruleset = run(["nft", "--json", "list", "ruleset"])
    tables = run(["iptables", "-S"])
    if ruleset is None and tables is None:
        if shutil.which("nft") is None and shutil.which("iptables") is None:
            return Verdict("open", "No firewall is installed.")
        return Verdict("unknown", "Only root can read the firewall's rules.", "sudo chinwag doctor")
    shut, is_unsure, command = [], False, None
    for what, packet in (
        (f"TCP {port}", Packet("tcp", port, interfaces)),
        (f"UDP {MDNS_PORT}", Packet("udp", MDNS_PORT, interfaces)),
    ):
        found = walk_nft(ruleset, packet, is_iptables_read=tables is not None) if ruleset is not None else {}
        if tables is not None and walk_iptables(tables, packet) != "open":
            found |= {"iptables": walk_iptables(tables, packet)}
        if "shut" in found.values():
            shut.append(what)
            chain = next(chain for chain, fate in found.items() if fate == "shut")
            command = iptables_command(port) if chain == "iptables" else nft_command(port, chain)
        is_unsure = is_unsure or "unknown" in found.values()
    if shut:
        return Verdict("shut", f"The kernel's firewall drops {' and '.join(shut)}.", command)
    if is_unsure:
        return Verdict("open", "The kernel's firewall lets some devices in; by which rule cannot be told.")
    return Verdict("open", "The kernel's firewall lets peers in.")


# the tools --------------------------------------------------------------------------------------------------------------------------------


def ufw_command(port: int) -> str:
    return f"sudo ufw allow {port}/tcp && sudo ufw allow {MDNS_PORT}/udp"


def firewalld_command(port: int) -> str:
    return f"sudo firewall-cmd --permanent --add-port={port}/tcp --add-service=mdns && sudo firewall-cmd --reload"


def nft_command(port: int, chain: str) -> str:
    return f"sudo nft insert rule {chain} tcp dport {port} accept && sudo nft insert rule {chain} udp dport {MDNS_PORT} accept"


def iptables_command(port: int) -> str:
    return f"sudo iptables -I INPUT -p tcp --dport {port} -j ACCEPT && sudo iptables -I INPUT -p udp --dport {MDNS_PORT} -j ACCEPT"


def windows_command(port: int) -> str:
    rule = "netsh advfirewall firewall add rule name=Chinwag dir=in action=allow"
    return f"{rule} protocol=TCP localport={port} && {rule} protocol=UDP localport={MDNS_PORT}"


def mac_command(program: str) -> str:
    return f'sudo {MAC_TOOL} --add "{program}" && sudo {MAC_TOOL} --unblockapp "{program}"'


def judge_ufw(status: str, port: int) -> Verdict:
    """status: what `ufw status` prints, one rule a line: `8786/tcp  ALLOW  Anywhere`. ufw shuts whatever no rule allows."""
    allowed: set[tuple[int, str]] = set()
    for line in status.splitlines():
        rule = re.match(r"([\d:,]+)(?:/(tcp|udp))?(?: on \S+)?\s+(?:ALLOW|LIMIT)(?: IN)?\s", line)
        if rule:
            protocols = [rule[2]] if rule[2] else ["tcp", "udp"]
            allowed |= {(wanted, protocol) for wanted in (port, MDNS_PORT) if is_in(rule[1], wanted) for protocol in protocols}
    return _verdict("ufw", (port, "tcp") in allowed, (MDNS_PORT, "udp") in allowed, port, ufw_command(port))


def judge_firewalld(zone: str, port: int) -> Verdict:
    """zone: what `firewall-cmd --list-all` prints of the zone in use."""
    lines = dict(line.strip().split(":", 1) for line in zone.splitlines() if ":" in line)
    if lines.get("target", "").strip() == "ACCEPT":
        return Verdict("open", "firewalld lets everything in in this zone.")
    ports = [entry.split("/") for entry in lines.get("ports", "").split() if "/" in entry]
    is_open = {
        (wanted, protocol): any(is_in(numbers.replace("-", ":"), wanted) and kind == protocol for numbers, kind in ports)
        for wanted, protocol in ((port, "tcp"), (MDNS_PORT, "udp"))
    }
    services = lines.get("services", "").split()
    has_mdns = is_open[MDNS_PORT, "udp"] or "mdns" in services
    return _verdict("firewalld", is_open[port, "tcp"] or "chinwag" in services, has_mdns, port, firewalld_command(port))


def judge_windows(port: int, run: Run) -> Verdict:
    # What netsh prints is in the user's language, so it is asked questions whose answer is its exit code.
    if run(["netsh", "advfirewall", "firewall", "show", "rule", "name=Chinwag"]) is not None:
        return Verdict("open", "Windows Defender Firewall has a rule for Chinwag.")
    return Verdict(
        "unknown",
        "Windows Defender Firewall has no rule for Chinwag. In a terminal opened as administrator, this lets peers in:",
        windows_command(port),
    )


def judge_mac(program: str, run: Run) -> Verdict:
    state = run([MAC_TOOL, "--getglobalstate"])
    if state is None:
        return Verdict("unknown", "The state of the macOS firewall cannot be read.", "System Settings → Network → Firewall")
    if "State = 0" in state:
        return Verdict("open", "The macOS firewall is off.")
    if "State = 2" in state:
        return Verdict("shut", "The macOS firewall blocks all incoming connections.", f"sudo {MAC_TOOL} --setblockall off")
    if "permitted" in (run([MAC_TOOL, "--getappblocked", program]) or ""):
        return Verdict("open", "The macOS firewall lets peers in.")
    return Verdict("shut", f"The macOS firewall does not let {program} take connections.", mac_command(program))


def _verdict(firewall: str, is_tcp_open: bool, is_mdns_open: bool, port: int, command: str) -> Verdict:
    if is_tcp_open and is_mdns_open:
        return Verdict("open", f"{firewall} lets peers in.")
    shut = ([] if is_tcp_open else [f"TCP {port}"]) + ([] if is_mdns_open else [f"UDP {MDNS_PORT}"])
    return Verdict("shut", f"{firewall} shuts {' and '.join(shut)}.", command)


def _ufw_is_enabled() -> bool:
    try:
        with open(UFW_SETTINGS, encoding="utf-8") as settings:
            return any(line.strip().lower() == "enabled=yes" for line in settings)
    except OSError:
        return False
