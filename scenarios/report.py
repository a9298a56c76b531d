"""One page that shows what came out of a run: opens offline, prints, knows dark and light, and holds everything in itself.

Of every cell: the score over exchanges and over bytes with 95 % bands over seeds, over time with the faults behind it, how far the models
lie apart, who talked to whom and when, the faults on the time axis; above all of them what was expected and the table of means.
Written from `results.Results` alone, so a page can be made again at any time.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from peer.files import write_whole

from . import charts
from .charts import Line, Span
from .compare import BASELINES, by_cell, compare, estimate, label, table
from .page import page
from .results import HOLDS, MODE, CellResult, Results, Sample

POINTS: Final = 60
"""Points of a line: more than one sees in a picture of this size."""

MAX_RING: Final = 40
"""Peers up to which a ring of lines is readable; beyond, a map of fields is."""

MAX_PEER_ROWS: Final = 200
"""Peers of one cell that the page lists; result.json holds them all."""

COURSES: Final = ("gossip", "second", "third", "fourth", "fifth")
"""Colours of as many cells as one picture can hold; they are told apart by people who see no red and green."""


def write(results: Results, path: Path) -> None:
    """Write the page. Raises OSError."""
    write_whole(path, html(results).encode(), MODE)


def html(results: Results) -> str:
    """The page."""
    cells = by_cell(results.cells)
    body = [_head(results), _findings(results.cells), _table(results)]
    if 1 < len(cells) <= len(COURSES):
        body.append(_section("All cells", [_figure("Score over exchanges", _all_cells(cells))]))
    for found in cells.values():
        body.append(_cell(found))
    return page(results.scenario, "\n".join(body))


# the top ----------------------------------------------------------------------------------------------------------------------------------


def _head(results: Results) -> str:
    cells, seeds = len(by_cell(results.cells)), sorted({r.seed for r in results.cells})
    peers = sorted({len(r.peers) for r in results.cells})
    invariants = [v for r in results.cells for v in r.verdicts.values()]
    findings = [v for r in results.cells for v in r.findings.values()]
    on = {"sim": "virtual network", "processes": "real daemons on loopback", "lan": "real daemons in network namespaces"}
    tiles = [
        _tile("peers", " / ".join(map(str, peers))),
        _tile("cells × seeds", f"{cells} × {len(seeds)}"),
        _tile("findings", *_count(findings)),
        _tile("invariants", *_count(invariants)),
    ]
    about = f"<p>{escape(results.about)}</p>" if results.about else ""
    return (
        f"<header><p class=over>Chinwag scenario · {on.get(results.on, escape(results.on))}</p><h1>{escape(results.scenario)}</h1>{about}"
        f'<div class="tiles">{"".join(tiles)}</div></header>'
    )


def _count(verdicts: Sequence[str]) -> tuple[str, str]:
    held = sum(v == HOLDS for v in verdicts)
    if not verdicts:
        return "–", ""
    return f"{held} of {len(verdicts)} hold", "good" if held == len(verdicts) else "bad"


def _tile(name: str, value: str, kind: str = "") -> str:
    return f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _findings(cells: Sequence[CellResult]) -> str:
    """What was expected, with every place in which it did not come out so; then the invariants, if one does not hold."""
    rows = []
    for kind, name in (("findings", "finding"), ("verdicts", "invariant")):
        verdicts: dict[str, list[tuple[CellResult, str]]] = {}
        for result in cells:
            for says, verdict in getattr(result, kind).items():
                verdicts.setdefault(says, []).append((result, verdict))
        for says, found in verdicts.items():
            against = [(r, v) for r, v in found if v != HOLDS]
            mark = '<td class="good">✓ holds</td>' if not against else f'<td class="bad">✗ not in {len(against)} of {len(found)}</td>'
            where = "".join(f"<li>{escape(r.cell)}, seed {r.seed}: {escape(v)}</li>" for r, v in against[:10])
            rows.append(f"<tr>{mark}<td>{escape(says)}{f'<ul>{where}</ul>' if where else ''}</td><td class=dim>{name}</td></tr>")
    return f'<section><h2>What was expected</h2><table class="says">{"".join(rows)}</table></section>' if rows else ""


def _table(results: Results) -> str:
    head, *rows = table(compare({results.scenario: results}))
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    unit = "per cent and percentage points" if results.cells and results.cells[0].metric == "accuracy" else "r²"
    note = f"Means over seeds ± 95 % confidence, in {unit}. “−” columns are paired differences; * leaves zero out."
    shown = f'<div class="wide"><table class="numbers"><tr>{top}</tr>{body}</table></div>'
    return f'<section><h2>Means</h2>{shown}<p class="note">{note}</p></section>'


# a cell -----------------------------------------------------------------------------------------------------------------------------------


def _cell(found: Sequence[CellResult]) -> str:
    first = found[0]
    show = _percent if first.metric == "accuracy" else _plain
    spans = _spans(first)
    figures = [
        _figure(
            "Score over exchanges",
            charts.lines(_courses(found, 2, 0), x="exchanges of a peer", show_x=_plain, show_y=show, is_log_x=True),
        ),
        _figure("Score over bytes", charts.lines(_courses(found, 3, 1), x="sent by a peer", show_x=_bytes, show_y=show, is_log_x=True)),
        _figure("Score over time", charts.lines(_in_time(found), x="time", show_x=_seconds, show_y=show, spans=spans)),
        _figure("Spread of the models", charts.lines(_spread(found), x="time", show_x=_seconds, show_y=_power, is_log_y=True, spans=spans)),
        _figure(f"Who talked to whom (seed {first.seed})", _talked(first)),
        _figure(f"Who talked when (seed {first.seed})", _activity(first)),
    ]
    if first.faults:
        figures.append(_figure(f"Faults (seed {first.seed})", _faults(first)))
    title = label(first.axes) if first.axes else "Course"
    return _section(title, figures, _peers(first))


def _courses(found: Sequence[CellResult], column: int, course: int) -> list[Line]:
    """Gossip and the baselines over column `column` of a sample; `course`: the column of a server's course that it compares with."""
    runs = [_by_peer(result) for result in found]
    stops = _stops([value for run in runs for samples in run for s in samples if (value := s[column] or 0) > 0])
    means, worst = [], []
    for stop in stops:
        values = [scores for run in runs if (scores := _scores_at(run, column, stop))]
        if values:  # before the first bytes have made a model there is nothing to draw
            means.append((stop, *_banded([fmean(v) for v in values])))
            worst.append((stop, fmean([min(v) for v in values]), None))
    drawn = [Line("gossip, mean of peers", means, "gossip"), Line("worst peer", worst, "gossip", is_thin=True)]
    for name, colour in (("fedavg", "second"), ("scaffold", "third")):
        series = [result.courses[name] for result in found if result.courses.get(name)]
        if series and stops:
            length = min(map(len, series))
            points = [(float(series[0][k][course]), *_banded([one[k][2] for one in series])) for k in _thinned(length)]
            drawn.append(Line(BASELINES[name], [p for p in points if stops[0] <= p[0] <= stops[-1]], colour))
    return [line for line in drawn if line.points] + _marks(found, stops)


