from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peer.cli.command import COMMANDS

ROOT = Path(__file__).parents[3]
HEAVY = ("numpy", "sklearn", "scipy", "rich", "starlette", "uvicorn", "zeroconf", "safetensors", "segno")


def run(*words: str, home: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CHINWAG_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return subprocess.run([sys.executable, "-m", "peer.cli", *words], capture_output=True, text=True, env=environment, check=False, **more)


def test_without_words_it_shows_its_help_and_where_to_start(chinwag: Callable[..., Any]) -> None:
    ran = chinwag()
    assert ran.code == 0
    assert all(name in ran.out for name in COMMANDS)
    assert ran.out.rstrip().count("\n  chinwag ") == 3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(chinwag: Callable[..., Any], name: str) -> None:
    ran = chinwag(name, "--help")
    assert ran.code == 0
    assert "Usage: chinwag " + name in ran.out


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(chinwag: Callable[..., Any]) -> None:
    ran = chinwag("statsu")
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean 'status'?" in ran.err
    assert ran.err.count("\n") == 2


def test_global_options_stand_before_or_after_the_command(chinwag: Callable[..., Any], daemon: Any) -> None:
    daemon.says("GET /peers", {"peers": []})
    before, after = chinwag("--json", "peers"), chinwag("peers", "--json")
    assert before.json == after.json == {"peers": []}


def test_a_home_given_after_the_command_is_used(chinwag: Callable[..., Any], tmp_path: Path) -> None:
    ran = chinwag("status", "--home", str(tmp_path / "other"))
    assert str(tmp_path / "other") in ran.err


@pytest.mark.parametrize("words", [("status", "--json"), ("--json", "status"), ("statsu", "--json"), ("status", "--bogus", "--json")])
def test_with_json_an_error_is_one_object_on_stdout(chinwag: Callable[..., Any], words: tuple[str, ...]) -> None:
    ran = chinwag(*words)
    assert ran.err == ""
    assert set(ran.json) == {"error", "next", "exit"}
    assert ran.json["exit"] == ran.code != 0
    assert ran.out.count("\n") == 1


def test_the_version_is_told_in_words_and_in_json(chinwag: Callable[..., Any]) -> None:
    assert chinwag("--version").out.startswith("chinwag ")
    assert chinwag("status", "--version", "--json").json["protocol"] == 1


@pytest.mark.parametrize("words", [("--help",), ("status",), ("peers", "--json"), ("task", "list"), ("--version",)])
def test_quick_commands_import_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    script = (
        f"import sys; from peer.cli import main; main({list(words)!r}); print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    environment = os.environ | {"CHINWAG_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert ran.stderr.strip().splitlines()[-1] == "[]"


def test_an_answer_whose_reader_is_gone_ends_quietly(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"CHINWAG_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with os.fdopen(write, "wb") as pipe:
        ran = subprocess.run(
            [sys.executable, "-m", "peer.cli", "--help"], stdout=pipe, stderr=subprocess.PIPE, env=environment, check=False
        )
    assert ran.stderr == b""


def test_names_from_others_cannot_steer_the_terminal(chinwag: Callable[..., Any], daemon: Any) -> None:
    peer = {"id": "ab" * 32, "short": "AAAA-BBBB", "name": "evil\x1b[2J\x07", "addresses": [], "state": "live", "last_heard": None}
    daemon.says("GET /peers", {"peers": [peer | {"exchanges": 0, "tasks": []}]})
    ran = chinwag("peers")
    assert "evil" in ran.out
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out


def test_a_console_without_our_signs_gets_question_marks(tmp_path: Path) -> None:
    environment = os.environ | {"CHINWAG_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run([sys.executable, "-m", "peer.cli", "demo", "--help"], capture_output=True, env=environment, check=False)
    assert ran.returncode == 0


def test_json_errors_are_objects_for_programs(tmp_path: Path) -> None:
    ran = run("status", "--json", home=tmp_path)
    assert ran.returncode == 3
    assert json.loads(ran.stdout)["next"] == "chinwag init"
