"""What happened, as lines: words for a person, or one JSON object a line for a machine.

Every Notify of the brain becomes one line here, in the words of SENTENCES; a kind without a sentence is shown with its facts,
so a new one is never lost. Names and reasons come from other peers: they are values, never formats, and what a terminal would
obey is shown as an escape.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, TextIO

EVENTS: Final = logging.getLogger("peer.happened")
"""Carries events; everything else is logged by its module's own logger."""

SENTENCES: Final[Mapping[str, str]] = {
    "peer.started": "{name} is running at {addresses}",
    "peer.stopped": "{name} has stopped; what it holds is on its disk",
    "peer.connected": "{name} is here",
    "peer.disconnected": "{name} is gone: {reason}",
    "peer.lost": "{name} has not been heard from for long; its rows leave the model with the next epoch",
    "peer.revoked": "a member was revoked",
    "member.joined": "{name} has joined the network",
    "join.refused": "somebody was not let in: {reason}",
    "card.refused": "a neighbour sent a card that is not valid: {reason}",
    "network.joined": "this device is a member of another network now",
    "identity.renewed": "the membership of this device was renewed",
    "identity.revoked": "this device's membership was revoked",
    "discovery.failed": "{why}",
    "store.damaged": "{why}",
    "dial.failed": "{address} does not answer: {reason}",
    "task.offered": "{author} offers the task {task}; see it with: chinwag task show {task}",
    "task.accepted": "this device takes part in {task}",
    "task.opened": "{task}: {train_rows} rows to learn from, {test_rows} kept to score on",
    "task.failed": "{task}: {error}",
    "task.left": "this device has left {task}",
    "epoch.began": "{task}: epoch {epoch} began",
    "exchange.committed": "exchange with {name} committed ({task}, {part}, {seconds} s)",
    "exchange.dropped": "an exchange of {task} did not happen: {reason}",
    "result.published": "{task}: agreed on a result of epoch {epoch}, {peers} peers",
    "result.fetched": "{task}: took over a neighbour's {part} of epoch {epoch}",
    "score": "{task}: score {now} (alone {alone}) after {exchanges} exchanges",
    "command.refused": "refused: {reason}",
}
"""Kind of event → its line. What stands in braces is a fact."""

LEVELS: Final[Mapping[str, int]] = {
    "dial.failed": logging.DEBUG,
    "exchange.dropped": logging.DEBUG,
    "result.published": logging.DEBUG,
    "peer.lost": logging.WARNING,
    "card.refused": logging.WARNING,
    "join.refused": logging.WARNING,
    "discovery.failed": logging.WARNING,
    "store.damaged": logging.WARNING,
    "task.failed": logging.WARNING,
    "identity.revoked": logging.ERROR,
}
"""Kinds that are not plain information. A dial that fails and an exchange that does not happen are everyday life in a network of
laptops; a result is followed by its score, which is shown."""


def set_up(*, is_json: bool, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Log to `stream` (standard output) from now on, in one of the two forms."""
    out = logging.StreamHandler(stream or sys.stdout)
    out.setFormatter(JsonLines() if is_json else Words())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(out)
    root.setLevel(level)
    for noisy in ("asyncio", "uvicorn", "zeroconf"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    for silent in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(silent).setLevel(logging.CRITICAL)


def log_event(kind: str, facts: Mapping[str, Any]) -> None:
    """One line for one thing that happened."""
    level = LEVELS.get(kind, logging.INFO)
    if EVENTS.isEnabledFor(level):
        EVENTS.log(level, "%s", sentence(kind, facts), extra={"kind": kind, "facts": facts})


def sentence(kind: str, facts: Mapping[str, Any]) -> str:
    """The line for a person."""
    if template := SENTENCES.get(kind):
        return template.format_map(_Shown(facts))
    return f"{kind}  " + "  ".join(f"{key} {_show(value)}" for key, value in facts.items())


class Words(logging.Formatter):
    """`12:04:05  what happened`"""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        urgency = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        line = f"{at}  {urgency}{visible(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One object a line: `at` (seconds since 1970), `level`, `event`, then the event's facts; for anything else `message`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"at": round(record.created, 3), "level": record.levelname.lower()}
        if kind := getattr(record, "kind", None):
            line["event"] = kind
            line |= {key: value for key, value in record.__dict__["facts"].items() if key not in line}
        else:
            line |= {"event": "log", "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Shown(dict[str, Any]):
    """Facts as they stand in a sentence; one that is missing is a question mark."""

    def __getitem__(self, key: str) -> str:
        return _show(super().__getitem__(key)) if key in self else "?"


def _show(value: Any) -> str:
    match value:
        case float():
            return f"{value:.3g}"
        case list() | tuple():
            return ", ".join(_show(v) for v in value) or "no address"
        case None:
            return "?"
        case _:
            return str(value)


def visible(text: str) -> str:
    """`text` with everything that a terminal would obey, or not show, as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
