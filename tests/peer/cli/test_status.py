from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def test_status_says_how_good_this_peer_is_alone_and_now(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status(tasks=[sample.task()], last_exchange={"at": time.time() - 4, "name": "laptop"}))
    ran = chinwag("status")
    assert ran.code == 0
    assert "kitchen-pi  4F7K-QX2M" in ran.out
    assert "accuracy 93 % (alone 71 %)" in ran.out
    assert "last exchange 4 s ago with laptop" in ran.out
    assert "peers 2 of 3 live" in ran.out
    assert "made of 3 peers, 1,236 rows (epoch 4)" in ran.out


def test_status_in_json_is_the_daemons_answer(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status())
    assert chinwag("status", "--json").json == sample.status()


def test_a_lone_peer_says_since_when(chinwag: Run, daemon: Any, sample: Any) -> None:
    since = time.mktime((*time.localtime()[:3], 14, 2, 0, 0, 0, -1))
    daemon.says("GET /status", sample.status(alone_since=since, live_peers=0, known_peers=0))
    ran = chinwag("status")
    assert "alone since 14:02" in ran.out
    assert "next: chinwag task new" in ran.out


def test_a_task_that_only_listens_says_why_and_what_to_do(chinwag: Run, daemon: Any, sample: Any) -> None:
    listening = sample.task(state="listening", why="12 training rows here, the task asks for 20", next="chinwag data check", exchanges=0)
    daemon.says("GET /status", sample.status(tasks=[listening]))
    ran = chinwag("status")
    assert "listening" in ran.out
    assert "12 training rows here" in ran.out
    assert "next: chinwag data check" in ran.out


def test_a_task_that_has_just_begun_has_no_score_yet(chinwag: Run, daemon: Any, sample: Any) -> None:
    empty = {"rows": None, "test_rows": None, "peers": None, "rows_total": None, "alone": None, "now": None, "metric": None}
    daemon.says("GET /status", sample.status(tasks=[sample.task(state="preparing", exchanges=0, history=[], **empty)]))
    assert "no score yet" in chinwag("status").out


def test_a_regression_is_scored_as_a_number(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status(tasks=[sample.task(metric="r2", now=0.876, alone=-0.2)]))
    assert "R² 0.88 (alone -0.20)" in chinwag("status").out


def test_quiet_keeps_the_answer_and_drops_the_advice(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status())
    ran = chinwag("status", "-q")
    assert "kitchen-pi" in ran.out
    assert "next:" not in ran.out


def test_peers_stand_in_columns_the_live_ones_first(chinwag: Run, daemon: Any) -> None:
    def peer(name: str | None, state: str, heard: float | None) -> dict[str, Any]:
        address = {"addresses": ["192.168.1.21:8786", "[fe80::1]:8786", "10.0.0.1:1"]}
        return {
            "id": "ab" * 32,
            "short": "AAAA-BBBB",
            "name": name,
            "state": state,
            "last_heard": heard,
            "exchanges": 7,
            "tasks": ["t"],
        } | address

    now = time.time()
    peers = [peer("nas", "lost", now - 7200), peer(None, "revoked", None), peer("wörk-läptop", "live", now - 3)]
    daemon.says("GET /peers", {"peers": peers})
    lines = chinwag("peers").out.splitlines()
    assert [line.split()[0] for line in lines] == ["peer", "wörk-läptop", "nas", "?"]
    assert len({line.index("AAAA") for line in lines[1:]}) == 1
    assert "3 s ago" in lines[1]
    assert "2 h ago" in lines[2]
    assert "never" in lines[3]


def test_no_peers_is_an_answer_with_advice(chinwag: Run, daemon: Any) -> None:
    daemon.says("GET /peers", {"peers": []})
    ran = chinwag("peers")
    assert ran.code == 0
    assert "next: chinwag invite" in ran.out


@pytest.mark.parametrize(
    "command", [("status",), ("peers",), ("stop",), ("watch",), ("invite",), ("revoke", "x", "--yes"), ("leave", "x"), ("task", "list")]
)
def test_without_a_daemon_every_command_that_needs_one_says_so(chinwag: Run, home: Any, command: tuple[str, ...]) -> None:
    (home / "identity").mkdir(parents=True)
    ran = chinwag(*command)
    assert ran.code == 3
    assert ran.err == "The daemon is not running.\nnext: chinwag start\n"
