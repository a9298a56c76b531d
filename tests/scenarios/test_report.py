"""The page: whole, well formed, offline, and honest about what does not hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scenarios import charts, report
from scenarios.charts import Line, Scale
from scenarios.results import CellResult, PeerScore, Results


def result(cell: str = "all", seed: int = 1, peers: int = 4, **fields: Any) -> CellResult:
    samples = tuple((float(t), k, t * 3 + k, t * 1000, min(0.3 + 0.1 * t, 0.9)) for t in range(1, 9) for k in range(peers))
    known: dict[str, Any] = {
        "axes": {} if cell == "all" else {"peers.count": cell},
        "verdicts": {"conserved": "holds"},
        "findings": {"All <agree>.": "holds"},
        "faults": ({"at": 2.0, "until": 4.0, "kind": "one_way", "peers": [0], "value": None},),
        "talked": tuple((a, b, a + b) for a in range(peers) for b in range(a + 1, peers)),
        "spread": ((1.0, 0.5), (2.0, 1e-3), (3.0, 0.0)),
        "courses": {"fedavg": tuple((n, n * 100, 0.5 + 0.01 * n) for n in range(1, 20)), "scaffold": ()},
        "samples": samples,
    }
    people = tuple(PeerScore(f"peer-{k}", 10, 27, 8000, 0.9, None if k else 0.3, "noise" if k == 3 else None) for k in range(peers))
    scores = {"alone": 0.3, "pooled": 0.9, "fedavg": 0.7, "scaffold": 0.8}
    return CellResult(cell=cell, seed=seed, on="sim", metric="accuracy", peers=people, baselines=scores, **{**known, **fields})


def page(*cells: CellResult) -> str:
    return report.html(Results("a <b> c", "It shows.", "sim", cells))


class Balance(HTMLParser):
    """Every element that is opened is closed, in order."""

    ALONE = frozenset({"meta", "br", "rect", "circle", "line", "path", "polygon", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] != tag and self.open[-1] == "meta":
            self.open.pop()
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "cells", [(result(),), (result("8"), result("8", 2), result("16", peers=50)), (result(samples=(), talked=(), spread=()),)]
)
def test_every_element_is_closed(cells: tuple[CellResult, ...]) -> None:
    parser = Balance()
    parser.feed(page(*cells))
    assert parser.open == []
    assert parser.seen.count("figure") >= 7 * len({c.cell for c in cells})


def test_peers_that_have_sent_something_and_have_no_model_yet_are_not_drawn() -> None:
    early = tuple((float(t), k, 0, t, None) for t in (0.25, 0.5) for k in range(4))
    assert "worst peer" in page(result(samples=early + result().samples))
    assert page(result(samples=early))


def test_nothing_is_fetched() -> None:
    assert not re.search(r"https?://|<script|<link|@import|url\(|src=", page(result()))


def test_what_a_file_says_is_text_and_no_markup() -> None:
    found = page(result())
    assert "a &lt;b&gt; c" in found
    assert "All &lt;agree&gt;." in found


def test_a_finding_that_does_not_hold_is_shown_with_its_cell_seed_and_figure() -> None:
    found = page(result("8"), result("8", 2, findings={"All <agree>.": "mean is 0.2; at least 0.9 was expected."}))
    assert "✗ not in 1 of 2" in found
    assert "8, seed 2: mean is 0.2; at least 0.9 was expected." in found
    assert "1 of 2 hold" in found


def test_a_liar_is_named_and_drawn_in_another_colour() -> None:
    found = page(result())
    assert "peer-3 (noise)" in found
    assert "fill:var(--bad)" in found


def test_the_same_results_make_the_same_page() -> None:
    assert page(result()) == page(msgspec.json.decode(msgspec.json.encode(result()), type=CellResult))


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    report.write(Results("x", "", "sim", (result(),)), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("low", "high", "is_log"), [(0.0, 1.0, False), (0.93, 0.96, False), (1.0, 300.0, True), (1e-14, 0.3, True), (0.0, 7e6, False)]
)
def test_ticks_are_few_and_lie_on_the_axis(low: float, high: float, is_log: bool) -> None:
    ticks = Scale(low, high, 0.0, 100.0, is_log).ticks()
    assert 2 <= len(ticks) <= 12
    assert all(-1e-6 <= Scale(low, high, 0.0, 100.0, is_log)(t) <= 100.000001 for t in ticks)
    assert ticks == sorted(ticks)


def test_a_line_goes_from_the_first_point_to_the_last() -> None:
    drawn = charts.lines([Line("a", [(0.0, 0.0, None), (1.0, 1.0, 0.1)], "gossip")], x="x", show_x=str, show_y=str)
    [points] = re.findall(r'polyline class="line"[^>]*points="([^"]*)"', drawn)
    first, last = (tuple(map(float, p.split(","))) for p in points.split())
    assert first[0] == charts.LEFT
    assert last[0] == charts.WIDTH - charts.RIGHT
    assert first[1] > last[1]
