"""The other end of the daemon's REST API: what the commands use to talk to the peer that runs on this computer.

Why its own file: every command does it, and none may pay more than a few milliseconds for it. So it knows the standard library only, never
the daemon's code, and opens one connection per call.

It talks to a loopback address and to nothing else: `control.json` is a file, and a file that somebody has tampered with must not send the
token elsewhere. Every fault comes out as one ControlError: a sentence, what to type next, and the exit code of the command.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

API: Final = "/api/v1"

CALL_TIMEOUT_S: Final = 15.0
"""One call. Everything but a join is answered from memory; a daemon busy with a large model answers within its slice of a few seconds."""

JOIN_TIMEOUT_S: Final = 60.0
"""A join dials up to eight addresses of the inviter, 5 s each, one after the other."""

READ_TIMEOUT_S: Final = 300.0
"""An acceptance reads the owner's rows first: a file of a gigabyte takes a minute or two on a small device."""

EVENT_TIMEOUT_S: Final = 45.0
"""Silence on the event stream: the daemon comments every 15 s, so three missed ones mean that it hangs."""

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""One answer. 4,096 peers of 1 KiB are 4 MiB; more than this is not our daemon."""

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

START: Final = "chinwag start"


class Exit(IntEnum):
    """What a command's exit code means; the same for every command, and in the daemon's error answers."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    REFUSED = 4
    UNREACHABLE = 5
    SCHEMA = 6
    VERSION = 7
    TIMEOUT = 8
    INTERRUPTED = 130


class ControlError(Exception):
    """A command cannot go on: why, in one sentence; what to type next (None if nothing would help); the exit code."""

    def __init__(self, sentence: str, next: str | None, exit: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next = next
        self.exit = int(exit)

    def __reduce__(self) -> tuple[type[ControlError], tuple[str, str | None, int]]:
        """It crosses from one process to another whole."""
        return type(self), (self.sentence, self.next, self.exit)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of the stream. `kind` is "gap" when events between the last seen and this one are lost."""

    id: int | None
    kind: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Control:
    """A running daemon, as its control.json describes it."""

    host: str
    port: int
    token: str
    pid: int

    @classmethod
    def of(cls, home: Path) -> Control:
        """The daemon of this home. Raises ControlError (NOT_RUNNING) if there is none, or its control.json makes no sense."""
        path = home / "control.json"
        try:
            found = json.loads(path.read_bytes())
            url = urlsplit(found["url"])
            host, port, token, pid = url.hostname, url.port, found["token"], found["pid"]
        except FileNotFoundError:
            raise not_running(home) from None
        except OSError as error:
            raise ControlError(f"Cannot read {path}: {error.strerror}.", "chinwag doctor", Exit.NOT_RUNNING) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ControlError(f"{path} is damaged.", "chinwag stop, then chinwag start", Exit.NOT_RUNNING) from None
        if url.scheme != "http" or host not in LOOPBACK or not port or not isinstance(token, str) or not isinstance(pid, int):
            raise ControlError(f"{path} does not name a daemon on this computer.", "chinwag start", Exit.NOT_RUNNING)
        return cls(host, port, token, pid)

    def get(self, path: str, timeout_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
        """The answer to GET. Raises ControlError."""
        return self._call("GET", path, None, timeout_s)

    def post(self, path: str, body: dict[str, Any] | None = None, timeout_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
        """The answer to POST of this body as JSON. Raises ControlError."""
        return self._call("POST", path, body or {}, timeout_s)

    def is_answering(self) -> bool:
        """Whether the daemon answers now, however it answers."""
        try:
            self.get("/status", timeout_s=2.0)
        except ControlError as error:
            return error.exit not in (Exit.NOT_RUNNING, Exit.TIMEOUT)
        return True

    def events(self, last: int | None = None) -> Iterator[ServerEvent]:
        """What happens from now on (or after event `last`), until the daemon stops. Raises ControlError."""
        headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": str(last)})
        with self._answer("GET", "/events", None, headers, EVENT_TIMEOUT_S) as answer:
            if answer.status != 200:
                raise _refusal(answer.status, answer.read(MAX_ANSWER_BYTES))
            yield from read_events(answer)

    def _call(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        with self._answer(method, path, body, {}, timeout_s) as answer:
            raw = answer.read(MAX_ANSWER_BYTES + 1)
        if answer.status >= 400:
            raise _refusal(answer.status, raw)
        try:
            value = json.loads(raw) if raw else {}
        except ValueError:
            value = None
        if not isinstance(value, dict) or len(raw) > MAX_ANSWER_BYTES:
            raise _stranger()
        return value

    @contextmanager
    def _answer(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str], timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        sent = {"Authorization": f"Bearer {self.token}"} | headers
        payload = None
        if body is not None:
            payload, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, API + path, payload, sent)
            yield connection.getresponse()
        except ConnectionError:
            raise ControlError("The daemon is not running.", START, Exit.NOT_RUNNING) from None
        except TimeoutError:
            raise ControlError(f"The daemon does not answer within {timeout_s:.0f} s.", "chinwag doctor", Exit.TIMEOUT) from None
        except (http.client.HTTPException, json.JSONDecodeError):
            raise _stranger() from None
        except OSError as error:
            raise ControlError(f"Cannot reach the daemon: {error.strerror or error}.", START, Exit.NOT_RUNNING) from None
        finally:
            connection.close()


def not_running(home: Path) -> ControlError:
    """Nobody is at home. Whoever has not even made a home is told to do that first."""
    if not (home / "identity").exists():
        return ControlError(f"There is no peer in {home} yet.", "chinwag init", Exit.NOT_RUNNING)
    return ControlError("The daemon is not running.", START, Exit.NOT_RUNNING)


def read_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[ServerEvent]:
    """Server-sent events from the lines of their stream (the form of the WHATWG standard that our daemon writes)."""
    number: int | None = None
    kind = "message"
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                facts = json.loads("\n".join(data))
                yield ServerEvent(number, kind, facts if isinstance(facts, dict) else {"value": facts})
            kind, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and value.isdigit():
            number = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)


def segment(text: str) -> str:
    """This text as one segment of a path."""
    return quote(text, safe="")


def _refusal(status: int, raw: bytes) -> ControlError:
    try:
        found = json.loads(raw)
        return ControlError(str(found["error"]), found.get("next"), int(found.get("exit") or Exit.FAILED))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    if status in (401, 403):
        return ControlError(
            "The daemon refuses our token; another one has taken its place.", "chinwag stop, then chinwag start", Exit.REFUSED
        )
    return ControlError(f"The daemon answered {status} and did not say why.", "chinwag doctor", Exit.FAILED)


def _stranger() -> ControlError:
    return ControlError("What answers there is not a Chinwag daemon.", START, Exit.NOT_RUNNING)
