"""A LAN of real hosts on one computer: network namespaces around a bridge, each host with its own addresses, loopback and faults.

Why: mDNS, TLS and a daemon's reaction to a pulled cable can only be believed on real sockets. The bridge lies in a namespace of its own and
none of them has a way out, so nothing a scenario sends can reach the network of the computer it runs on.

One process, the keeper (`python lan.py HOSTS`), holds the namespaces open by their file descriptors. They have no names, so LANs that run
at the same time cannot collide, and nothing is left in /run/netns. The keeper waits for the end of its standard input: when the owner
leaves the `with` block, or dies in any other way, it kills every process in the namespaces and goes, and the kernel takes bridge and cables
with it. A process is started in a namespace by `nsenter`, which becomes that process: its id is the real one, and SIGKILL hits the daemon
itself.

Works as root, and without root where the system lets users make user namespaces (the keeper then makes one). Linux only; no packages but
iproute2, nftables and util-linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MAX_HOSTS = 200
"""Hosts of one LAN: they share a /24, and a bridge floods multicast to every port."""

NETWORK = "10.77.0"
"""The first three bytes of every host's IPv4 address. No route leads to it from outside, so a clash with a real network does not matter."""

MULTICAST = "224.0.0.0/4"

KILL_TIMEOUT_S = 5.0
"""How long the keeper goes on killing. Processes die within milliseconds; only one stuck in the kernel takes longer."""

MARK = "CHINWAG_LAN"
"""Environment variable of every process started here: id and start time of its keeper, so that processes can be told that outlived a keeper
which was itself killed."""

SYSCTLS = {
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
}
"""Set in every namespace: an address is usable at once (duplicate address detection would keep it back 1 s), and nobody looks for
routers."""

TOOLS = ("ip", "nft", "tc", "nsenter")


class LanError(RuntimeError):
    """A namespace, a cable or a fault could not be made; the text is what the tool said."""