def _in_time(found: Sequence[CellResult]) -> list[Line]:
    times = sorted({s[0] for result in found for s in result.samples})
    stops = [times[k] for k in _thinned(len(times), 2 * POINTS)]
    runs = [_by_peer(result) for result in found]
    means, worst = [], []
    for stop in stops:
        values = [scores for run in runs if (scores := _scores_before(run, stop))]
        if values:
            means.append((stop, *_banded([fmean(v) for v in values])))
            worst.append((stop, fmean([min(v) for v in values]), None))
    drawn = [Line("gossip, mean of peers", means, "gossip"), Line("worst peer", worst, "gossip", is_thin=True)]
    return drawn + _marks(found, stops)


def _marks(found: Sequence[CellResult], stops: Sequence[float]) -> list[Line]:
    """Pooled and alone: they have no course."""
    drawn = []
    for name, colour in (("pooled", "ink"), ("alone", "dim")):
        value = estimate(r.baselines[name] for r in found if name in r.baselines)
        if value is not None and stops:
            drawn.append(Line(BASELINES[name], [(stops[0], value.mean, None), (stops[-1], value.mean, None)], colour, is_dashed=True))
    return drawn


def _all_cells(cells: Mapping[str, Sequence[CellResult]]) -> str:
    drawn = []
    for colour, found in zip(COURSES, cells.values(), strict=False):
        drawn.append(Line(label(found[0].axes), _courses(found, 2, 0)[0].points, colour))
    show = _percent if next(iter(cells.values()))[0].metric == "accuracy" else _plain
    return charts.lines(drawn, x="exchanges of a peer", show_x=_plain, show_y=show, is_log_x=True)


def _spread(found: Sequence[CellResult]) -> list[Line]:
    # Rounding leaves 1e-16, and exact agreement 0, which has no logarithm.
    drawn = []
    for number, result in enumerate(found[:3]):
        points = [(at, max(value, 1e-16), None) for at, value in (result.spread[k] for k in _thinned(len(result.spread), 2 * POINTS))]
        if points:
            drawn.append(Line(f"seed {result.seed}", points, "gossip", is_thin=number > 0))
    return drawn


