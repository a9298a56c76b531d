"""Lines for a person and for a machine."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from peer import logs


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


COMMITTED = {"task": "digits", "part": "weights", "name": "laptop", "seconds": 0.0213, "xid": "00"}


def lines(is_json: bool, *events: tuple[str, dict[str, object]], level: int = logging.INFO) -> list[str]:
    out = io.StringIO()
    logs.set_up(is_json=is_json, level=level, stream=out)
    for kind, facts in events:
        logs.log_event(kind, facts)
    return out.getvalue().splitlines()


def test_a_person_reads_what_happened_in_words() -> None:
    [line] = lines(False, ("exchange.committed", COMMITTED))
    assert line[2] == line[5] == ":"
    assert line[10:] == "exchange with laptop committed (digits, weights, 0.0213 s)"


def test_a_machine_reads_one_object_a_line() -> None:
    [line] = lines(True, ("exchange.committed", COMMITTED))
    found = json.loads(line)
    assert found.items() >= {"event": "exchange.committed", "level": "info", **COMMITTED}.items()


def test_a_name_is_a_value_and_never_a_format_nor_a_command_to_the_terminal() -> None:
    evil = "%s{task}%(name)s\x1b[2J\u202e\n"
    [line] = lines(False, ("peer.connected", {"name": evil, "peer": "00"}))
    assert line.endswith("%s{task}%(name)s\\x1b[2J\\u202e\\n is here")
    [line] = lines(True, ("peer.connected", {"name": evil}))
    assert json.loads(line)["name"] == evil


def test_an_event_without_a_sentence_and_a_sentence_without_its_facts_are_still_shown() -> None:
    first, second = lines(False, ("brand.new", {"n": 1.0}), ("score", {}))
    assert first.endswith("brand.new  n 1")
    assert second.endswith("?: score ? (alone ?) after ? exchanges")


def test_everyday_failures_are_silent_unless_asked_for() -> None:
    event = ("dial.failed", {"address": "10.0.0.1:8786", "reason": "no route"})
    assert lines(False, event) == []
    assert len(lines(False, event, level=logging.DEBUG)) == 1


def test_a_traceback_stays_within_its_line_of_json() -> None:
    out = io.StringIO()
    logs.set_up(is_json=True, stream=out)
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("peer.driver").exception("failed at %s", "this")
    [line] = out.getvalue().splitlines()
    found = json.loads(line)
    assert found["message"] == "failed at this"
    assert "ValueError: odd" in found["traceback"]
