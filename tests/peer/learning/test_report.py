"""What a report says of a file, and the card that is made of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from peer.learning.report import card_fields, report
from peer.learning.tables import DataError

PUMPS = "id,temp,rpm,place,fault\n" + "".join(
    f"{i},{'' if i % 10 == 3 else 20 + i / 4},{i % 7},hall {i % 2},{'yes' if i % 3 else 'no'}\n" for i in range(60)
)


def test_columns_are_described_by_kind_gaps_and_range(make_file):
    found = report(make_file(PUMPS), "fault")
    assert found.rows == 60
    by_name = {c.name: c for c in found.columns}
    assert (by_name["temp"].kind, by_name["temp"].missing, by_name["temp"].low, by_name["temp"].high) == ("number", 6, 20, 34.75)
    assert by_name["temp"].mean == pytest.approx(27.4, abs=0.2)
    assert (by_name["place"].kind, by_name["place"].low, by_name["place"].distinct) == ("text", None, 2)
    assert found.classes == {"no": 20, "yes": 40}
    assert found.suggested == "lda"
    assert any("place is text" in p for p in found.problems)


def test_the_card_has_names_and_gaps_and_nothing_that_was_measured(make_file):
    fields = card_fields(report(make_file(PUMPS), "fault"), leave_out=("id",))
    assert [(c.name, c.is_gappy, c.low, c.high) for c in fields.columns] == [("temp", True, None, None), ("rpm", False, None, None)]
    assert fields.target.classes == ("no", "yes")
    assert (fields.model, fields.alpha) == ("lda", 0.0)


def test_classes_that_only_others_have_can_be_added(make_file):
    source = make_file("a,digit\n" + "".join(f"{i},{i % 3 * 5}\n" for i in range(30)))
    assert card_fields(report(source, "digit"), more_classes=("2", "5.0")).target.classes == ("0", "2", "5", "10")
    alone = make_file("a,digit\n" + "1,7\n" * 30)
    with pytest.raises(DataError, match="only the class 7"):
        card_fields(report(alone, "digit"))
    assert card_fields(report(alone, "digit"), more_classes=("8",)).target.classes == ("7", "8")


@pytest.mark.parametrize(
    ("values", "suggested"),
    [
        (["a", "b"] * 10, "lda"),
        ([0, 1] * 10, "lda"),
        ([1.5, 2.5] * 10, "lda"),
        (list(range(10)) * 5, "lda"),
        (list(range(50)), "ridge"),
        ([1, 2, 3, 4], "ridge"),
        ([1.25, 2.5, 3.75] * 10, "ridge"),
        ([f"text {i}" for i in range(300)], None),
    ],
)
def test_the_model_follows_from_the_target(make_file, values, suggested):
    source = make_file("a,y\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values)))
    assert report(source, "y").suggested == suggested


def test_ridge_may_be_chosen_for_numbers_that_look_like_classes(make_file):
    fields = card_fields(report(make_file("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(30))), "y"), "ridge")
    assert fields.target.classes == ()
    assert fields.alpha > 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b,y\n" + "1,2,no\n1,3,yes\n" * 20, "a has the same value in every row"),
        ("a,b,y\n" + "x,2,no\n1,3,yes\n" * 20, "a holds numbers, but also 20 texts, for instance 'x' in line 2 of rows.csv"),
        ("a,b,y\n" + ",2,no\n,3,yes\n" * 20, "a has no values"),
        ("a,b,y\n" + "1700000000,2,no\n1700000001,3,yes\n" * 20, "a lies far from zero"),
        ("a,b,y\n1,2,no\n2,1,yes\n", "2 rows are few"),
        ("a,b,y\n" + "1,2,no\n2,3,\n" * 20, "The target y is missing in 20 of 40 rows"),
        ("a,b,y\n" + "1,2,no\n2,3,no\n" * 20, "Every row has the same y"),
        ("a,b,y\n" + "p,q,no\n,r,yes\n" * 20, "no column of numbers"),
    ],
)
def test_what_stands_in_the_way_is_said(make_file, content, says):
    assert any(says in p for p in report(make_file(content), "y").problems)


def test_a_target_that_is_not_there_is_refused(make_file):
    with pytest.raises(DataError, match="no column z; it has a, y"):
        report(make_file("a,y\n1,2\n"), "z")


def test_without_a_target_there_is_a_report_and_no_card(make_file):
    found = report(make_file(PUMPS))
    assert (found.target, found.suggested, found.classes) == (None, None, {})
    with pytest.raises(DataError) as caught:
        card_fields(found)
    assert "task new" in (caught.value.next or "")


@pytest.mark.parametrize("content", ["a,y\nx,no\nz,yes\n", "a,y\n,no\n,yes\n"])
def test_a_file_without_numbers_makes_no_card(make_file, content):
    with pytest.raises(DataError, match="no column of numbers"):
        card_fields(report(make_file(content), "y"), "lda")


def test_a_name_that_cannot_stand_on_a_card_is_refused(make_file):
    with pytest.raises(DataError, match="cannot stand on a task's card"):
        card_fields(report(make_file(f"{'x' * 200},y\n" + "1,no\n2,yes\n" * 10), "y"))


def test_a_class_model_refuses_amounts_and_ridge_refuses_text(make_file):
    amounts = report(make_file("a,y\n" + "".join(f"{i},{i}.5\n" for i in range(300))), "y")
    with pytest.raises(DataError, match="amounts"):
        card_fields(amounts, "lda")
    with pytest.raises(DataError, match="holds text"):
        card_fields(report(make_file("a,y\n" + "1,no\n2,yes\n" * 10), "y"), "ridge")


def test_a_report_of_a_file_does_not_load_scikit_learn(make_file):
    code = f"import sys; from peer.learning.report import report; report({make_file(PUMPS)!r}, 'fault'); print('sklearn' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == "False"
