"""Real processes: the daemon is started and stopped the way a person and a script do it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.cli import child
from peer.cli.start import is_gone

Run = Callable[..., Any]


@pytest.fixture
def peer(chinwag: Run, home: Path) -> Iterator[Path]:
    """A home whose daemon uses any free port and looks at this computer only. What is started in it is stopped."""
    assert chinwag("init", "--name", "kitchen-pi").code == 0
    config = (home / "config.toml").read_text()
    (home / "config.toml").write_text(config.replace("[peer]\n", '[peer]\nport = 0\ninterfaces = ["127.0.0.1"]\n'))
    yield home
    try:
        pid = json.loads((home / "control.json").read_text())["pid"]
    except FileNotFoundError:
        return
    os.kill(pid, signal.SIGTERM)


def start(home: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    """A daemon in the foreground, its lines readable."""
    command = child.command_line("peer.cli", "--home", str(home), "start", "--json", *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=child.environment(), **more)


def until(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The line that tells of this event."""
    assert process.stdout is not None
    for line in process.stdout:
        found = json.loads(line)
        if found.get("event") == event:
            return dict(found)
    raise AssertionError(f"it ended without {event}")


def test_a_daemon_in_the_background_answers_until_it_is_stopped(chinwag: Run, peer: Path) -> None:
    started = chinwag("start", "--background", "--json")
    assert started.code == 0, started.out
    assert chinwag("status", "--json").json["pid"] == started.json["pid"]
    assert Path(started.json["log"]).stat().st_size > 0
    again = chinwag("start", "--background")
    assert (again.code, again.err.splitlines()[-1]) == (1, "next: chinwag status")
    assert chinwag("stop").code == 0
    assert is_gone(started.json["pid"])
    assert chinwag("stop").code == 3


def test_a_daemon_that_cannot_start_says_why_in_the_foreground_and_in_the_background(chinwag: Run, peer: Path) -> None:
    (peer / "config.toml").write_text((peer / "config.toml").read_text().replace("port = 0\n", "port = 0\nprot = 1\n", 1))
    assert chinwag("start").code == 2
    (peer / "config.toml").write_text((peer / "config.toml").read_text().replace("prot = 1\n", ""))
    (peer / "identity" / "key.pem").write_text("nonsense")
    front, back = chinwag("start", "--json"), chinwag("start", "--background", "--json")
    assert front.code == back.code != 0
    assert front.json["error"] == back.json["error"]


def test_a_daemon_ends_when_whoever_started_it_is_gone(peer: Path) -> None:
    process = start(peer, "--until-stdin-closes", stdin=subprocess.PIPE)
    until(process, "peer.started")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_the_daemon_in_good_order(peer: Path) -> None:
    process = start(peer)
    until(process, "peer.started")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert not (peer / "control.json").exists()


def test_what_a_killed_daemon_leaves_behind_does_not_hinder_the_next(chinwag: Run, peer: Path) -> None:
    process = start(peer)
    until(process, "peer.started")
    process.kill()
    process.wait()
    assert chinwag("status").code == 3
    assert chinwag("start", "--background").code == 0
    assert chinwag("stop").code == 0


def test_the_foreground_says_who_it_is_and_where_it_looks(peer: Path) -> None:
    command = child.command_line("peer.cli", "--home", str(peer), "start", "--until-stdin-closes")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child.environment())
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    process.communicate()
    assert lines[0].startswith("kitchen-pi  ")
    assert "127.0.0.1" in lines[1]
    assert "is running at 127.0.0.1:" in lines[4]


def test_a_process_is_gone_once_it_has_ended_even_if_nobody_asked_after_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 10
    while not is_gone(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(process.pid) or not Path("/proc").exists()
    process.wait()
    assert is_gone(process.pid)
