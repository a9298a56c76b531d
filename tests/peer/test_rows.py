"""Which rows belong to a task, and whether they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peer.config import Config, Home, PeerTable, RowsTable, TaskTable, load_config
from peer.control import ControlError
from peer.events import TaskId
from peer.rows import OwnersRows, RowsWatch, open_settings
from protocol.identity import PeerId

TASK, OTHER = TaskId(b"\x01" * 32), TaskId(b"\x02" * 32)
ME = PeerId(b"p" * 32)


def touch(path: Path, text: str, at: int) -> None:
    path.write_text(text)
    os.utime(path, (at, at))


def test_a_file_has_changed_when_it_is_another_and_at_rest(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    tables = {TASK: TaskTable(source=str(file))}
    watch = RowsWatch()
    touch(file, "a,b\n1,2\n", 1000)
    watch.reading(TASK, tables[TASK])
    assert watch.look(tables) == []
    assert watch.look(tables) == []
    touch(file, "a,b\n1,2\n3,", 1005)
    assert watch.look(tables) == []  # it may still be written
    touch(file, "a,b\n1,2\n3,4\n", 1006)
    assert watch.look(tables) == []
    assert watch.look(tables) == [TASK]
    assert watch.look(tables) == []


def test_a_change_while_the_file_is_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    tables = {TASK: TaskTable(source=str(file))}
    watch = RowsWatch()
    touch(file, "a\n1\n", 1000)
    watch.reading(TASK, tables[TASK])
    touch(file, "a\n1\n2\n", 1001)
    watch.look(tables)
    assert watch.look(tables) == [TASK]


def test_a_file_that_is_gone_is_no_change_until_another_is_there(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    tables = {TASK: TaskTable(source=str(file))}
    watch = RowsWatch()
    touch(file, "a\n1\n", 1000)
    watch.reading(TASK, tables[TASK])
    file.unlink()
    assert watch.look(tables) == watch.look(tables) == []
    touch(file, "a\n2\n3\n", 1001)
    watch.look(tables)
    assert watch.look(tables) == [TASK]


def test_rows_that_are_no_file_never_change(tmp_path: Path) -> None:
    watch = RowsWatch()
    tables = {TASK: TaskTable(source="digits"), OTHER: TaskTable()}
    assert watch.look(tables) == watch.look(tables) == watch.look({}) == watch.look(tables) == []


def owners(tmp_path: Path) -> OwnersRows:
    return OwnersRows(Home(tmp_path), Config(peer=PeerTable(name="pi"), rows=RowsTable(source="all.csv")))


def test_a_task_without_rows_of_its_own_has_those_of_the_device(tmp_path: Path) -> None:
    assert owners(tmp_path).table(TASK, "pumps").source == "all.csv"


def test_what_the_owner_accepts_is_kept_in_the_file(tmp_path: Path) -> None:
    rows = owners(tmp_path)
    table = rows.changed(rows.table(TASK, "pumps"), "pumps.csv", {"temp": "Temp_C"}, None, None)
    rows.keep(TASK, "pumps", table, is_name_taken=False)
    assert rows.table(TASK, "pumps") == table
    assert load_config(Home(tmp_path)).tasks == {"pumps": TaskTable(source="pumps.csv", map={"temp": "Temp_C"})}
    later = rows.changed(table, None, None, None, 0.3)
    assert (later.source, later.map, later.holdout) == ("pumps.csv", {"temp": "Temp_C"}, 0.3)


def test_two_tasks_of_one_name_keep_their_rows_apart(tmp_path: Path) -> None:
    rows = owners(tmp_path)
    rows.keep(TASK, "pumps", TaskTable(source="a.csv"), is_name_taken=False)
    rows.keep(OTHER, "pumps", TaskTable(source="b.csv"), is_name_taken=True)
    assert rows.table(TASK, "pumps").source == "a.csv"
    assert rows.table(OTHER, "pumps").source == "b.csv"


def test_the_hold_out_is_the_same_every_time_and_another_on_every_device() -> None:
    settings = open_settings(TaskTable(source="a.csv"), ME, TASK)
    assert settings == open_settings(TaskTable(source="a.csv"), ME, TASK)
    assert settings["seed"] != open_settings(TaskTable(source="a.csv"), PeerId(b"q" * 32), TASK)["seed"]
    assert 0 <= settings["seed"] < 2**63


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    rows = owners(tmp_path)
    with pytest.raises(ControlError):
        rows.rename("bell\x07")
    rows.rename("küche")
    assert load_config(Home(tmp_path)).peer.name == "küche"
