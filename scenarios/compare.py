"""From results to a table: means with 95 % confidence intervals over seeds, and differences paired by seed.

Why paired: two methods that saw the same split and the same weather differ by less than two seeds do. The interval is that of the mean of
the differences, by Student's t; with one seed there is none.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any, Final

from .results import CellResult, Results

CONFIDENCE: Final = 0.95

T_QUANTILES: Final = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""Student's t at 97.5 % for 1 to 10 degrees of freedom; above them the expansion around the normal distribution is right to 1e-4."""

BASELINES: Final = {"alone": "alone", "pooled": "pooled", "fedavg": "FedAvg", "scaffold": "FedAvg + control variates"}
"""What every report carries beside gossip, and what it is called."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, and half the width of its confidence interval (None: fewer than two seeds)."""

    mean: float
    half: float | None
    count: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.half is not None and abs(self.mean) > self.half

    def text(self, scale: float = 1.0, digits: int = 1, sign: str = "") -> str:
        mean = f"{scale * self.mean:{sign}.{digits}f}"
        return mean if self.half is None else f"{mean} ± {scale * self.half:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Line:
    """One cell of one run in the table."""

    run: str
    cell: str
    axes: Mapping[str, Any]
    metric: str
    score: Estimate | None
    worst: Estimate | None
    """The peer that does worst: the mean over peers can hide it."""
    exchanges: Estimate
    bytes_sent: Estimate
    baselines: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    """Gossip less each baseline, and less the reference cell ("reference"), paired by seed."""
    faults: int
    """Seeds in which an invariant or a finding does not hold."""


def t_quantile(degrees: int) -> float:
    """Student's t that leaves 2.5 % above it. degrees ≥ 1."""
    assert degrees >= 1
    if degrees <= len(T_QUANTILES):
        return T_QUANTILES[degrees - 1]
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    z2 = z * z
    terms: tuple[float, ...] = (
        z * (z2 + 1) / 4,
        z * ((5 * z2 + 16) * z2 + 3) / 96,
        z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384,
    )
    for power, term in enumerate(terms, start=1):
        z += term / float(degrees**power)
    return z


def estimate(values: Iterable[float]) -> Estimate | None:
    """Mean and interval of these; None if there are none."""
    found = list(values)
    if not found:
        return None
    half = t_quantile(len(found) - 1) * stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None
    return Estimate(fmean(found), half, len(found))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """The mean difference over the seeds that both have."""
    return estimate(ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys()))


def compare(runs: Mapping[str, Results], against: tuple[str, str] | None = None) -> list[Line]:
    """One line for every cell of every run.

    against: (run, cell) that all lines are held against; by default each cell is held against the same cell of the first run.
    """
    grouped = {(run, cell): found for run, results in runs.items() for cell, found in by_cell(results.cells).items()}
    first = next(iter(runs), "")
    lines = []
    for (run, cell), found in grouped.items():
        reference = against or (first, cell)
        others = grouped.get(reference, ()) if reference != (run, cell) else ()
        lines.append(_line(run, cell, found, others))
    return lines


def by_cell(results: Iterable[CellResult]) -> dict[str, list[CellResult]]:
    """The seeds of each cell, in their order."""
    found: dict[str, list[CellResult]] = {}
    for result in results:
        found.setdefault(result.cell, []).append(result)
    return found


def _line(run: str, cell: str, found: Sequence[CellResult], reference: Sequence[CellResult]) -> Line:
    ours = _scores(found)
    baselines, differences = {}, {}
    for name in BASELINES:
        theirs = {result.seed: result.baselines[name] for result in found if name in result.baselines}
        mean, difference = estimate(theirs.values()), paired(ours, theirs)
        if mean is not None:
            baselines[name] = mean
        if difference is not None:
            differences[name] = difference
    if (difference := paired(ours, _scores(reference))) is not None:
        differences["reference"] = difference
    exchanges = estimate(fmean(peer.exchanges for peer in result.peers) for result in found)
    sent = estimate(fmean(peer.bytes_sent for peer in result.peers) for result in found)
    assert exchanges is not None
    assert sent is not None
    worst = estimate(min(result.scores) for result in found if result.scores)
    faults = sum(bool(result.faults_found) for result in found)
    return Line(run, cell, found[0].axes, found[0].metric, estimate(ours.values()), worst, exchanges, sent, baselines, differences, faults)


def _scores(found: Iterable[CellResult]) -> dict[int, float]:
    return {result.seed: result.score for result in found if result.score is not None}


# as text ----------------------------------------------------------------------------------------------------------------------------------


def label(axes: Mapping[str, Any]) -> str:
    """A cell's place in the sweep, in as few words as tell it: "alpha=0.1 count=16"."""
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in axes.items()) or "–"


def table(lines: Sequence[Line]) -> list[list[str]]:
    """Header and rows. Accuracies are per cent, differences percentage points; * marks a difference whose interval leaves zero out."""
    names = [name for name in BASELINES if any(name in line.baselines for line in lines)]
    has_reference = any("reference" in line.differences for line in lines)
    runs = {line.run for line in lines}
    head = ["cell", "seeds", "gossip", "worst peer", *(f"− {BASELINES[name]}" for name in names), "exchanges", "kB a peer"]
    if len(runs) > 1:
        head.insert(0, "run")
    if has_reference:
        head.append("− reference")
    rows = [head]
    for line in lines:
        scale, digits = (100.0, 1) if line.metric == "accuracy" else (1.0, 3)
        row = [line.run] if len(runs) > 1 else []
        row += [label(line.axes), str(line.exchanges.count)]
        row += [found.text(scale, digits) if found else "–" for found in (line.score, line.worst)]
        row += [_difference(line.differences.get(name), scale, digits) for name in names]
        row += [f"{line.exchanges.mean:.0f}", f"{line.bytes_sent.mean / 1000:.0f}"]
        if has_reference:
            row.append(_difference(line.differences.get("reference"), scale, digits))
        rows.append(row)
    return rows


def _difference(found: Estimate | None, scale: float, digits: int) -> str:
    return "–" if found is None else found.text(scale, digits, sign="+") + ("*" if found.is_clear else "")


def records(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The same for programs: plain numbers, None where there is none."""

    def pair(found: Estimate | None) -> dict[str, Any] | None:
        return None if found is None else {"mean": found.mean, "half": found.half, "seeds": found.count}

    return [
        {
            "run": line.run,
            "cell": line.cell,
            "axes": dict(line.axes),
            "metric": line.metric,
            "score": pair(line.score),
            "worst": pair(line.worst),
            "exchanges": pair(line.exchanges),
            "bytes_sent": pair(line.bytes_sent),
            "baselines": {name: pair(found) for name, found in line.baselines.items()},
            "differences": {name: pair(found) for name, found in line.differences.items()},
            "seeds_with_faults": line.faults,
        }
        for line in lines
    ]


def as_csv(lines: Sequence[Line]) -> str:
    """The table for a spreadsheet: one row a cell and method, unscaled."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "cell", "axes", "method", "seeds", "mean", "half", "difference", "difference_half"])
    for line in lines:
        for method, found in {"gossip": line.score, **line.baselines}.items():
            if found is not None:
                gap = line.differences.get(method)
                numbers = [found.mean, found.half, gap.mean if gap else None, gap.half if gap else None]
                shown = ["" if number is None else repr(number) for number in numbers]
                writer.writerow([line.run, line.cell, label(line.axes), method, found.count, *shown])
    return text.getvalue()
