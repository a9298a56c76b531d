"""What a scenario expects, held against courses that were made up."""

from __future__ import annotations

import pytest

from scenarios.findings import check
from scenarios.results import HOLDS, CellResult, PeerScore, Sample
from scenarios.scenario import cells, parse

SAMPLES: tuple[Sample, ...] = (
    (1.0, 0, 2, 1000, 0.2), (1.0, 1, 4, 2000, 0.6), (1.0, 2, 3, 1000, None),
    (2.0, 0, 6, 3000, 0.1), (2.0, 1, 8, 4000, 0.89), (2.0, 2, 6, 3000, 0.7),
    (3.0, 0, 9, 5000, 0.1), (3.0, 1, 12, 6000, 0.9), (3.0, 2, 9, 5000, 0.896),
)  # fmt: skip
"""Peer 0 is a liar, peer 2 late."""


def verdict(finding: str) -> str:
    text = f"[peers]\ncount = 3\nlate = 0.3\n[attack]\nkind = 'noise'\nshare = 0.3\n[[finding]]\nsays = 'so it is'\n{finding}"
    [cell] = cells(parse(text, "x"))
    peers = tuple(PeerScore(f"peer-{k}", 10, 9, 5000, 0.9, 0.3, "noise" if k == 0 else None) for k in range(3))
    result = CellResult(
        cell="all", axes={}, seed=1, on="sim", metric="accuracy", peers=peers, baselines={"pooled": 0.9, "alone": 0.3}, courses={},
        verdicts={}, findings={}, spread=((1.0, 0.5), (3.0, 1e-9)), samples=SAMPLES,
    )  # fmt: skip
    found = check(cell, result)
    assert set(found) <= {"so it is"}
    return found.get("so it is", "of another cell")


@pytest.mark.parametrize(
    ("finding", "value"),
    [
        ("measure = 'mean'", 0.898),
        ("measure = 'worst'", 0.896),
        ("measure = 'worst'\nminus = 'pooled'", -0.004),
        ("measure = 'worst'\nat_s = 2.5", 0.7),
        ("measure = 'worst'\nat_s = 1.5", 0.0),
        ("measure = 'mean'\nafter_exchanges = 4", 0.65),
        ("measure = 'mean'\npeers = 'late'\nat_s = 2", 0.7),
        ("measure = 'mean'\npeers = 'others'\nat_s = 2", 0.89),
        ("measure = 'agreeing'", 1.0),
        ("measure = 'agreeing'\nat_s = 2", 0.0),
        ("measure = 'exchanges'", 10.5),
        ("measure = 'kilobytes'\nat_s = 1", 1.5),
        ("measure = 'spread'", 1e-9),
        ("measure = 'spread'\nat_s = 2", 0.5),
        ("measure = 'mean'\nminus = 'alone'", 0.598),
        ("measure = 'pooled'", 0.9),
    ],
)
def test_a_measure_is_what_it_says_and_liars_do_not_count(finding: str, value: float) -> None:
    near = 1e-9 + 1e-6 * abs(value)
    assert verdict(f"{finding}\nat_least = {value - near}\nat_most = {value + near}") == HOLDS
    assert "at least" in verdict(f"{finding}\nat_least = {value + 2 * near + 1e-6}")
    assert "at most" in verdict(f"{finding}\nat_most = {value - 2 * near - 1e-6}")


def test_a_finding_speaks_of_its_own_cells_only() -> None:
    swept = parse("[peers]\ncount = [3, 4]\n[[finding]]\nsays = 's'\nmeasure = 'mean'\nat_least = 0\nwhen = { 'peers.count' = 4 }", "x")
    result = CellResult(
        cell="x", axes={}, seed=1, on="sim", metric="accuracy", peers=(), baselines={}, courses={}, verdicts={}, findings={}
    )  # fmt: skip
    few, many = cells(swept)
    assert check(few, result) == {}
    assert "no peer" in check(many, result)["s"]
