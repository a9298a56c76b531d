from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from peer.cli.predict import _replace
from peer.config import Home, load_identity
from peer.events import TaskId
from peer.learning.dataset import read_rows
from peer.learning.moments import own_statistics
from peer.saved import AddScore, Epoch, KeepResult, KeepTask
from peer.store import Store
from protocol.cards import card_id, sign_card
from protocol.tasks import Column, Target, Task, Thresholds

Run = Callable[..., Any]

HEADER = "rpm,Temp,fault\n"
ROWS = [f"{1500 - 40 * (i % 2) + i % 5},{20 + 9 * (i % 2) + i % 3},{'yes' if i % 2 else 'no'}\n" for i in range(60)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(HEADER + "".join(ROWS))
    return path


def a_task(identity: Any, name: str, model: str) -> Task:
    classes = ("no", "yes") if model == "lda" else ()
    target = Target(name="fault" if classes else "rpm", classes=classes)
    columns = (Column(name="temp", is_gappy=False),) + ((Column(name="rpm", is_gappy=False),) if classes else ())
    fixed = {"about": "", "alpha": 1e-6, "protocol": "gossip", "encoding": "int8", "privacy": "open", "created": 1_790_000_000}
    thresholds = Thresholds(min_rows=20, min_peers=2)
    of = {"network": identity.network, "author": identity.peer, "thresholds": thresholds}
    return Task(name=name, columns=columns, target=target, model=model, **fixed, **of)


def keep(home: Path, file: Path, name: str, model: str) -> TaskId:
    """Put a task with a published result into the store, as a daemon would have done."""
    identity = load_identity(Home(home))
    task = a_task(identity, name, model)
    card = sign_card("task", task.encode(), identity.key)
    task_id = TaskId(card_id(card))
    statistics = own_statistics(task, read_rows(task, str(file), {"temp": "Temp"})) | {"starter": np.array(0.5)}
    facts = {"is_settled": True, "exchanges": 7, "peers": 2.0}
    store = Store(home)
    store.commit(
        [
            KeepTask(task_id, card, "accepted"),
            KeepResult(task_id, "statistics", Epoch(3, identity.peer), statistics, facts),
            AddScore(task_id, 1_790_000_000.0, 7, 0.9),
        ]
    )
    store.close()
    with (home / "config.toml").open("a") as config:
        config.write(f'\n[task."{name}"]\nmap = {{ temp = "Temp" }}\n')
    return task_id


@pytest.fixture
def held(chinwag: Run, home: Path, file: Path) -> Path:
    """A home that holds the model of one task, and no daemon."""
    assert chinwag("init", "--name", "kitchen-pi").code == 0
    keep(home, file, "pump-faults", "lda")
    return home


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_stand_beside_the_rows_as_they_were(chinwag: Run, held: Path, file: Path, tmp_path: Path) -> None:
    ran = chinwag("predict", str(file), "-o", str(tmp_path / "out.csv"))
    assert ran.code == 0, ran.err
    found = table((tmp_path / "out.csv").read_text())
    assert list(found[0]) == ["rpm", "Temp", "fault", "prediction", "probability"]
    assert [row["prediction"] for row in found] == [row["fault"] for row in found]
    assert "made of 2 peers, 120 rows, epoch 3" in ran.err


def test_rows_without_the_target_and_with_gaps_are_predicted_too(chinwag: Run, held: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("Temp,rpm,prediction\n20,1502,x\n,1460,y\n")
    ran = chinwag("predict", str(tmp_path / "new.csv"))
    assert [(row["prediction"], row["prediction_2"]) for row in table(ran.out)] == [("x", "no"), ("y", "yes")]


def test_a_table_comes_through_a_pipe(chinwag: Run, held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.TextIOWrapper(io.BytesIO(b"Temp,rpm\n29,1460\n"))
    monkeypatch.setattr("sys.stdin", pipe)
    assert chinwag("predict", "-", "--json").json["prediction"] == "yes"


def test_a_table_that_cannot_be_read_to_its_end_leaves_no_half_answer(chinwag: Run, held: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("Temp,rpm\n20,1500\n20\n")
    ran = chinwag("predict", str(tmp_path / "odd.csv"), "-o", str(tmp_path / "out.csv"))
    assert ran.code == 6
    assert not list(tmp_path.glob("out*"))


def test_a_disk_that_fails_in_the_middle_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    def rows() -> Iterator[list[str]]:
        yield ["1"]
        raise OSError("the disk is full")

    (tmp_path / "out.csv").write_text("before")
    with pytest.raises(OSError, match="full"):
        _replace(tmp_path / "out.csv", ["a"], rows())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.csv", "before")]


def test_other_columns_are_a_sentence_with_the_mapping_to_type(chinwag: Run, held: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("temperature,rpm\n20,1500\n")
    ran = chinwag("predict", str(tmp_path / "other.csv"))
    assert ran.code == 6
    assert "next: chinwag data map pump-faults temp=temperature" in ran.err


def test_an_evaluation_counts_each_class(chinwag: Run, held: Path, file: Path) -> None:
    found = chinwag("evaluate", str(file), "--json").json
    assert (found["metric"], found["score"], found["rows"]) == ("accuracy", 1.0, 60)
    assert found["classes"] == {"no": {"rows": 30, "right": 30}, "yes": {"rows": 30, "right": 30}}


def test_a_number_is_predicted_without_a_probability(chinwag: Run, held: Path, file: Path) -> None:
    keep(held, file, "speed", "ridge")
    ran = chinwag("predict", str(file), "--task", "speed")
    assert list(table(ran.out)[0]) == ["rpm", "Temp", "fault", "prediction"]
    assert "R²" in chinwag("evaluate", str(file), "--task", "speed").out


def test_with_two_models_it_must_be_said_which(chinwag: Run, held: Path, file: Path) -> None:
    keep(held, file, "speed", "ridge")
    ran = chinwag("predict", str(file))
    assert ran.code == 2
    assert "pump-faults" in ran.err
    assert "speed" in ran.err


@pytest.mark.parametrize("command", [("predict", "x.csv"), ("evaluate", "x.csv"), ("model", "export", "t", "-o", "m.safetensors")])
def test_without_a_model_every_command_says_so(chinwag: Run, home: Path, command: tuple[str, ...]) -> None:
    chinwag("init")
    ran = chinwag(*command)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 2


def test_an_export_is_numbers_and_a_card_that_says_how_they_predict(chinwag: Run, held: Path, file: Path, tmp_path: Path) -> None:
    ran = chinwag("model", "export", "pump-faults", "-o", str(tmp_path / "m.safetensors"))
    assert ran.code == 0, ran.err
    arrays, card = load_file(tmp_path / "m.safetensors"), json.loads((tmp_path / "m.json").read_text())
    assert (card["task"], card["epoch"], card["peers"], card["rows"]) == ("pump-faults", 3, 2.0, 120.0)
    assert card["scores"] == {"metric": "accuracy", "alone": None, "now": 0.9, "exchanges": 7}
    assert [p["name"] for p in card["took_part"]] == ["kitchen-pi"]
    # what the card says is enough to predict without us
    x = np.array([29.0, 1460.0])
    assert card["classes"][int(np.argmax(arrays["coef"] @ x + arrays["intercept"]))] == "yes"


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
