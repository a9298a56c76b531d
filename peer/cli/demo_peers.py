"""The peers of the demo: real daemons on this computer, each a process with a home of its own in one temporary folder.

They are found the way peers on a LAN are, by mDNS, here on the loopback interface; they know each other by the certificates of
one network; and they hear what to do over the same REST API that the commands use. Only the membership is handed out directly:
an invite needs a person.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..control import READ_TIMEOUT_S, Control, ControlError, Exit
from . import child
from .digits import CLASSES, COLUMNS, TARGET

NAMES: Final = ("ada", "bob", "cleo", "dan", "eve", "fay", "gus", "hal", "ida", "joe", "kim", "leo")
"""Peers there can be: a computer with two cores is busy with twelve daemons and their trainers."""

TASK: Final = "digits"

PERIOD_S: Final = 0.25
"""Between two exchanges of a peer. Somebody watches: half of the usual period."""

LOST_AFTER_S: Final = 5.0
"""A killed peer shows as lost after this."""

READY_S: Final = 60.0
"""From starting the daemons to all of them taking part. Takes 5 s on two idle cores; a busy machine gets the rest."""

STOP_S: Final = 5.0
"""A daemon stops within two seconds; what has not after this is killed."""

ALPHA: Final = 1e-4


@dataclass(slots=True)
class DemoPeer:
    """One daemon. `seen` is the status it gave last: what is shown after it was killed."""

    name: str
    knows: list[int]
    home: Path
    process: subprocess.Popen[bytes] | None = None
    is_wanted: bool = True
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def task(self) -> dict[str, Any]:
        """The demo's task as this peer saw it last; empty before it knew it."""
        return next((t for t in self.seen.get("tasks", ()) if t["name"] == TASK), {})

    def start(self) -> None:
        """Start the daemon; it ends when this process does."""
        words = child.command_line("chinwag", "--home", str(self.home), "start", "--json", "--until-stdin-closes")
        self.is_wanted = True
        with (self.home / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=child.environment(), **child.apart())

    def kill(self) -> None:
        """What a power cut does."""
        self.is_wanted = False
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def control(self, deadline: float) -> Control:
        """The running daemon's door; waits for it. Raises ControlError if the daemon ended, or does not answer before the deadline."""
        while True:
            if not self.is_running:
                raise ControlError(f"{self.name} could not start: {self.last_words()}", "chinwag doctor", Exit.FAILED)
            try:
                control = Control.of(self.home)
                if self.process is not None and control.pid == self.process.pid and control.is_answering():
                    return control
            except ControlError as error:
                if error.exit != Exit.NOT_RUNNING:
                    raise
            if time.monotonic() > deadline:
                raise ControlError(f"{self.name} does not answer.", "chinwag doctor", Exit.TIMEOUT)
            time.sleep(0.05)

    def look(self) -> None:
        """Ask for the status. A daemon that is gone, or busy, keeps the one that was seen last."""
        if self.is_running:
            try:
                self.seen = Control.of(self.home).get("/status", timeout_s=2.0)
            except ControlError:
                pass

    def last_words(self) -> str:
        """The error in the last line of its log, or that line."""
        try:
            line = (self.home / "daemon.log").read_text("utf-8", "replace").strip().splitlines()[-1]
        except (OSError, IndexError):
            return "it left no word."
        try:
            return str(json.loads(line)["error"])
        except (ValueError, KeyError, TypeError):
            return line[:300]


