"""What a scenario expects to come out, held against what did: in every cell that it speaks of and under every seed.

    measure    of the honest peers' scores on rows nobody trained on: mean, worst, median; agreeing: the share of them within half a point
               of pooled; of what that took a peer: exchanges, kilobytes; spread of their models; the scores of the baselines
    minus      taken off it, at the same time
    look       at the end; or when each peer has finished `after_exchanges`; or at `at_s`
    peers      all of them (but liars), those that were late, the slow ones, or the others

A peer that has no model yet scores 0; one that is off scores what the model on its disk does.
"""

from __future__ import annotations

from statistics import fmean, median
from typing import Final

from .results import HOLDS, CellResult, Sample
from .scenario import Cell, groups
from .settings import Finding

NEAR: Final = 0.005
"""A score within this of pooled agrees with it: half a point."""


def check(cell: Cell, result: CellResult) -> dict[str, str]:
    """Each finding that speaks of this cell, and whether it holds, or what came out instead."""
    settings = {f"{table}.{key}": getattr(getattr(cell, table), key) for table, key in _named(cell)}
    due = [f for f in cell.findings if all(settings[key] == value for key, value in f.when.items())]
    return {finding.says: _verdict(finding, cell, result) for finding in due}


def _named(cell: Cell) -> list[tuple[str, str]]:
    return [(key.split(".")[0], key.split(".")[1]) for finding in cell.findings for key in finding.when]


def _verdict(finding: Finding, cell: Cell, result: CellResult) -> str:
    looked = looks(finding, cell, result)
    if not looked:
        return "There is no peer of which this could be said."
    value = measured(finding.measure, looked, finding, result)
    if finding.minus is not None:
        value -= measured(finding.minus, looked, finding, result)
    name = finding.measure + (f" minus {finding.minus}" if finding.minus else "")
    if finding.at_least is not None and not value >= finding.at_least:
        return f"{name} is {value:.4g}; at least {finding.at_least:g} was expected."
    if finding.at_most is not None and not value <= finding.at_most:
        return f"{name} is {value:.4g}; at most {finding.at_most:g} was expected."
    return HOLDS


def looks(finding: Finding, cell: Cell, result: CellResult) -> list[Sample]:
    """The sample of each peer in question at the time in question."""
    count = len(result.peers)
    member = groups(cell, count)
    asked = frozenset(range(count)) if finding.peers == "all" else member[finding.peers]
    found: dict[int, Sample] = {}
    is_done: set[int] = set()
    for sample in result.samples:
        at, peer, exchanges, _, _ = sample
        if peer not in asked or peer in member["liars"] or peer in is_done or (finding.at_s is not None and at > finding.at_s):
            continue
        found[peer] = sample
        if finding.after_exchanges is not None and exchanges >= finding.after_exchanges:
            is_done.add(peer)
    return [found[peer] for peer in sorted(found)]


def measured(measure: str, looked: list[Sample], finding: Finding, result: CellResult) -> float:
    """One number of a run."""
    scores = [score or 0.0 for _, _, _, _, score in looked]
    match measure:
        case "mean":
            return fmean(scores)
        case "worst":
            return min(scores)
        case "median":
            return median(scores)
        case "agreeing":
            return fmean(score >= result.baselines["pooled"] - NEAR for score in scores)
        case "exchanges":
            return fmean(exchanges for _, _, exchanges, _, _ in looked)
        case "kilobytes":
            return fmean(sent for _, _, _, sent, _ in looked) / 1000.0
        case "spread":
            at = max(sample[0] for sample in looked) if finding.at_s is None else finding.at_s
            return next((value for when, value in reversed(result.spread) if when <= at), float("inf"))
    return result.baselines[measure]
