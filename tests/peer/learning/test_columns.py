"""Columns are found by name; where they are called otherwise, the command that maps them is offered."""

from __future__ import annotations

import pytest

from peer.learning.columns import ColumnMismatch, places, suggest
from peer.learning.tables import DataError, read_table


def test_the_order_of_the_file_does_not_matter(make_task, make_file):
    table = read_table(make_file("fault,extra,rpm,temp\nno,9,2,1\n"))
    assert places(make_task(), table, {}, needs_target=True) == [3, 2, 0]


def test_a_mapping_names_the_files_columns(make_task, make_file):
    table = read_table(make_file("Temp_C,rpm,fault\n1,2,no\n"))
    assert places(make_task(), table, {"temp": "Temp_C"}, needs_target=True) == [0, 1, 2]


def test_a_mismatch_shows_both_lists_and_the_command_that_mends_it(make_task, make_file):
    table = read_table(make_file("Temp_C,R.P.M.,broken,fault\n1,2,3,no\n"))
    with pytest.raises(ColumnMismatch) as caught:
        places(make_task(), table, {}, needs_target=True)
    error = caught.value
    assert error.wanted == ("temp", "rpm", "fault")
    assert error.found == ("Temp_C", "R.P.M.", "broken", "fault")
    assert error.missing == ("temp", "rpm")
    assert error.suggested == {"temp": "Temp_C", "rpm": "R.P.M."}
    assert error.next == "chinwag data map pumps temp=Temp_C rpm=R.P.M."
    assert "temp, rpm, fault" in error.sentence
    assert "Temp_C, R.P.M., broken, fault" in error.sentence


def test_names_that_a_shell_would_split_are_quoted(make_task, make_file):
    table = read_table(make_file("Temp C,rpm,fault\n1,2,no\n"))
    with pytest.raises(ColumnMismatch) as caught:
        places(make_task(name="my pumps"), table, {}, needs_target=True)
    assert caught.value.next == "chinwag data map 'my pumps' 'temp=Temp C'"


def test_what_resembles_nothing_is_left_to_the_owner(make_task, make_file):
    table = read_table(make_file("zzz,rpm,fault\n1,2,no\n"))
    with pytest.raises(ColumnMismatch) as caught:
        places(make_task(), table, {}, needs_target=True)
    assert caught.value.next == "chinwag data map pumps temp=COLUMN"


def test_a_mapping_to_a_column_that_is_not_there_is_a_mismatch(make_task, make_file):
    table = read_table(make_file("temp,rpm,fault\n1,2,no\n"))
    with pytest.raises(ColumnMismatch) as caught:
        places(make_task(), table, {"temp": "temperature"}, needs_target=True)
    assert caught.value.suggested == {"temp": "temp"}


def test_one_column_cannot_stand_for_two(make_task, make_file):
    table = read_table(make_file("temp,rpm,fault\n1,2,no\n"))
    with pytest.raises(DataError, match="both 'temp' and 'rpm'"):
        places(make_task(), table, {"rpm": "temp"}, needs_target=True)


def test_rows_to_predict_for_need_no_target(make_task, make_file):
    table = read_table(make_file("rpm,temp\n2,1\n"))
    assert places(make_task(), table, {}, needs_target=False) == [1, 0]


def test_each_suggestion_is_made_once_and_the_surest_first():
    assert suggest(["temp", "temp2"], ["Temp 2", "temps"]) == {"temp2": "Temp 2", "temp": "temps"}
    assert suggest(["länge"], ["LANGE"]) == {"länge": "LANGE"}
    assert suggest(["a"], []) == {}
