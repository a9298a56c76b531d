"""Who meets whom in a crowd: the order that the peers' own rule gives, in layers that change nothing about it."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios.meetings import Conditions, Everyone, Graph, Partners, View, in_layers, meetings


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def random(seed: int = 3) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_layers_give_to_the_last_bit_what_one_exchange_after_the_other_gives() -> None:
    a, b = random().integers(0, 40, (2, 500))
    a, b = a[a != b], b[a != b]
    one_by_one = random(4).normal(size=40)
    at_once = one_by_one.copy()
    for i, j in zip(a, b, strict=True):
        half = 0.5 * (one_by_one[j] - one_by_one[i])
        one_by_one[i], one_by_one[j] = one_by_one[i] + half, one_by_one[j] - half
    for layer in in_layers(a, b, 40):
        half = 0.5 * (at_once[layer.b] - at_once[layer.a])
        at_once[layer.a], at_once[layer.b] = at_once[layer.a] + half, at_once[layer.b] - half
    assert at_once.tobytes() == one_by_one.tobytes()


def test_no_peer_occurs_twice_in_a_layer() -> None:
    for layers in meetings(50, Everyone(50), 10, seed=1):
        for layer in layers:
            both = [*layer.a, *layer.b]
            assert len(set(both)) == len(both)


def test_everybody_begins_one_exchange_a_round_and_meets_everybody_equally_often() -> None:
    began, met = np.zeros(20), np.zeros((20, 20))
    for layers in meetings(20, Everyone(20), 2000, seed=1):
        for layer in layers:
            began[layer.a] += 1
            met[layer.a, layer.b] += 1
    assert began == pytest.approx(np.full(20, 2000), abs=25)
    assert met.diagonal().sum() == 0
    assert met[~np.eye(20, dtype=bool)] == pytest.approx(2000 / 19, rel=0.5)


def test_the_same_seed_gives_the_same_meetings_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[bytes]:
        conditions = Conditions(lost=0.1, away=0.2, epochs=(2,))
        return [
            array.tobytes() for layers in meetings(30, View(30, 5), 4, seed, conditions) for k in layers for array in (k.restart, k.a, k.b)
        ]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("partners", [Everyone(30), View(30, 4), Graph(30, [(k, (k + 1) % 30) for k in range(30)])])
def test_nobody_meets_itself_or_somebody_who_is_not_there(partners: Partners) -> None:
    for layers in meetings(30, partners, 20, seed=5):
        for layer in layers:
            assert (layer.a != layer.b).all()
            assert ((layer.b >= 0) & (layer.b < 30)).all()


def test_a_view_is_the_same_few_peers_each_time() -> None:
    view, everybody = View(1000, 6, seed=9), np.arange(1000)
    known: list[set[int]] = [set() for _ in everybody]
    for k in range(60):
        for i, j in enumerate(view.draw(everybody, random(k))):
            known[i].add(int(j))
    assert {len(k) for k in known} <= {5, 6}


def test_a_graph_is_used_in_both_directions_and_whoever_has_no_edge_meets_nobody() -> None:
    graph = Graph(4, [(0, 1), (1, 2)])
    drawn = {(int(i), int(j)) for k in range(30) for i, j in enumerate(graph.draw(np.arange(4), random(k)))}
    assert drawn == {(0, 1), (1, 0), (1, 2), (2, 1), (3, 3)}
    assert list(Graph(3, []).draw(np.arange(3), random())) == [0, 1, 2]


def test_of_lost_exchanges_nothing_comes() -> None:
    meant = sum(len(k.a) for layers in meetings(100, Everyone(100), 50, seed=2) for k in layers)
    came = sum(len(k.a) for layers in meetings(100, Everyone(100), 50, seed=2, conditions=Conditions(lost=0.3)) for k in layers)
    assert came / meant == pytest.approx(0.7, abs=0.02)


def test_of_peers_that_are_away_a_part_as_large_as_said_takes_no_part() -> None:
    rounds = meetings(400, Everyone(400), 200, seed=2, conditions=Conditions(away=0.5, away_rounds=5.0))
    came = sum(len(k.a) for layers in rounds for k in layers)
    assert came / (400 * 200) == pytest.approx(0.25, abs=0.02)


def test_an_epoch_spreads_like_a_rumour_and_each_peer_restarts_once() -> None:
    restarts = np.zeros(200)
    for number, layers in enumerate(meetings(200, Everyone(200), 20, seed=2, conditions=Conditions(epochs=(5,)))):
        for layer in layers:
            restarts[layer.restart] += 1
        assert restarts.sum() == 0 or number >= 5
    assert (restarts == 1).all()


def test_a_refused_initiator_restarts_and_does_not_exchange() -> None:
    first = next(iter(meetings(2, Everyone(2), 1, seed=0, conditions=Conditions(epochs=(0,)))))
    assert first[0].restart.tolist() == [0]
    late = [k for k in first[1:] if len(k.restart)]
    assert [k.restart.tolist() for k in late] == [[1]]
    assert (len(late[0].a) == 0) == (1 in [int(i) for i in _who_begins_first(2)])


def _who_begins_first(count: int) -> np.ndarray:
    """The initiator of the first exchange that seed 0 draws without epochs."""
    return next(iter(meetings(count, Everyone(count), 1, seed=0)))[0].a