class Host:
    """One device on the LAN. `address` is its IPv4 address, `link_local` its IPv6 address (without the zone, which is `eth0`)."""

    def __init__(self, lan: Lan, number: int) -> None:
        self._lan = lan
        self.number = number
        self.name = f"h{number}"
        self.address = f"{NETWORK}.{number}"
        self.link_local = f"fe80::43:57ff:fe00:{number:x}"
        self._mac = f"02:43:57:00:00:{number:02x}"
        self._port = f"port{number}"

    def popen(self, argv: Sequence[str], **kw: Any) -> subprocess.Popen[Any]:
        """Start a process on this host; the arguments are those of `subprocess.Popen`. It is killed when the LAN ends."""
        return self._lan._popen(self.number, argv, **kw)

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, check: bool = False, **kw: Any) -> subprocess.CompletedProcess[str]:
        """Run a process on this host to its end, with its output captured as text."""
        kw = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True} | kw
        process = self.popen(argv, **kw)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if check and process.returncode:
            raise LanError(f"{self.name}: {' '.join(argv)}: {(err or out or '').strip()}")
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def link(self, up: bool) -> None:
        """Pull this host's cable, or plug it in. The host keeps its addresses, as one does for the first seconds."""
        self._lan._on_bridge(f"link set {self._port} {'up' if up else 'down'}")

    def move_to(self, address: str) -> None:
        """Give this host another IPv4 address in the place of the one it has, as a router does that forgot its leases."""
        self._ip(f"addr flush dev eth0 scope global\naddr add {address}/24 brd + dev eth0\nroute replace {MULTICAST} dev eth0")
        self.address = address

    def slow(self, kbit: int) -> None:
        """Limit this host's link to `kbit` kbit/s in either direction."""
        burst = max(16 * 1024, kbit * 1000 // 8 // 50)  # 20 ms of traffic, or ten full packets
        for place, device in ((self.number, "eth0"), (0, self._port)):
            self._lan._tool(
                place,
                ["tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{kbit}kbit", "burst", f"{burst}b", "latency", "200ms"],
            )

    def lossy(self, percent: float) -> None:
        """Lose `percent` of this host's packets, each way, silently: the sender is not told, as it would be by a drop on the way out."""
        assert 0 <= percent <= 100, f"{percent} % is not a share"
        for place, device in ((self.number, "eth0"), (0, self._port)):
            rules = f"add table netdev {device}\ndelete table netdev {device}\n"
            if percent:
                rules += f"add table netdev {device}\n"
                rules += f"add chain netdev {device} loss {{ type filter hook ingress device {device} priority 0; }}\n"
                rules += f"add rule netdev {device} loss numgen random mod 10000 < {round(percent * 100)} drop\n"
            self._lan._tool(place, ["nft", "-f", "-"], rules)

    def heal(self) -> None:
        """Take back `link`, `slow` and `lossy`."""
        self.link(True)
        self.lossy(0)
        for place, device in ((self.number, "eth0"), (0, self._port)):
            self._lan._tool(place, ["tc", "qdisc", "replace", "dev", device, "root", "pfifo_fast"])

    def _ip(self, batch: str) -> None:
        self._lan._tool(self.number, ["ip", "-batch", "-"], batch + "\n")

    def _plug_in(self) -> None:
        # The parts of a line are separate because the peer's end is made inside the host's namespace and gets its name there.
        peer = f"peer name eth0 address {self._mac} netns {self._lan._path(self.number)}"
        self._lan._on_bridge(f"link add {self._port} type veth {peer}\nlink set {self._port} master lan up")
        self._ip(f"link set eth0 up\naddr add {self.address}/24 brd + dev eth0\nroute add {MULTICAST} dev eth0")


class Lan:
    """N hosts on one switch: `with Lan(8) as lan: lan.hosts[0].run(["ip", "address"])`."""

    def __init__(self, hosts: int) -> None:
        assert 1 <= hosts <= MAX_HOSTS, f"a LAN has 1 to {MAX_HOSTS} hosts, not {hosts}"
        self.hosts = tuple(Host(self, number) for number in range(1, hosts + 1))
        self._keeper: subprocess.Popen[str] | None = None
        self._namespaces: list[int] = []
        self._has_user_namespace = False
        self._mark = ""
        self._processes: list[subprocess.Popen[Any]] = []
        self._switches = 1

    @staticmethod
    def why_not() -> str | None:
        """What is missing on this system for a LAN, in one sentence; None if nothing is."""
        return _why_not()

    def __enter__(self) -> Self:
        sweep()
        argv = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(len(self.hosts))]
        self._keeper = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            self._lay_out()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._take_down()

    def partition(self, *groups: Sequence[Host]) -> None:
        """Part the LAN: hosts of one group reach each other and nobody else. Hosts that no group names form one more."""
        named = {host for group in groups for host in group}
        assert len(named) == sum(len(group) for group in groups), "a host is in one group only"
        rest = [host for host in self.hosts if host not in named]
        # Each group gets a switch of its own. That is what a partition is, and no firewall has to agree that it is one.
        batch = []
        for number, group in enumerate([rest, *groups]):
            switch = "lan" if number == 0 else f"lan{number}"
            if number >= self._switches:
                batch += [f"link add {switch} type bridge mcast_snooping 0 forward_delay 0", f"link set {switch} up"]
                self._switches += 1
            batch += [f"link set {host._port} master {switch}" for host in group]
        self._on_bridge("\n".join(batch))

    def heal(self) -> None:
        """Take back every partition and every host's faults."""
        self.partition()
        for host in self.hosts:
            host.heal()

    def _lay_out(self) -> None:
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        line = self._keeper.stdout.readline()
        if not line:
            raise LanError("the keeper of the namespaces died")
        answer = json.loads(line)
        if "error" in answer:
            raise LanError(answer["error"])
        self._namespaces = answer["namespaces"]
        self._has_user_namespace = answer["has_user_namespace"]
        self._mark = f"{self._keeper.pid}:{_started(self._keeper.pid)}"
        self._on_bridge("link add lan type bridge mcast_snooping 0 forward_delay 0\nlink set lan up")
        for host in self.hosts:
            host._plug_in()

    def _take_down(self) -> None:
        keeper = self._keeper
        if keeper is None:
            return
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        self._keeper = None
        keeper.stdin.close()
        keeper.wait(KILL_TIMEOUT_S + 5)
        keeper.stdout.close()
        for process in self._processes:
            # All are dead: the keeper saw to it. Reaped here, so that no zombie and no open pipe stays with the owner.
            process.wait(KILL_TIMEOUT_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def _path(self, place: int) -> str:
        """The namespace of host `place`, or of the switch (0), as a file."""
        assert self._keeper is not None, "the LAN is not up"
        return f"/proc/{self._keeper.pid}/fd/{self._namespaces[place]}"

    def _popen(self, place: int, argv: Sequence[str], env: Mapping[str, str] | None = None, **kw: Any) -> subprocess.Popen[Any]:
        enter = ["nsenter", f"--net={self._path(place)}"]
        if self._has_user_namespace:
            assert self._keeper is not None
            enter += [f"--user=/proc/{self._keeper.pid}/ns/user", "--preserve-credentials"]
        environment = dict(os.environ if env is None else env) | {MARK: self._mark}
        process = subprocess.Popen([*enter, "--", *argv], env=environment, **kw)
        self._processes = [known for known in self._processes if known.poll() is None]
        self._processes.append(process)
        return process

    def _tool(self, place: int, argv: Sequence[str], text: str = "") -> None:
        process = self._popen(place, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said, _ = process.communicate(text)
        if process.returncode:
            raise LanError(f"{' '.join(argv)} {text!r}: {said.strip()}")

    def _on_bridge(self, batch: str) -> None:
        self._tool(0, ["ip", "-batch", "-"], batch + "\n")


def sweep() -> None:
    """Kill what outlived its LAN: marked processes whose keeper is gone. Those of a LAN that runs are not touched."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue  # another user's, or gone
        for entry in environment.split(b"\0"):
            name, _, mark = entry.decode(errors="replace").partition("=")
            if name == MARK and mark.count(":") == 1:
                keeper, started = mark.split(":")
                if not keeper.isdigit() or _started(int(keeper)) != started:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(int(process.name), signal.SIGKILL)


def _started(pid: int) -> str:
    """When a living process began, in clock ticks since boot: a process id is used again, the pair is not. Empty if it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


@cache
def _why_not() -> str | None:
    if sys.platform != "linux":
        return "a LAN of network namespaces needs Linux"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packages iproute2, nftables, util-linux)"
    try:
        with Lan(2) as lan:
            host = lan.hosts[0]
            host.lossy(1)
            host.slow(1000)
            host.heal()
    except (LanError, OSError) as error:
        return f"this system does not allow network namespaces here: {error}"
    return None


# the keeper: a process of its own
# ----------------------------------------------------------------------------------------------------------

CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000


def _unshare(flags: int) -> None:
    # os.unshare came with Python 3.12 only.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")


def _become_root() -> None:
    """Enter a user namespace in which this user is root: what users without rights may do, where the system lets them."""
    user, group = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _make_namespaces(count: int) -> tuple[list[int], bool]:
    """File descriptors of `count` network namespaces with loopback up, and whether they lie in a user namespace of their own."""
    has_user_namespace = False
    try:
        _unshare(CLONE_NEWNET)
    except PermissionError:
        _become_root()
        has_user_namespace = True
    namespaces = []
    for _ in range(count):
        _unshare(CLONE_NEWNET)
        for name, value in SYSCTLS.items():
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                Path("/proc/sys", name).write_text(value)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        namespaces.append(os.open("/proc/self/ns/net", os.O_RDONLY))
    return namespaces, has_user_namespace


def _kill_all(namespaces: Sequence[int]) -> None:
    """Kill every process in the namespaces but this one, until none is left: one that forks meanwhile is met in the next turn."""
    ours = {os.fstat(namespace).st_ino for namespace in namespaces}
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while time.monotonic() < deadline:
        found = False
        for process in Path("/proc").glob("[0-9]*"):
            try:
                is_inside = os.stat(process / "ns/net").st_ino in ours
                if is_inside and int(process.name) != os.getpid():
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
            except OSError:
                continue  # gone, or another user's
        if not found:
            return
        time.sleep(0.01)


def _keep(hosts: int) -> None:
    """The keeper's life: make the namespaces, say where they are, wait for the end of the owner, kill what is left."""
    try:
        namespaces, has_user_namespace = _make_namespaces(hosts + 1)
    except (OSError, subprocess.CalledProcessError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"namespaces": namespaces, "has_user_namespace": has_user_namespace}), flush=True)
    sys.stdin.read()
    _kill_all(namespaces)


if __name__ == "__main__":
    _keep(int(sys.argv[1]))
