from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peer.cli.task import GAPPY_COLUMNS

Run = Callable[..., Any]

CSV = (
    "temp,rpm,site,fault\n" + "".join(f"{20 + i % 7},{1400 + i},north,{'yes' if i % 3 else 'no'}\n" for i in range(40)) + ",1500,south,no\n"
)
REPORT = {"rows": 41, "train_rows": 33, "test_rows": 8, "metric": "accuracy", "alone": 0.75}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "meter.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def made(chinwag: Run, home: Path, file: Path) -> Path:
    """A home with rows, and no daemon."""
    assert chinwag("init", "--data", str(file), "--target", "fault", "--name", "kitchen-pi").code == 0
    return home


@pytest.fixture
def ready(made: Path, daemon: Any, sample: Any) -> Any:
    daemon.says("GET /tasks", {"tasks": [sample.card()]})
    daemon.says("GET /status", sample.status(tasks=[sample.task(state="offered")]))
    daemon.says("POST /tasks", {"id": "12" * 32})
    daemon.says(f"POST /tasks/{'12' * 32}/accept", {"id": "12" * 32, "report": REPORT})
    return daemon


def test_a_new_task_takes_names_gaps_and_classes_from_the_file_and_nothing_else(chinwag: Run, ready: Any, file: Path) -> None:
    ran = chinwag("task", "new", "pump-faults", "--yes", "--unit", "temp=°C", "--range", "temp=-40:120", "--class", "maybe,no")
    assert ran.code == 0, ran.err
    card = ready.body_of("POST /tasks")
    assert card["columns"] == [
        {"name": "temp", "is_gappy": True, "unit": "°C", "low": -40.0, "high": 120.0},
        {"name": "rpm", "is_gappy": True, "unit": None, "low": None, "high": None},
    ]
    assert card["target"] == {"name": "fault", "classes": ["maybe", "no", "yes"]}
    assert (card["model"], card["thresholds"]) == ("lda", {"min_rows": 20, "min_peers": 2})
    assert "1439" not in json.dumps(card)
    assert ready.body_of(f"POST /tasks/{'12' * 32}/accept") == {"source": str(file)}
    assert "33 rows to learn from, 8 kept back to score on; alone it reaches accuracy 75 %" in ran.out


def test_gaps_are_allowed_in_every_column_of_a_small_task_unless_the_owner_says_otherwise(chinwag: Run, ready: Any, tmp_path: Path) -> None:
    assert chinwag("task", "new", "pump-faults", "--yes", "--no-gaps").code == 0
    assert [c["is_gappy"] for c in ready.body_of("POST /tasks")["columns"]] == [False, False]
    wide = tmp_path / "wide.csv"
    names = [f"c{k}" for k in range(GAPPY_COLUMNS + 1)]
    rows = [",".join(["" if k == row == 3 else "1.5" for k in range(len(names))] + ["ab"[row % 2]]) for row in range(40)]
    wide.write_text("\n".join([",".join([*names, "fault"]), *rows]) + "\n")
    assert chinwag("task", "new", "wide", "--yes", "--data", str(wide)).code == 0
    assert [c["is_gappy"] for c in ready.body_of("POST /tasks")["columns"]] == [k == 3 for k in range(len(names))]


def test_before_a_task_is_made_it_is_said_what_leaves_the_device(chinwag: Run, ready: Any) -> None:
    ran = chinwag("task", "new", "pump-faults", "--yes")
    assert "the first partner in an epoch sees this device's own sums" in " ".join(ran.out.split())


@pytest.mark.parametrize(
    "words", [("task", "new", "pump-faults"), ("task", "accept", "pump-faults"), ("data", "map", "pump-faults", "temp=T")]
)
def test_where_nobody_can_be_asked_only_yes_is_a_yes(chinwag: Run, ready: Any, words: tuple[str, ...]) -> None:
    ran = chinwag(*words)
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == "next: chinwag " + " ".join(words) + " --yes"
    assert not [path for method, path, _ in ready.asked if method == "POST"]


