"""Devices on a LAN: each host of `lan.py` with a home, a daemon that can be started and killed, and the commands its owner types.

Why: what is promised to a person is a daemon's doing, seen through its commands, its log and what it leaves on its disk. Nothing here
stands in for a part of the product; only `become_members` hands out memberships without an invite, where the subject is something else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from peer.cli import child
from peer.config import Config, Home, PeerTable, load_config, load_identity, save_config, save_identity
from peer.saved import Saved
from peer.store import read_saved
from protocol.identity import Identity, found_network, issue_leaf
from protocol.keys import key_from_seed

PATIENCE_S: Final = 60.0
"""How long a scenario waits for what must happen. Many times what it takes, as the computer may be busy with others."""

LOOK_EVERY_S: Final = 0.05
"""Between two looks at a log or a store."""

T = TypeVar("T")


class Place(Protocol):
    """Where a device's processes run: a host of a LAN (`lan.Host`), or this computer."""

    name: str

    def popen(self, argv: Sequence[str], **kw: Any) -> subprocess.Popen[Any]: ...

    def run(self, argv: Sequence[str], *, timeout: float = ..., check: bool = ..., **kw: Any) -> subprocess.CompletedProcess[str]: ...


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of the output."""
        return json.loads(self.out.strip().splitlines()[-1])


class Device:
    """A host's peer. Its log is `daemon.log` beside its home; every start adds to it."""

    def __init__(self, host: Place, home: Path) -> None:
        self.host, self.home = host, home
        self.log = home.with_suffix(".log")
        self._daemon: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def chinwag(self, *words: str, code: int | None = 0, timeout_s: float = 2 * PATIENCE_S) -> Ran:
        """Type a command. Fails unless it ends with this exit code (None: whatever it is)."""
        found = self.host.run(self._command(*words), env=child.environment(), timeout=timeout_s)
        assert "Traceback" not in found.stderr, found.stderr
        assert code in (None, found.returncode), f"chinwag {' '.join(words)}: {found.returncode}\n{found.stdout}\n{found.stderr}"
        return Ran(found.returncode, found.stdout, found.stderr)

    def set(self, **settings: Any) -> None:
        """Change [peer] in config.toml; a daemon takes it up at its next start."""
        config = load_config(Home(self.home))
        save_config(Home(self.home), msgspec.structs.replace(config, peer=msgspec.structs.replace(config.peer, **settings)))

    # the daemon ------------------------------------------------------------------------------------------------------

    def start(self, *options: str) -> None:
        """Start the daemon in the foreground of nobody, and do not wait for it."""
        assert self._daemon is None
        self._starts = len(self.happened("peer.started"))
        with self.log.open("ab") as log:
            words = self._command("start", "--json", *options)
            self._daemon = self.host.popen(words, env=child.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_up(self) -> None:
        """Wait until the daemon that was started last answers commands."""
        until(lambda: len(self.happened("peer.started")) > self._starts, lambda: f"{self.host.name} does not start: {self.last_words()}")

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing written any more."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        self._daemon = None

    def stop(self) -> None:
        """Ask the daemon to end, and wait until it has."""
        assert self._daemon is not None
        self._daemon.terminate()
        assert self._daemon.wait(PATIENCE_S) == 0, self.last_words()
        self._daemon = None

    def restart(self) -> None:
        self.stop()
        self.start()
        self.wait_until_up()

    def freeze(self) -> None:
        """Hold the daemon between two of its instructions, as a suspended laptop does. `thaw` lets it go on."""
        assert self._daemon is not None
        os.kill(self._daemon.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._daemon is not None
        os.kill(self._daemon.pid, signal.SIGCONT)

    @property
    def is_up(self) -> bool:
        return self._daemon is not None and self._daemon.poll() is None

    # looking ---------------------------------------------------------------------------------------------------------

    def happened(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log about events of this kind, the oldest first."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if f'"event": "{event}"' in line and line.endswith("}")]

    def last_words(self) -> str:
        """The end of the log, for whoever has to find out why."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else "no log"

    def saved(self) -> Saved:
        """What the daemon has made durable so far."""
        return read_saved(self.home)

    def identity(self) -> Identity:
        return load_identity(Home(self.home))

    def peers(self) -> dict[str, dict[str, Any]]:
        """What `chinwag peers` shows, by name."""
        return {peer["name"] or peer["short"]: peer for peer in self.chinwag("peers", "--json").json["peers"]}

    def status(self) -> dict[str, Any]:
        found = self.chinwag("status", "--json").json
        assert isinstance(found, dict)
        return found

    def _command(self, *words: str) -> list[str]:
        return child.command_line("peer.cli", "--home", str(self.home), *words)


def until(is_so: Callable[[], T], says: Callable[[], object], patience_s: float = PATIENCE_S, every_s: float = LOOK_EVERY_S) -> T:
    """Look until it is so; what was seen then. Raises AssertionError with `says` when patience ends."""
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, says()
        time.sleep(every_s)
    return found


def become_members(devices: Sequence[Device], **settings: Any) -> None:
    """Make these devices the members of one new network; the first founded it and may invite. Nothing else is configured."""
    now = time.time()
    founder = founded(now)
    for device in devices:
        identity = founder if device is devices[0] else admitted(founder, now)
        save_config(Home(device.home), Config(peer=PeerTable(name=device.host.name, **settings)))
        save_identity(Home(device.home), identity)


def founded(now: float) -> Identity:
    """The first member of a new network."""
    return found_network(os.urandom(32), os.urandom(32), os.urandom(32), now)


def admitted(founder: Identity, now: float, days: int = 90) -> Identity:
    """A new member of the founder's network, with a certificate of this many days from `now`."""
    assert founder.authority_key is not None
    assert founder.authority is not None
    key = key_from_seed(os.urandom(32))
    return Identity(key, founder.root, founder.authority, issue_leaf(founder.authority_key, founder.authority, key.public_key(), now, days))
