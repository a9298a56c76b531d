"""Who holds which rows, who reaches whom, who is there when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from peer.learning.dataset import Rows
from scenarios import churn, topology
from scenarios.partition import TooFewRows, deal, labels
from scenarios.settings import Churn

ROWS = Rows(np.random.default_rng(3).normal(size=(600, 3)), np.repeat(np.arange(6), 100))


def chance(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def shares(kind: str, *, alpha: float = 0.1, peers: int = 12) -> list[np.ndarray]:
    return deal(ROWS, peers, kind, alpha=alpha, shards=2, least=2, chance=chance())


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards", "quantity", "features"])
def test_every_row_goes_to_one_peer_and_everybody_has_some(kind: str) -> None:
    found = shares(kind)
    assert sorted(np.concatenate(found).tolist()) == list(range(600))
    assert min(map(len, found)) >= 2


def classes_known(found: list[np.ndarray]) -> float:
    return float(np.mean([len(set(ROWS.y[mine].tolist())) for mine in found]))


def test_each_kind_is_skewed_in_its_own_way() -> None:
    assert classes_known(shares("iid")) == 6
    assert classes_known(shares("dirichlet")) < 4 < classes_known(shares("dirichlet", alpha=100.0))
    assert classes_known(shares("shards")) <= 2
    assert {len(mine) for mine in shares("iid")} == {50}
    sizes = sorted(map(len, shares("quantity")))
    assert sizes[0] < 10 < 100 < sizes[-1]


def test_pieces_by_features_do_not_overlap_along_the_widest_direction() -> None:
    rows = Rows(np.outer(np.random.default_rng(1).normal(size=90), [1.0, 2.0]), np.zeros(90, dtype=np.int64))
    found = deal(rows, 3, "features", alpha=1.0, shards=2, least=2, chance=chance())
    low, middle, high = sorted((rows.X[mine, 0] for mine in found), key=lambda x: float(x.mean()))
    assert low.max() <= middle.min()
    assert middle.max() <= high.min()


def test_numbers_are_skewed_by_tenths() -> None:
    found = labels(Rows(np.zeros((40, 1)), np.linspace(5.0, -5.0, 40)))
    assert sorted(set(found.tolist())) == list(range(10))
    assert found[0] == 9


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(TooFewRows):
        shares("iid", peers=301)


@pytest.mark.parametrize(("peers", "degree"), [(10, 4), (20, 6), (100, 20), (9, 6)])
def test_a_regular_graph_gives_everybody_as_many_neighbours(peers: int, degree: int) -> None:
    pairs = topology.regular(peers, degree, chance())
    assert pairs is not None
    assert len(set(pairs)) == len(pairs) == peers * degree // 2
    assert set(np.bincount(np.array(pairs).ravel(), minlength=peers).tolist()) == {degree}


@pytest.mark.parametrize("kind", ["ring", "regular", "cities"])
def test_every_graph_is_connected(kind: str) -> None:
    pairs = topology.graph(kind, 60, degree=4, cities=20, chance=chance())
    assert pairs is not None
    reached, edge = {0}, {0}
    while edge:
        edge = {b for pair in pairs for a, b in (pair, pair[::-1]) if a in edge} - reached
        reached |= edge
    assert reached == set(range(60))


def test_an_odd_degree_is_refused() -> None:
    with pytest.raises(topology.NoSuchGraph):
        topology.regular(10, 3, chance())


def test_phones_are_on_for_the_share_that_was_asked_for_and_less_at_noon() -> None:
    day = Churn(kind="phones", online=0.3, day_s=1000.0, session_s=20.0)
    found = churn.absences(day, 200, 1000.0, ".", chance())
    times = np.arange(0.0, 1000.0, 5.0)
    off = np.zeros_like(times)
    for _, start, end in found:
        off += (times >= start) & (times < (1000.0 if end is None else end))
    on = 1.0 - off / 200
    assert abs(float(on.mean()) - 0.3) < 0.04
    assert float(on[95:105].mean()) < 0.2 < 0.4 < float(on[:5].mean())


def test_when_churn_ends_everybody_is_there() -> None:
    found = churn.absences(Churn(kind="phones", online=0.2, until_s=100.0), 30, 200.0, ".", chance())
    assert found
    assert all(end is not None and end <= 100.0 for _, _, end in found)


def test_a_trace_of_times_on_is_read_as_the_times_off(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("peer,on_s,off_s\n0,0,50\n0,60,100\n1,20,100\n")
    found = churn.absences(Churn(kind="trace", trace="t.csv"), 3, 100.0, str(tmp_path), chance())
    assert found == [(0, 50.0, 60.0), (1, 0.0, 20.0), (2, 0.0, None)]
    (tmp_path / "t.csv").write_text("peer,on_s,off_s\n0,50,20\n")
    with pytest.raises(churn.BadTrace, match="line 2"):
        churn.absences(Churn(kind="trace", trace="t.csv"), 3, 100.0, str(tmp_path), chance())
