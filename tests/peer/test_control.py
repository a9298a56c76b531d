from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from peer.control import Control, ControlError, Exit, read_events


def write(home: Path, **changed: Any) -> None:
    (home / "control.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "token": "t", "pid": 1} | changed))


def answering(*answers: bytes) -> int:
    """A port that gives these bytes, one connection after the other, whatever it is asked."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def refused(home: Path, path: str = "/status", timeout_s: float = 5.0) -> ControlError:
    with pytest.raises(ControlError) as found:
        Control.of(home).get(path, timeout_s=timeout_s)
    return found.value


def test_a_home_that_was_never_made_is_told_to_be_made(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert (error.exit, error.next) == (Exit.NOT_RUNNING, "chinwag init")


def test_a_home_without_a_daemon_is_told_to_start_one(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    assert refused(tmp_path).next == "chinwag start"


def test_a_file_left_by_a_dead_daemon_is_no_daemon(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    write(tmp_path, url=f"http://127.0.0.1:{port}")
    assert refused(tmp_path).exit == Exit.NOT_RUNNING


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:80", "https://127.0.0.1:1", "http://127.0.0.1.evil.example:80", "http://127.0.0.1", "file:///x"]
)
def test_the_token_goes_nowhere_but_to_this_computer(tmp_path: Path, url: str) -> None:
    write(tmp_path, url=url)
    error = refused(tmp_path)
    assert error.exit == Exit.NOT_RUNNING
    assert "does not name a daemon on this computer" in error.sentence


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"url": 1, "token": 2, "pid": 3}', b"\xff\xfe", b"null", b'{"url":"http://[","token":"t","pid":1}']
)
def test_a_damaged_control_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "control.json").write_bytes(content)
    assert refused(tmp_path).exit == Exit.NOT_RUNNING


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello", b"HTTP/1.1 200 OK\r\n\r\n[1]"])
def test_another_program_on_the_port_is_not_taken_for_a_daemon(tmp_path: Path, answer: bytes) -> None:
    write(tmp_path, url=f"http://127.0.0.1:{answering(answer)}")
    assert refused(tmp_path).exit == Exit.NOT_RUNNING


def test_an_error_of_the_daemon_keeps_its_sentence_and_exit_code(tmp_path: Path) -> None:
    body = json.dumps({"error": "No.", "next": "chinwag ask", "exit": 4}).encode()
    write(tmp_path, url=f"http://127.0.0.1:{answering(b'HTTP/1.1 409 Conflict' + bytes([13, 10, 13, 10]) + body)}")
    error = refused(tmp_path)
    assert (error.sentence, error.next, error.exit) == ("No.", "chinwag ask", 4)


def test_an_error_that_says_nothing_is_still_a_sentence(tmp_path: Path) -> None:
    write(tmp_path, url=f"http://127.0.0.1:{answering(b'HTTP/1.1 500 Oh' + bytes([13, 10, 13, 10]) + b'<html>')}")
    assert refused(tmp_path).exit == Exit.FAILED


def test_a_daemon_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write(tmp_path, url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert refused(tmp_path, timeout_s=0.05).exit == Exit.TIMEOUT


def test_events_are_read_with_their_ids_and_kinds() -> None:
    score = b'retry: 1000\n\nid: 7\nevent: score\ndata: {"now": 0.5}\n\n: ping\n\n'
    gap = b'id: 8\nevent: gap\ndata: {"missed":\ndata: 3}\n\n'
    cut_off = b"id: 9\nevent: score\ndata: {}\n"
    stream = score + gap + cut_off
    events = list(read_events(iter(stream.splitlines(keepends=True))))
    assert [(e.id, e.kind, e.facts) for e in events] == [(7, "score", {"now": 0.5}), (8, "gap", {"missed": 3})]
