"""Scenario files: what may stand in them, how a sweep unfolds, and the worlds that seeds make of a cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenarios.scenario import Cell, ScenarioError, build, cells, groups, load, names, parse, split


def only(text: str) -> Cell:
    [cell] = cells(parse(text, "x"))
    return cell


def refused(text: str) -> str:
    with pytest.raises(ScenarioError) as error:
        parse(text, "x", label="x.toml")
    return error.value.sentence


def test_a_list_is_an_axis_and_the_last_one_turns_fastest() -> None:
    swept = cells(parse('[data]\nalpha = [0.1, 1.0]\n[peers]\ncount = [8, 16]\n[protocol]\nmodel = "lda"', "x"))
    assert [(c.data.alpha, c.peers.count) for c in swept] == [(0.1, 8), (0.1, 16), (1.0, 8), (1.0, 16)]
    assert swept[1].name == "data.alpha=0.1,peers.count=16"
    assert swept[1].axes == {"data.alpha": 0.1, "peers.count": 16}


def test_a_scenario_without_axes_is_one_cell_with_every_default() -> None:
    cell = only("")
    assert (cell.name, cell.data.source, cell.protocol.model, cell.axes) == ("all", "digits", "lda", {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[data]\nalpa = 1", "line 2: [data] has no setting 'alpa'. Did you mean 'alpha'?"),
        ("[datta]", "Did you mean 'data'?"),
        ("[data]\nalpha = [0.1, 'x']", "line 2: [data] alpha: a number is needed"),
        ("[data]\nalpha = []", "line 2: [data] alpha is a list of no values."),
        ("[network]\nloss = 1.0", "line 2: [network] loss"),
        ("[[fault]]\nkind = 'crush'\nat_s = 1\nshare = 0.5", "'crush' is not known"),
        ("[[fault]]\nkind = 'crash'\nat_s = 1", "needs either peers or share"),
        ("[[fault]]\nkind = 'crash'\nat_s = 2\nuntil_s = 1\nshare = 0.5", "is over before it begins"),
        ("[[finding]]\nsays = 'so'\nmeasure = 'mean'", "needs at_least or at_most"),
        ("[[finding]]\nsays = 'so'\nmeasure = 'mean'\nat_least = 0\nwhen = {'peers.count' = 7}", "no cell has peers.count = 7"),
        ("data = 3", "put [data] on a line of its own"),
        ("[data", "is not TOML"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_was_meant(text: str, says: str) -> None:
    assert says in refused(text)


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(ScenarioError) as error:
        load("first-lihgt")
    assert "Did you mean 'first-light'?" in error.value.sentence


def test_the_same_seed_makes_the_same_world_and_another_seed_another() -> None:
    cell = only('[data]\npartition = "dirichlet"\n[peers]\ncount = 6\ntopology = "ring"\n[churn]\nkind = "phones"')
    first, again, other = build(cell, 1), build(cell, 1), build(cell, 2)
    assert first.faults == again.faults != other.faults
    for a, b in zip(first.peers, again.peers, strict=True):
        assert a.rows is not None
        assert b.rows is not None
        np.testing.assert_array_equal(a.rows.X, b.rows.X)
    assert [len(p.rows) for p in first.peers if p.rows] != [len(p.rows) for p in other.peers if p.rows]


def test_nobody_trains_on_the_rows_that_score() -> None:
    dealt = split(only("[peers]\ncount = 4"), 1)
    held = {row.tobytes() for row in dealt.dataset.test.X}
    trained = [row.tobytes() for share in dealt.shares if share for row in share.X]
    assert len(trained) + len(dealt.dataset.test) == 1797
    assert not held & set(trained)


def test_liars_come_first_and_whoever_is_late_slow_or_without_rows_last() -> None:
    cell = only('[peers]\ncount = 10\nlate = 0.2\nrelays = 0.1\nslow = 0.3\n[attack]\nkind = "noise"\nshare = 0.2')
    world = build(cell, 1)
    assert [p.liar for p in world.peers] == ["noise"] * 2 + [None] * 8
    assert [p.joins_at for p in world.peers] == [0.0] * 8 + [60.0] * 2
    assert [p.rows is None for p in world.peers] == [False] * 9 + [True]
    assert [p.cpu for p in world.peers] == [1.0] * 7 + [0.1] * 3
    assert groups(cell, 10)["others"] == {2, 3, 4, 5, 6}


def test_one_csv_file_is_one_peer(tmp_path: Path) -> None:
    for name, shift in (("a", 0.0), ("b", 1.0)):
        lines = [f"{k + shift},{k % 3},{'yes' if k % 2 else 'no'}" for k in range(20)]
        (tmp_path / f"{name}.csv").write_text("x,z,ok\n" + "\n".join(lines) + "\n")
    [cell] = cells(parse('[data]\nsource = "*.csv"\ntarget = "ok"\npartition = "files"', "x", str(tmp_path)))
    world = build(cell, 1)
    assert [len(p.rows) for p in world.peers if p.rows] == [15, 15]
    assert world.classes == ("no", "yes")
    assert len(world.test) == 10


def test_too_many_peers_for_the_rows_is_a_sentence() -> None:
    with pytest.raises(ScenarioError, match="1348 rows are too few for 1000 peers"):
        build(only("[peers]\ncount = 1000"), 1)


def test_a_fault_of_a_share_strikes_as_many_peers_and_one_of_nobody_is_refused() -> None:
    [fault] = build(only("[peers]\ncount = 8\n[[fault]]\nkind = 'crash'\nat_s = 1\nshare = 0.5"), 1).faults
    assert len(set(fault.peers)) == 4
    with pytest.raises(ScenarioError, match="there is no peer 8"):
        build(only("[peers]\ncount = 8\n[[fault]]\nkind = 'crash'\nat_s = 1\npeers = [8]"), 1)


@pytest.mark.parametrize("name", names())
def test_every_shipped_scenario_says_what_it_shows_and_expects_something(name: str) -> None:
    scenario = load(name)
    assert scenario.about
    assert scenario.findings
    assert len(scenario.seeds) >= 3
    for cell in cells(scenario):
        build(cell, scenario.seeds[0])
