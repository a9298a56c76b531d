"""The baselines: against scikit-learn where it has the same thing, and against what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from scenarios.baselines import MAX_ROUNDS, alone, baselines, pooled
from scenarios.scenario import Cell, cells, parse, split


def cell(data: str = "", protocol: str = "", count: int = 8) -> Cell:
    [only] = cells(parse(f"[data]\n{data}\n[peers]\ncount = {count}\n[protocol]\n{protocol}", "x"))
    return only


def test_pooled_is_the_model_of_all_rows_in_one_place() -> None:
    dealt = split(cell('source = "wine"'), 1)
    rows = dealt.dataset.train
    there = LinearDiscriminantAnalysis().fit(rows.X, rows.y).score(dealt.dataset.test.X, dealt.dataset.test.y)
    assert pooled(dealt) == pytest.approx(there, abs=1e-9)


def test_alone_is_every_peer_s_own_and_none_for_a_relay() -> None:
    [only] = cells(parse("[data]\nsource = 'wine'\n[peers]\ncount = 5\nrelays = 0.2", "x"))
    found = alone(split(only, 1))
    assert found[4] is None
    assert all(score is not None and 0.0 <= score <= 1.0 for score in found[:4])


def test_skew_is_what_being_alone_suffers_from_and_a_server_cures() -> None:
    found = baselines(cell("source = 'digits'\npartition = 'dirichlet'\nalpha = 0.1\nrows = 900", "model = 'logistic'"), 1, 30)
    assert found.scores["alone"] < 0.6 < 0.9 < found.scores["fedavg"]
    assert found.scores["scaffold"] > 0.9
    assert abs(found.scores["scaffold"] - found.scores["pooled"]) < 0.03


def test_a_server_s_course_has_a_point_a_round_and_counts_what_a_peer_sends() -> None:
    found = baselines(cell("source = 'wine'"), 1, 3.4)
    assert [point[0] for point in found.courses["fedavg"]] == [1, 2, 3]
    assert [point[1] for point in found.courses["fedavg"]] == [n * (13 + 1) * 3 * 4 for n in (1, 2, 3)]
    assert [point[1] for point in found.courses["scaffold"]] == [2 * n * (13 + 1) * 3 * 4 for n in (1, 2, 3)]


def test_rounds_have_an_end() -> None:
    found = baselines(cell("source = 'iris'", count=2), 1, 1e6)
    assert len(found.courses["fedavg"]) == MAX_ROUNDS


def test_numbers_are_learned_with_a_server_too() -> None:
    found = baselines(cell("source = 'diabetes'\npartition = 'iid'", "model = 'ridge'", count=4), 1, 60)
    assert found.scores["scaffold"] == pytest.approx(found.scores["pooled"], abs=0.05)


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, two = (baselines(cell("source = 'wine'", "model = 'logistic'"), 3, 5) for _ in range(2))
    assert one == two
    assert np.isfinite([p[2] for p in one.courses["scaffold"]]).all()
