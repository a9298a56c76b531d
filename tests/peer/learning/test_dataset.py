"""Rows by the task's card: order, classes, gaps, ranges."""

from __future__ import annotations

import numpy as np
import pytest

from peer.learning.columns import ColumnMismatch
from peer.learning.dataset import DataError, class_key, read_features, read_rows
from protocol.tasks import Column


def test_columns_come_in_the_order_of_the_task(make_task, make_file):
    rows = read_rows(make_task(), make_file("fault,rpm,junk,temp\nyes,2,x,1\nno,4,y,3\n"), {})
    assert rows.X.tolist() == [[1, 2], [3, 4]]
    assert rows.X.dtype == np.float64
    assert rows.y.tolist() == [1, 0]
    assert rows.y.dtype == np.int64


def test_a_number_to_predict_stays_a_number(make_task, make_file):
    rows = read_rows(make_task(model="ridge"), make_file("temp;rpm;fault\n1,5;2;3,25\n"), {})
    assert rows.X.tolist() == [[1.5, 2]]
    assert rows.y.tolist() == [3.25]
    assert rows.y.dtype == np.float64


def test_three_is_three_however_it_is_written(make_task, make_file):
    task = make_task(classes=("0", "3.0"))
    assert read_rows(task, make_file("temp,rpm,fault\n1,2,3\n1,2,3.0\n1,2, 3\n1,2,3e0\n1,2,0\n"), {}).y.tolist() == [1, 1, 1, 1, 0]
    assert read_rows(task, make_file("temp;rpm;fault\n1;2;3,0\n"), {}).y.tolist() == [1]
    assert class_key("3.0") == class_key(" 3") == "3"
    assert class_key("3.5") == "3.5"
    assert class_key("three") == "three"


def test_the_spelling_decides_between_classes_that_would_be_the_same_number(make_task, make_file):
    task = make_task(classes=("3", "3.0"))
    assert read_rows(task, make_file("temp,rpm,fault\n1,2,3\n1,2,3.0\n1,2,3.00\n"), {}).y.tolist() == [0, 1, 0]


def test_a_class_may_be_called_what_elsewhere_means_missing(make_task, make_file):
    assert read_rows(make_task(classes=("-", "+")), make_file("temp,rpm,fault\n1,2,-\n1,2,+\n"), {}).y.tolist() == [0, 1]


def test_a_class_that_this_device_has_not_is_no_matter(make_task, make_file):
    assert read_rows(make_task(classes=("a", "b", "c")), make_file("temp,rpm,fault\n1,2,c\n1,2,a\n"), {}).y.tolist() == [2, 0]


def test_gaps_are_nan_where_the_card_allows_them(make_task, make_file):
    rows = read_rows(make_task(gappy=("temp",)), make_file("temp,rpm,fault\n,2,no\nNA,3,yes\n7,4,no\n"), {})
    assert np.isnan(rows.X[:, 0]).tolist() == [True, True, False]


def test_rows_to_predict_for_may_have_gaps_anywhere(make_task, make_file):
    X = read_features(make_task(), make_file("rpm,temp\n2,1\n,3\n"), {})
    assert X.shape == (2, 2)
    assert np.isnan(X[1, 1])


def test_a_note_about_the_file_stays_with_its_rows(make_task, make_file):
    assert read_rows(make_task(), make_file("temp,rpm,fault,Größe\n1,2,no,3\n".encode("cp1252")), {}).notes


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("warm,2,no", "Line 3 of rows.csv: temp is 'warm' where a number is needed."),
        ("inf,2,no", "temp is 'inf' where a number is needed"),
        ("1e60,2,no", "temp is 1e+60, outside"),
        ("1,2,", "the target fault is missing"),
        ("1,2,NaN", "the target fault is missing"),
        ("1,2,maybe", "fault is 'maybe', which is none of the task's classes (no, yes)."),
        ("1,2,Yes", "is 'yes' meant?"),
        (",2,no", "temp is missing, and the task's card says that it never is."),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_line_and_value(make_task, make_file, row, says):
    with pytest.raises(DataError) as caught:
        read_rows(make_task(), make_file(f"temp,rpm,fault\n1,2,no\n{row}\n"), {})
    assert says in caught.value.sentence
    assert "ine 3 of rows.csv" in caught.value.sentence
    assert caught.value.next


@pytest.mark.parametrize(("cell", "says"), [("", "is missing"), ("x", "is 'x' where a number"), ("inf", "is 'inf' where a number")])
def test_a_number_to_predict_must_be_there(make_task, make_file, cell, says):
    with pytest.raises(DataError) as caught:
        read_rows(make_task(model="ridge"), make_file(f"temp,rpm,fault\n1,2,3\n1,2,{cell}\n"), {})
    assert f"Line 3 of rows.csv: the target fault {says}" in caught.value.sentence


def test_a_value_outside_the_cards_range_is_refused_with_its_unit(make_task, make_file):
    task = make_task(columns=(Column("temp", False, "°C", -40.0, 85.0), "rpm"))
    assert len(read_rows(task, make_file("temp,rpm,fault\n85,2,no\n-40,2,no\n"), {})) == 2
    with pytest.raises(DataError) as caught:
        read_rows(task, make_file("temp,rpm,fault\n85,2,no\n200,2,no\n"), {})
    assert "temp is 200 °C, outside the task's range -40 to 85 °C" in caught.value.sentence


def test_columns_that_are_not_there_are_a_mismatch(make_task, make_file):
    with pytest.raises(ColumnMismatch):
        read_rows(make_task(), make_file("a,b\n1,2\n"), {})


def test_a_bundled_set_is_a_source_like_any_other(make_task):
    names = ("sepal length (cm)", "petal width (cm)")
    rows = read_rows(make_task(columns=names, target="target", classes=("virginica", "setosa", "versicolor")), "sklearn:iris", {})
    assert rows.X[0].tolist() == [5.1, 0.2]
    assert rows.y[[0, -1]].tolist() == [1, 0]
    with pytest.raises(DataError, match="no bundled set"):
        read_rows(make_task(), "sklearn:mnist", {})