def test_accepting_shows_the_card_first(chinwag: Run, ready: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = chinwag(
        "task", "accept", "pump-faults", "--yes", "--data", "own.csv", "--map", "temp=Temp_C", "--test", "test.csv", "--holdout", "0.5"
    )
    assert ran.code == 0, ran.err
    assert "task pump-faults by laptop" in ran.out
    assert "temp -40 to 120 °C, rpm" in ran.out
    assert "are allowed in temp, and filled" in ran.out
    assert "leaves this device: 14 sums" in ran.out
    said = ready.body_of(f"POST /tasks/{'12' * 32}/accept")
    assert said == {"source": str(tmp_path / "own.csv"), "test": str(tmp_path / "test.csv"), "holdout": 0.5, "map": {"temp": "Temp_C"}}


def test_a_task_may_be_named_by_the_beginning_of_its_id(chinwag: Run, ready: Any) -> None:
    assert chinwag("task", "show", "121212", "--json").json["name"] == "pump-faults"


def test_a_mistyped_task_is_answered_with_the_one_that_was_meant(chinwag: Run, ready: Any) -> None:
    ran = chinwag("task", "show", "pump-fault")
    assert ran.code == 2
    assert "did you mean 'pump-faults'?" in ran.err


def test_the_list_says_which_tasks_wait_for_a_yes(chinwag: Run, ready: Any) -> None:
    ran = chinwag("task", "list")
    assert "waits for your yes" in ran.out
    assert "next: chinwag task accept pump-faults" in ran.out


def test_a_mapping_is_added_to_what_was_mapped_before(chinwag: Run, ready: Any, made: Path) -> None:
    with (made / "config.toml").open("a") as config:
        config.write('\n[task."pump-faults"]\nmap = { rpm = "speed", temp = "old" }\n')
    ran = chinwag("data", "map", "pump-faults", "temp=Temp_C", "--yes")
    assert ran.code == 0, ran.err
    assert ready.body_of(f"POST /tasks/{'12' * 32}/accept") == {"map": {"rpm": "speed", "temp": "Temp_C"}}


def test_a_mapping_of_a_column_that_the_task_lacks_is_refused(chinwag: Run, ready: Any) -> None:
    ran = chinwag("data", "map", "pump-faults", "tmp=Temp_C", "--yes")
    assert ran.code == 6
    assert "did you mean 'temp'?" in ran.err


def test_without_a_daemon_a_mapping_is_kept_for_later(chinwag: Run, made: Path) -> None:
    assert chinwag("data", "map", "pump-faults", "temp=Temp_C").code == 0
    assert chinwag("data", "map", "pump-faults", "rpm=speed").code == 0
    tables = tomllib.loads((made / "config.toml").read_text())
    assert tables["task"]["pump-faults"] == {"map": {"temp": "Temp_C", "rpm": "speed"}}


def test_a_mismatch_that_the_daemon_finds_comes_with_its_remedy(chinwag: Run, ready: Any) -> None:
    error = {"error": "meter.csv has no column temp.", "next": "chinwag data map pump-faults temp=Temp_C", "exit": 6}
    ready.says(f"POST /tasks/{'12' * 32}/accept", error, 422)
    ran = chinwag("task", "accept", "pump-faults", "--yes")
    assert (ran.code, ran.err) == (6, "meter.csv has no column temp.\nnext: chinwag data map pump-faults temp=Temp_C\n")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--drop", "rmp"), 6, "did you mean 'rpm'?"),
        (("--unit", "°C"), 2, "COLUMN=UNIT"),
        (("--range", "temp=cold:hot"), 2, "is no range"),
        (("--ends", "2020-01-01"), 2, "over before it begins"),
        (("--ends", "soon"), 2, "write 2026-12-31"),
        (("--target", "falt"), 6, "no column falt"),
        (("--data", "nothing.csv"), 6, "nothing.csv"),
        (("--model", "forest"), 2, "forest"),
    ],
)
def test_what_cannot_be_a_task_is_one_sentence(chinwag: Run, ready: Any, words: tuple[str, ...], code: int, says: str) -> None:
    ran = chinwag("task", "new", "x", "--yes", *words)
    assert ran.code == code
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert not [path for method, path, _ in ready.asked if method == "POST"]


def test_leaving_says_what_becomes_of_the_model(chinwag: Run, ready: Any) -> None:
    ready.says("POST /tasks/pump-faults/leave", {"id": "12" * 32})
    assert "stays here" in chinwag("leave", "pump-faults").out
    assert ready.body_of("POST /tasks/pump-faults/leave") == {"erase": False}
    assert "deleted" in chinwag("leave", "pump-faults", "--erase").out
    assert ready.body_of("POST /tasks/pump-faults/leave") == {"erase": True}
