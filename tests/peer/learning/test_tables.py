"""Files of every kind that people have: read, or refused with one sentence."""

from __future__ import annotations

import codecs
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.learning import tables
from peer.learning.tables import DataError, numbers, read_table


def rows(source: str) -> list[tuple[str, ...]]:
    return [row for block in read_table(source).blocks() for row in zip(*block.columns, strict=True)]


def refusal(source: str) -> DataError:
    with pytest.raises(DataError) as caught:
        rows(source)
    assert str(caught.value) == caught.value.sentence
    assert "\n" not in caught.value.sentence
    return caught.value


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found(make_file, separator):
    source = make_file("a|b|c\n1|2|3\n".replace("|", separator))
    assert read_table(source).names == ("a", "b", "c")
    assert rows(source) == [("1", "2", "3")]


def test_a_comma_inside_numbers_does_not_hide_the_semicolon(make_file):
    source = make_file("a;b\n1,5;2,5\n3,25;4,0\n")
    assert read_table(source).has_decimal_comma
    assert rows(source) == [("1,5", "2,5"), ("3,25", "4,0")]
    assert numbers(["1,5", "-2,25", ""], True)[0][:2] == [1.5, -2.25]


def test_a_separator_within_quotes_separates_nothing(make_file):
    assert rows(make_file('a,b\n"1;2;3",x\n"4;5;6","y,z"\n')) == [("1;2;3", "x"), ("4;5;6", "y,z")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_in_its_usual_forms_is_read_without_a_word(make_file, encoding):
    source = make_file("Temp (°C),Ort\n1,Zürich\n".encode(encoding))
    assert read_table(source).names == ("Temp (°C)", "Ort")
    assert read_table(source).notes == ()
    assert rows(source) == [("1", "Zürich")]


def test_utf_16_of_the_other_byte_order_is_read(make_file):
    assert rows(make_file(codecs.BOM_UTF16_BE + "a,b\n1,ü\n".encode("utf-16-be"))) == [("1", "ü")]


@pytest.mark.parametrize(("content", "encoding"), [("a,Größe\n1,2\n".encode("cp1252"), "cp1252"), (b"a,\x81b\n1,2\n", "latin-1")])
def test_older_encodings_are_read_with_a_note(make_file, content, encoding):
    (note,) = read_table(make_file(content)).notes
    assert encoding in note


def test_a_byte_that_is_not_utf_8_is_found_wherever_it_is(make_file):
    source = make_file(b"a,b\n" + b"1,2\n" * 100_000 + b"3,\xfc\n")
    assert read_table(source).notes
    assert rows(source)[-1] == ("3", "ü")


def test_line_ends_of_all_systems_and_blank_lines_are_the_same(make_file):
    expected = [("1", "2"), ("3", "4")]
    for end in ("\n", "\r\n", "\r"):
        assert rows(make_file(end.join(["a,b", "1,2", "", " , ", "3,4"]))) == expected


def test_a_column_without_a_name_is_given_one(make_file):
    assert read_table(make_file(",a\n0,1\n")).names == ("column 1", "a")


def test_many_rows_come_in_blocks_that_know_their_lines(make_file):
    source = make_file("a,b\n" + "".join(f"{i},{i}\n" for i in range(2500)))
    blocks = list(read_table(source).blocks())
    assert [len(b.lines) for b in blocks] == [1024, 1024, 452]
    assert blocks[1].lines[0] == 1026
    assert blocks[1].columns[0][0] == "1024"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (b"\x7fELF\0\0\0\0" * 10, "binary file"),
        (b"a,b\n1,2\n" + b"\0" * 10, "binary file"),
        (b"a,b\n" + b"1,2\n" * 50_000 + b"\0", "binary file"),
        (b"PK\x03\x04" + b"x" * 100, "Excel"),
        (b"PAR1" + b"x" * 100, "Parquet"),
        (b"a\n1\n2\n", "one column only"),
        (b"a|b\n1|2\n", "one column only"),
        (b"a,b\n", "no rows"),
        (b"1.5,2\n3,4\n", "no header"),
        (b"a,b,a\n1,2,3\n", "'a' twice"),
        (b"a,b\n1,2\n1,2,3\n", "Line 3 of rows.csv has 3 values"),
        (b"a,b\n1,2\n1\n", "Line 3 of rows.csv has 1 values"),
        (",".join(f"c{i}" for i in range(10_000)).encode() + b"\n", "10,000 columns"),
        (b'a,b\n"' + b"x" * 200_000, "quotation mark"),
        (b"a,b\n" + b"x" * (tables.MAX_LINE_CHARACTERS + 1), "characters"),
        (codecs.BOM_UTF16_LE + b"a\0,\0b\0\n\0" + b"\x00\xd8" * 5, "not the text it claims"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(make_file, content, says):
    assert says in refusal(make_file(content)).sentence


def test_what_is_no_file_is_refused(tmp_path: Path):
    assert "no file" in refusal(str(tmp_path / "absent.csv")).sentence
    assert "folder" in refusal(str(tmp_path)).sentence
    assert "cannot be read" in refusal("a\0b").sentence
    assert "cannot be read" in refusal(str(tmp_path / ("x" * 500))).sentence


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refusal(str(tmp_path / "pipe")).sentence


def test_a_file_without_permission_is_refused(make_file, monkeypatch):
    source = make_file("a,b\n1,2\n")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    error = refusal(source)
    assert "permission denied" in error.sentence
    assert error.next == f"chmod u+r {source}"


def test_two_gigabytes_of_nothing_cost_nothing(tmp_path: Path):
    path = tmp_path / "sparse.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n1,2\n")
        file.truncate(2 * 1024**3)
    tracemalloc.start()
    try:
        assert "2,048 MiB" in refusal(str(path)).sentence
        assert tracemalloc.get_traced_memory()[1] < 1024**2
    finally:
        tracemalloc.stop()


def test_a_sparse_file_under_the_limit_is_binary(tmp_path: Path):
    path = tmp_path / "sparse.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n1,2\n")
        file.truncate(8 * 1024**2)
    assert "binary" in refusal(str(path)).sentence


def test_values_that_are_missing_are_nan_in_every_spelling():
    values, strange = numbers(["1", "", "NA", "nan", "NaN", "NULL", "null", "-", " 2".strip()], False)
    assert strange == []
    assert [v for v in values if v == v] == [1.0, 2.0]


def test_what_is_no_finite_number_is_pointed_out():
    values, strange = numbers(["1", "x", "inf", "1e999", "", "1,5"], False)
    assert strange == [1, 2, 3, 5]
    assert values[0] == 1.0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_every_number_survives_being_written_with_point_or_comma(values):
    assert numbers([repr(v) for v in values], False) == (values, [])
    assert numbers([repr(v).replace(".", ",") for v in values], True) == (values, [])


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "rows.csv"
    path.write_bytes(content)
    said = ""
    try:
        rows(str(path))
    except DataError as error:
        said = error.sentence
    assert "\n" not in said
