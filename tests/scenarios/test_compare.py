"""The comparison table: its intervals, its pairing, and what it says with one seed."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest

from scenarios import compare
from scenarios.results import HOLDS, CellResult, PeerScore, Results


def result(cell: str, seed: int, score: float, **baselines: float) -> CellResult:
    peers = (PeerScore("a", 10, 20, 3000, score + 0.01, 0.5), PeerScore("b", 10, 22, 3000, score - 0.01, 0.5))
    return CellResult(cell, {"data.alpha": cell}, seed, "sim", "accuracy", peers, baselines, {}, {"once": HOLDS}, {})


def results(*cells: CellResult) -> Results:
    return Results("x", "", "sim", cells)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.7062), (4, 2.7764), (10, 2.2281), (11, 2.20099), (30, 2.04227), (200, 1.97190)])
def test_the_quantile_is_that_of_the_tables(degrees: int, quantile: float) -> None:
    assert compare.t_quantile(degrees) == pytest.approx(quantile, abs=2e-4)


def test_an_interval_is_that_of_students_t() -> None:
    found = compare.estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found is not None
    assert found.mean == 3.0
    assert found.half == pytest.approx(1.9632, abs=1e-4)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    found = compare.estimate([0.25])
    assert found is not None
    assert (found.half, found.is_clear, found.text(100)) == (None, False, "25.0")
    assert compare.estimate([]) is None


def test_pairing_sees_a_small_difference_that_seeds_would_hide() -> None:
    scores = {1: 0.60, 2: 0.80, 3: 0.95}
    [line] = compare.compare(
        {"run": results(*(result("c", seed, score, alone=score - 0.1 - 0.001 * seed) for seed, score in scores.items()))}
    )
    assert line.score is not None
    assert line.score.half is not None
    assert line.score.half > 0.3
    gap = line.differences["alone"]
    assert gap.mean == pytest.approx(0.102)
    assert gap.is_clear


def test_only_seeds_that_both_have_are_paired() -> None:
    first = results(*(result("c", seed, 0.5 + 0.1 * seed) for seed in (1, 2, 3)))
    second = results(*(result("c", seed, 0.6 + 0.1 * seed) for seed in (2, 3, 4)))
    lines = compare.compare({"first": first, "second": second})
    assert "reference" not in lines[0].differences
    gap = lines[1].differences["reference"]
    assert (gap.count, gap.mean) == (2, pytest.approx(0.1))


def test_cells_can_be_held_against_one_of_them() -> None:
    run = results(*(result(cell, seed, score) for cell, score in (("0.1", 0.7), ("1", 0.9)) for seed in (1, 2)))
    lines = compare.compare({"run": run}, ("run", "0.1"))
    assert lines[1].differences["reference"].mean == pytest.approx(0.2)
    table = compare.table(lines)
    assert table[0][-1] == "− reference"
    assert table[2][-1].startswith("+20.0")


def test_the_table_names_the_worst_peer_and_marks_what_is_clear() -> None:
    cells = [result("0.1", seed, 0.9 + 0.001 * seed, pooled=0.9 + 0.001 * seed, alone=0.5) for seed in (1, 2, 3)]
    head, row = compare.table(compare.compare({"run": results(*cells)}))
    shown = dict(zip(head, row, strict=True))
    assert shown["cell"] == "alpha=0.1"
    assert shown["worst peer"].startswith("89.2")
    assert shown["− alone"].endswith("*")
    assert not shown["− pooled"].endswith("*")
    assert "− FedAvg" not in shown


def test_what_a_liar_claims_counts_for_nothing() -> None:
    honest = result("c", 1, 0.9)
    liar = PeerScore("c", 10, 20, 3000, 0.0, 0.5, "noise")
    [line] = compare.compare({"run": results(msgspec.structs.replace(honest, peers=(*honest.peers, liar)))})
    assert line.worst is not None
    assert line.worst.mean == pytest.approx(0.89)


def test_the_csv_holds_every_method_unscaled() -> None:
    cells = [result("0.1", seed, 0.9, pooled=0.95) for seed in (1, 2)]
    rows = list(csv.DictReader(io.StringIO(compare.as_csv(compare.compare({"run": results(*cells)})))))
    assert [row["method"] for row in rows] == ["gossip", "pooled"]
    assert float(rows[1]["mean"]) == 0.95
    assert float(rows[1]["difference"]) == pytest.approx(-0.05)
