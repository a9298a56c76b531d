from __future__ import annotations

import csv
from pathlib import Path

import pytest

from peer.cli.digits import COLUMNS, deal, known_digits, pooled

NAMES = ["ada", "bob", "cleo"]


def read(path: Path) -> list[tuple[str, ...]]:
    with path.open() as file:
        return [tuple(row) for row in csv.reader(file)]


def test_three_peers_know_four_digits_each_and_all_ten_together() -> None:
    assert known_digits(3) == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


@pytest.mark.parametrize("count", range(1, 13))
def test_whatever_their_number_the_peers_know_all_digits_together(count: int) -> None:
    assert sorted({digit for digits in known_digits(count) for digit in digits}) == list(range(10))


def test_no_row_is_dealt_twice_and_nobody_trains_on_the_test(tmp_path: Path) -> None:
    told = deal(tmp_path, NAMES)
    files = {name: read(tmp_path / f"{name}.csv")[1:] for name in [*NAMES, "test"]}
    assert sum(map(len, files.values())) == told["rows"] == 1797
    assert len({row for rows in files.values() for row in rows}) == 1797
    assert {row[-1] for row in files["ada"]} == set("0123")
    assert {row[-1] for row in files["test"]} == set("0123456789")
    assert all(len(row) == len(COLUMNS) + 1 for row in files["bob"])


def test_all_rows_in_one_place_give_a_good_model(tmp_path: Path) -> None:
    deal(tmp_path, NAMES)
    assert pooled(tmp_path, "lda", 1e-4, NAMES) > 0.94