def _talked(result: CellResult) -> str:
    count = len(result.peers)
    if not result.talked:
        return '<p class="none">Nobody finished an exchange.</p>'
    if count <= MAX_RING:
        colours = ["bad" if p.liar else "gossip" if p.rows else "dim" for p in result.peers]
        return charts.ring([p.name for p in result.peers], {(a, b): n for a, b, n in result.talked}, colours)
    size = min(count, charts.MAX_FIELDS)
    fields = [[0.0] * size for _ in range(size)]
    for a, b, n in result.talked:
        for row, column in ((a, b), (b, a)):
            fields[row * size // count][column * size // count] += n
    return charts.heat(fields, x="peer", y="peer", ends=("0", str(count - 1), "0", str(count - 1)), unit="exchanges")


def _activity(result: CellResult) -> str:
    """Exchanges of every peer in every stretch of time."""
    count, end = len(result.peers), max((s[0] for s in result.samples), default=0.0)
    if not end:
        return '<p class="none">Nothing was measured.</p>'
    rows, columns = min(count, charts.MAX_FIELDS), min(charts.MAX_FIELDS, len({s[0] for s in result.samples}))
    fields, before = [[0.0] * columns for _ in range(rows)], [0] * count
    for at, peer, exchanges, _, _ in result.samples:
        fields[peer * rows // count][min(int(at / end * columns), columns - 1)] += exchanges - before[peer]
        before[peer] = exchanges
    return charts.heat(fields, x="time", y="peer", ends=("0", _seconds(end), "0", str(count - 1)), unit="exchanges")


def _faults(result: CellResult) -> str:
    end = max((s[0] for s in result.samples), default=1.0)
    kinds: dict[str, list[tuple[float, float, float, str]]] = {}
    for fault in result.faults:
        until, share = min(fault["until"] or end, end), len(fault["peers"]) / len(result.peers)
        many = f"{len(fault['peers'])} peers" if len(fault["peers"]) > 3 else ", ".join(result.peers[k].name for k in fault["peers"])
        says = f"{fault['kind']}: {many}, {_seconds(fault['at'])} to {_seconds(until)}"
        if fault["at"] < end:
            kinds.setdefault(fault["kind"], []).append((fault["at"], until, share, says))
    return charts.lanes([(kind.replace("_", " "), bars) for kind, bars in sorted(kinds.items())], end, _seconds)


def _spans(result: CellResult) -> list[Span]:
    """Faults that many share, as shades behind a line; churn is one bar a peer and would only be grey."""
    end = max((s[0] for s in result.samples), default=0.0)
    found = [Span(f["at"], min(f["until"] or f["at"], end), f["kind"].replace("_", " ")) for f in result.faults if f["at"] < end]
    return found if len(found) <= 12 else []


def _peers(result: CellResult) -> str:
    show = _percent if result.metric == "accuracy" else _plain
    rows = []
    for peer in result.peers[:MAX_PEER_ROWS]:
        cells = [
            peer.name + (f" ({peer.liar.replace('_', ' ')})" if peer.liar else ""), f"{peer.rows:,}", _or_none(peer.alone, show),
            _or_none(peer.score, show), f"{peer.exchanges:,}", _bytes(peer.bytes_sent),
        ]  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>")
    more = len(result.peers) - MAX_PEER_ROWS
    note = f'<p class="note">{more} more are in result.json.</p>' if more > 0 else ""
    top = "".join(f"<th>{name}</th>" for name in ("peer", "rows", "alone", "together", "exchanges", "sent"))
    body = f'<div class="wide"><table class="numbers"><tr>{top}</tr>{"".join(rows)}</table></div>{note}'
    return f"<details><summary>Every peer (seed {result.seed})</summary>{body}</details>"


# reading samples --------------------------------------------------------------------------------------------------------------------------


def _by_peer(result: CellResult) -> list[list[Sample]]:
    """The samples of each honest peer, in order."""
    found: list[list[Sample]] = [[] for _ in result.peers]
    for sample in result.samples:
        found[sample[1]].append(sample)
    return [samples for samples, peer in zip(found, result.peers, strict=True) if samples and peer.liar is None]


def _scores_at(run: Sequence[Sequence[Sample]], column: int, stop: float) -> list[float]:
    """Everybody's score when they had come to `stop` in this column, or where they stayed before it; who has no model has none."""
    found = []
    for samples in run:
        k = bisect_left(samples, stop, key=lambda s: s[column] or 0)
        if (score := samples[min(k, len(samples) - 1)][4]) is not None:
            found.append(score)
    return found


def _scores_before(run: Sequence[Sequence[Sample]], at: float) -> list[float]:
    return _scores_at(run, 0, at)


def _stops(values: Sequence[float]) -> list[float]:
    """Where to look along an axis that is drawn by its logarithm."""
    if not values:
        return []
    low, high = min(values), max(values)
    steps = {round(low * (high / low) ** (k / POINTS)) for k in range(POINTS + 1)}
    return [float(s) for s in sorted(steps)]


def _thinned(length: int, points: int = POINTS) -> list[int]:
    return sorted({round(k * (length - 1) / (points - 1)) for k in range(points)}) if length else []


def _banded(values: Sequence[float]) -> tuple[float, float | None]:
    found = estimate(values)
    return (found.mean, found.half) if found is not None else (0.0, None)


# words ------------------------------------------------------------------------------------------------------------------------------------


def _section(title: str, figures: Sequence[str], rest: str = "") -> str:
    return f'<section><h2>{escape(title)}</h2><div class="figures">{"".join(figures)}</div>{rest}</section>'


def _figure(title: str, drawn: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn}</figure>"


def _or_none(value: Any, show: Callable[[float], str]) -> str:
    return "–" if value is None else show(value)


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+") if value else "0"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def _seconds(value: float) -> str:
    if value < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 7200 else f"{math.floor(value / 360) / 10:g} h"
