"""The demo itself, with real daemons; and that it leaves nothing behind, whatever ends it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from peer.cli import child, demo
from peer.cli.demo_peers import DemoPeer
from peer.cli.demo_picture import lines, picture


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    environment = child.environment(TMPDIR=str(tmp_path), TEMP=str(tmp_path), TMP=str(tmp_path))
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(child.command_line("chinwag", "demo", *words), text=True, env=environment, **pipes, **child.apart())


def soon(tmp_path: Path, is_so: Any) -> bool:
    deadline = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(is_so())


def test_unattended_it_ends_with_one_object_in_which_everybody_has_learned(tmp_path: Path) -> None:
    process = start(tmp_path, "--seconds", "6", "--json")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err + out
    found = json.loads(out.splitlines()[-1])
    assert [p["name"] for p in found["peers"]] == ["ada", "bob", "cleo"]
    for peer in found["peers"]:
        assert set(peer) == {"name", "alone", "now", "pooled", "exchanges", "bytes_sent"}
        assert peer["alone"] < 0.5 < 0.9 < peer["now"]
        assert peer["pooled"] > 0.9
        assert peer["exchanges"] > 0
        assert peer["bytes_sent"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_leaves_no_daemon_and_no_file(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "--seconds", "60")
    assert soon(tmp_path, lambda: len(list(tmp_path.glob("*/*/control.json"))) == 3)
    pids = [json.loads(path.read_text())["pid"] for path in tmp_path.glob("*/*/control.json")]
    process.send_signal(number)
    process.communicate(timeout=30)
    assert soon(tmp_path, lambda: list(tmp_path.iterdir()) == [])
    assert soon(tmp_path, lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def a_network(**more: Any) -> Any:
    """Three peers as the demo sees them, without processes."""
    peers = []
    for name, knows, now in (("ada", [0, 1, 2, 3], 0.91), ("bob", [3, 4, 5, 6], 0.93), ("cleo", [6, 7, 8, 9], 0.93)):
        task = {"name": "digits", "alone": 0.4, "now": now, "history": [[0, i, 0.4 + i / 40] for i in range(20)], "peers": 3}
        peer = DemoPeer(name, knows, Path(name), seen={"tasks": [task | {"exchanges": 12, "bytes_sent": 345_678}]})
        peer.process = SimpleNamespace(poll=lambda: None)  # type: ignore[assignment]
        peers.append(peer)
    return SimpleNamespace(**{"peers": peers, "pooled": 0.97, "model": "lda"} | more)


def drawn(network: Any) -> str:
    console = Console(file=io.StringIO(), width=80, no_color=True)
    console.print(picture(network, "3 peers on this computer", 12.0))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_picture_says_who_knows_what_and_how_good_each_is() -> None:
    text = drawn(a_network())
    assert "ada   0 1 2 3      40 %  91 %  ▁" in text
    assert "97 %" in text
    assert "[k] kill bob  [q] quit" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_before_anything_is_known_the_picture_is_drawn_too() -> None:
    network = a_network(pooled=None)
    for peer in network.peers:
        peer.seen = {}
    assert "–" in drawn(network)
    assert len(lines(network)) == 4


def test_a_killed_peer_can_be_brought_back_and_one_always_stays() -> None:
    network = a_network()
    ada, bob, cleo = network.peers
    assert demo.to_kill(network) is bob
    bob.process = None
    assert (demo.to_kill(network), demo.to_revive(network)) == (cleo, bob)
    assert "[r] bring bob back" in drawn(network)
    cleo.process = None
    assert demo.to_kill(network) is None
    assert ada.is_running
