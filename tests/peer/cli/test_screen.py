from __future__ import annotations

import pytest

from peer.cli.screen import ago, aligned, folded, score, size, sparkline, visible, width


def test_columns_stand_under_each_other_whatever_the_letters() -> None:
    lines = aligned([["名前", "x"], ["ab", "y"], ["e\u0301", "z"], ["\x1b[1mbo\x1b[0m", "w"]])
    assert [width(line.rpartition("   ")[0]) for line in lines][:2] == [4, 4]
    assert lines[1] == "ab     y"


def test_what_steers_a_terminal_is_replaced_and_colours_stay() -> None:
    assert visible("a\x1b[1mb\x1b[0m\x1b[2J\x07\u202e") == "a\x1b[1mb\x1b[0m\ufffd[2J\ufffd\ufffd"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (123_456, "123 kB"), (5e9, "5.0 GB"), (5e12, "5000 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")])
def test_spans_of_time(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_a_score_is_per_cent_only_where_it_is_a_share() -> None:
    assert (score(0.934, "accuracy"), score(0.934, "r2"), score(None, "r2")) == ("93 %", "0.93", "–")


def test_a_course_goes_from_low_to_high_and_noise_stays_flat() -> None:
    assert sparkline([0.4, 0.6, 0.8, 0.93], 8)[0] == "▁"
    assert sparkline([0.4, 0.6, 0.8, 0.93], 8)[-1] == "█"
    assert len(set(sparkline([0.931, 0.930, 0.932], 8))) == 1
    assert sparkline([], 8) == ""


def test_a_long_course_fits_its_cells_and_ends_with_now() -> None:
    line = sparkline([i / 100 for i in range(100)], 16)
    assert len(line) == 16
    assert line[-1] == "█"


def test_a_long_line_is_broken_between_words_under_its_text() -> None:
    line = "  \x1b[1mfrom\x1b[0m      " + "temp, " * 20
    lines = folded(line, 40)
    assert all(width(part) <= 40 for part in lines)
    assert lines[1].startswith(" " * 12 + "temp")
    assert "".join(lines).count("temp") == 20


def test_a_line_with_something_to_copy_is_left_whole() -> None:
    line = "  chinwag join chinwag:" + "a" * 200
    assert folded(line, 80) == [line]