class DemoNetwork:
    """All peers and their folder. Use it in a `with`: whatever happens, nothing is left behind."""

    def __init__(self, names: list[str], knows: list[list[int]], model: str, is_kept: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chinwag-demo-"))
        self.model = model
        self.peers = [DemoPeer(n, k, self.folder / n) for n, k in zip(names, knows, strict=True)]
        self.pooled: float | None = None
        self._is_kept = is_kept
        self._broom = None if is_kept else child.broom(self.folder)
        self._pooled: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DemoNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self.peers:
            if peer.process is not None and peer.process.stdin is not None:
                peer.process.stdin.close()
        others = [self._pooled] if self._pooled is not None else []
        for process in others:
            process.kill()
        deadline = time.monotonic() + STOP_S
        for process in [p.process for p in self.peers if p.process is not None] + others:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._broom is not None:
            child.sweep(self.folder)
            self._broom.communicate()

    def found(self) -> None:
        """One network, everybody a member, nobody configured but the interface to look on."""
        from protocol.identity import Identity, found_network, issue_leaf, key_from_seed

        from ..config import Config, Home, PeerTable, TaskTable, save_config, save_identity

        now = time.time()
        founder = found_network(os.urandom(32), os.urandom(32), os.urandom(32), now)
        assert founder.authority_key is not None
        assert founder.authority is not None
        for peer in self.peers:
            home = Home(peer.home)
            identity = founder
            if peer is not self.peers[0]:
                key = key_from_seed(os.urandom(32))
                leaf = issue_leaf(founder.authority_key, founder.authority, key.public_key(), now)
                identity = Identity(key, founder.root, founder.authority, leaf)
            table = PeerTable(name=peer.name, port=0, interfaces=("127.0.0.1",), period_s=PERIOD_S, lost_after_s=LOST_AFTER_S)
            rows = TaskTable(source=str(self.folder / f"{peer.name}.csv"), test=str(self.folder / "test.csv"), holdout=0.0)
            save_config(home, Config(peer=table, tasks={TASK: rows}))
            save_identity(home, identity)

    def deal(self) -> dict[str, Any]:
        """Write everybody's rows; then begin to compute what all rows in one place would give."""
        names = [peer.name for peer in self.peers]
        words = child.command_line("peer.cli.digits", "rows", str(self.folder), *names)
        ended = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=child.environment(), check=False)
        if ended.returncode != 0:
            why = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
            raise ControlError(f"The digits could not be read: {why[0]}.", "pip install scikit-learn", Exit.SCHEMA)
        words = child.command_line("peer.cli.digits", "pooled", str(self.folder), self.model, str(ALPHA), *names)
        self._pooled = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=child.environment(), **child.apart()
        )
        found: dict[str, Any] = json.loads(ended.stdout)
        return found

    def take_part(self) -> None:
        """The first peer makes the task; it reaches the others by gossip; everybody accepts it with their own rows."""
        deadline = time.monotonic() + READY_S
        controls = [peer.control(deadline) for peer in self.peers]
        task = str(controls[0].post("/tasks", card(self.model))["id"])

        def accept(control: Control) -> None:
            while not any(t["id"] == task for t in control.get("/tasks")["tasks"]):
                if time.monotonic() > deadline:
                    raise ControlError("The peers on this computer did not find each other.", "chinwag doctor", Exit.TIMEOUT)
                time.sleep(0.1)
            control.post(f"/tasks/{task}/accept", {}, timeout_s=READ_TIMEOUT_S)

        with ThreadPoolExecutor(len(controls)) as pool:
            for waiting in [pool.submit(accept, control) for control in controls]:
                waiting.result()

    def look(self) -> None:
        """Everybody's newest status, and the pooled score once it is there."""
        for peer in self.peers:
            peer.look()
        if self._pooled is not None and self._pooled.poll() is not None:
            output, _ = self._pooled.communicate()
            self._pooled = None
            try:
                self.pooled = float(json.loads(output)["pooled"])
            except (ValueError, KeyError):
                self.pooled = None


def card(model: str) -> dict[str, Any]:
    """The demo's task."""
    return {
        "name": TASK,
        "about": "handwritten digits, 8 × 8 pixels",
        "model": model,
        "alpha": ALPHA,
        "columns": [{"name": name, "unit": "ink", "low": 0.0, "high": 16.0, "is_gappy": False} for name in COLUMNS],
        "target": {"name": TARGET, "classes": list(CLASSES)},
        "thresholds": {"min_rows": 20, "min_peers": 1},
    }
