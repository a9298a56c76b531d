from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "meter.csv"
    path.write_text("temp,rpm,fault\n" + "".join(f"{i},{i * i},{i % 2}\n" for i in range(40)) + ",7,1\n")
    return path


def test_init_makes_a_network_of_one_and_reports_the_rows(chinwag: Run, home: Path, file: Path) -> None:
    ran = chinwag("init", "--data", str(file), "--target", "fault", "--name", "kitchen-pi")
    assert ran.code == 0
    assert "41 rows, 3 columns, target 'fault' (2 classes: 0 20, 1 21)." in ran.out
    assert "Missing: temp 2 %." in ran.out
    assert "Nothing is shared yet." in ran.out
    assert "next: chinwag start" in ran.out
    assert stat.S_IMODE((home / "identity" / "key.pem").stat().st_mode) == 0o600 or os.name == "nt"


def test_a_second_init_keeps_the_identity_and_changes_what_is_said(chinwag: Run, home: Path, file: Path) -> None:
    first = chinwag("init", "--json").json
    second = chinwag("init", "--json", "--name", "laptop", "--data", str(file)).json
    assert (first["is_new"], second["is_new"]) == (True, False)
    assert first["peer"] == second["peer"]
    assert second["name"] == "laptop"
    assert f'source = "{file}"' in (home / "config.toml").read_text()


def test_force_founds_a_new_network(chinwag: Run, home: Path) -> None:
    assert chinwag("init", "--json").json["network"] != chinwag("init", "--force", "--json").json["network"]


def test_force_does_not_pull_the_identity_from_under_a_daemon(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status())
    ran = chinwag("init", "--force")
    assert (ran.code, ran.err.splitlines()[-1]) == (4, "next: chinwag stop")


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02\x03" * 99, b"one\n1\n2\n", b"a,b\n1,2\n3\n", b"a,a\n1,2\n"])
def test_a_file_that_is_no_table_is_one_sentence_and_leaves_no_trace(chinwag: Run, home: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    ran = chinwag("init", "--data", str(path))
    assert ran.code == 6
    assert len(ran.err.splitlines()) == 2
    assert not home.exists()


def test_a_name_that_cannot_be_one_is_refused(chinwag: Run, home: Path) -> None:
    assert chinwag("init", "--name", "x" * 65).code == 2


def test_a_config_with_a_misspelt_key_names_the_line_and_the_key(chinwag: Run, home: Path) -> None:
    chinwag("init")
    text = (home / "config.toml").read_text()
    (home / "config.toml").write_text(text.replace("[peer]\n", "[peer]\nprot = 1\n"))
    ran = chinwag("start")
    assert ran.code == 2
    assert "line 2" in ran.err
    assert "'port'" in ran.err
    assert "Traceback" not in ran.err


def test_data_check_says_what_is_in_a_file(chinwag: Run, file: Path) -> None:
    found = chinwag("data", "check", str(file), "--target", "fault", "--json").json
    assert (found["rows"], found["suggested"], found["classes"]) == (41, "lda", {"0": 20, "1": 21})


def test_data_check_without_a_file_takes_that_of_init(chinwag: Run, home: Path, file: Path) -> None:
    chinwag("init", "--data", str(file), "--target", "fault")
    assert "41 rows" in chinwag("data", "check").out
