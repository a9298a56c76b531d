"""A daemon that is none: it answers what a test puts into it, and remembers what it was asked."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from peer.cli import main

TOKEN = "a token"


@dataclass
class FakeDaemon:
    """`answers` maps "GET /status" to (status, JSON value or bytes); `asked` collects (method, path, body)."""

    home: Path
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def says(self, request: str, value: Any, status: int = 200) -> None:
        self.answers[request] = (status, value)

    def body_of(self, request: str) -> Any:
        """What this request brought, the last time."""
        return next(body for method, path, body in reversed(self.asked) if f"{method} {path}" == request)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that every command uses; no test reaches the user's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CHINWAG_HOME", str(folder))
    return folder


@pytest.fixture
def daemon(home: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(home)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            path = self.path.removeprefix("/api/v1")
            fake.asked.append((self.command, path, body))
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                status, value = 401, {"error": "The token is wrong.", "next": None, "exit": 4}
            else:
                status, value = fake.answers.get(f"{self.command} {path}", (404, {"error": f"no {path} here", "next": None, "exit": 2}))
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    (home / "identity").mkdir(parents=True, exist_ok=True)
    where = {"url": f"http://127.0.0.1:{server.server_address[1]}", "token": TOKEN, "pid": os.getpid()}
    (home / "control.json").write_text(json.dumps(where))
    yield fake
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of the output."""
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def chinwag(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command as a script would: its exit code, its output, its errors."""

    def run(*words: str) -> Ran:
        capsys.readouterr()
        code = main(words)
        told = capsys.readouterr()
        return Ran(int(code), told.out, told.err)

    return run


class Samples:
    """What a healthy daemon answers; each field can be given otherwise."""

    @staticmethod
    def status(**more: Any) -> dict[str, Any]:
        """What a healthy daemon says of itself."""
        return {
            "name": "kitchen-pi",
            "peer": "ab" * 32,
            "short": "4F7K-QX2M",
            "network": "cd" * 32,
            "version": "0.1",
            "pid": 1,
            "since": 1_790_000_000.0,
            "port": 8786,
            "addresses": ["192.168.1.20:8786"],
            "alone_since": None,
            "live_peers": 2,
            "known_peers": 3,
            "may_invite": True,
            "tasks": [],
            "last_exchange": None,
        } | more

    @staticmethod
    def task(**more: Any) -> dict[str, Any]:
        """A task as `status` shows it."""
        return {
            "id": "12" * 32,
            "name": "pump-faults",
            "model": "lda",
            "state": "running",
            "why": None,
            "next": None,
            "rows": 330,
            "test_rows": 82,
            "epoch": 4,
            "peers": 3,
            "rows_total": 1236,
            "exchanges": 41,
            "bytes_sent": 1_234_567,
            "bytes_received": 1_300_000,
            "metric": "accuracy",
            "alone": 0.712,
            "now": 0.934,
            "history": [[1.0, 1, 0.71], [2.0, 2, 0.93]],
            "is_settled": True,
            "in_doubt": 0,
        } | more

    @staticmethod
    def card(**more: Any) -> dict[str, Any]:
        """A task's card as `tasks` shows it."""
        return {
            "id": "12" * 32,
            "name": "pump-faults",
            "about": "which pumps fail next week",
            "model": "lda",
            "alpha": 0.0,
            "columns": [
                {"name": "temp", "unit": "°C", "low": -40.0, "high": 120.0, "is_gappy": True},
                {"name": "rpm", "unit": None, "low": None, "high": None, "is_gappy": False},
            ],
            "target": "fault",
            "classes": ["no", "yes"],
            "thresholds": {"min_rows": 20, "min_peers": 2},
            "encoding": "int8",
            "privacy": "open",
            "author": "ef" * 32,
            "author_name": "laptop",
            "created": 1_790_000_000,
            "ends": None,
            "decision": "offered",
            "leaves": "14 sums per exchange. Open mode: the first partner in an epoch sees this device's own sums.",
        } | more


@pytest.fixture
def sample() -> Samples:
    return Samples()
