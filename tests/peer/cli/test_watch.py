from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from peer.cli.watch import picture
from peer.control import ServerEvent

Run = Callable[..., Any]

STREAM = b'retry: 1000\n\nid: 7\nevent: score\ndata: {"task": "t", "now": 0.5}\n\nid: 8\nevent: gap\ndata: {"missed": 3}\n\n'


def drawn(status: dict[str, Any], peers: list[dict[str, Any]], columns: int = 80, events: int = 6) -> list[str]:
    now = time.time()
    happened = [(now, ServerEvent(i, "exchange.committed", {"task": "t", "name": "nas", "part": "statistics"})) for i in range(events)]
    console = Console(file=io.StringIO(), width=columns, no_color=True, highlight=False)
    console.print(picture(status, peers, happened, now, columns))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def peer(name: str | None, state: str = "live") -> dict[str, Any]:
    found = {"id": "ab" * 32, "short": "AAAA-BBBB", "name": name, "state": state, "last_heard": time.time() - 3}
    return found | {"exchanges": 7, "tasks": ["t"], "addresses": ["192.168.100.121:8786"]}


def test_with_json_every_event_is_a_line(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status())
    daemon.says("GET /events", STREAM)
    ran = chinwag("watch", "--json")
    lines = ran.out.splitlines()
    assert [json.loads(line) for line in lines[:2]] == [
        {"id": 7, "event": "score", "task": "t", "now": 0.5},
        {"id": 8, "event": "gap", "missed": 3},
    ]
    assert (ran.code, ran.json["exit"]) == (3, 3)


def test_when_the_daemon_stops_watching_ends_and_says_so(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status())
    daemon.says("GET /peers", {"peers": []})
    daemon.says("GET /events", STREAM)
    ran = chinwag("watch")
    assert (ran.code, ran.err.splitlines()[0]) == (3, "The daemon has stopped.")


def test_ctrl_c_ends_watching_without_complaint(chinwag: Run, daemon: Any, sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.says("GET /status", sample.status())

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("peer.cli.watch._draw", interrupted)
    assert chinwag("watch").code == 0


def test_the_picture_fits_24_lines_of_80_columns_whatever_the_names(sample: Any) -> None:
    tasks = [
        sample.task(name="a-task-with-a-name-that-goes-on", history=[[i, i, i / 99] for i in range(60)]),
        sample.task(state="listening"),
    ]
    peers = [peer("a-device-with-a-name-that-goes-on-and-on"), peer("名前" * 20), peer(None, "revoked"), peer("nas", "lost")]
    lines = drawn(sample.status(tasks=tasks), peers)
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    assert any("▁" in line and "█" in line for line in lines)


def test_a_peer_that_is_alone_and_has_no_task_says_what_to_do(sample: Any) -> None:
    text = "\n".join(drawn(sample.status(alone_since=time.time(), known_peers=0), []))
    assert "alone since" in text
    assert "chinwag task new" in text
