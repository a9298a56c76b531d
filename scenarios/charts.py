"""Pictures as inline SVG: lines with bands, a heat map, a ring of who talked to whom, bars on a time axis. No library, no script, no font.

Colours are CSS variables of the page, so a picture is right in the dark too. Every mark has a <title>, which a browser shows on hover.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 560
HEIGHT: Final = 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 44

LEVELS: Final = 6
"""Shades of a heat map. One path for each keeps a picture of 3,600 fields at 50 KB."""

MAX_FIELDS: Final = 60
"""Rows and columns of a heat map at most; beyond, neighbours share one."""


@dataclass(frozen=True, slots=True)
class Line:
    """One course: (x, mean, half the width of the band or None), a colour of the page, and whether it is a mark to compare with."""

    name: str
    points: Sequence[tuple[float, float, float | None]]
    colour: str
    is_dashed: bool = False
    is_thin: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted: on the time axis, behind the lines."""

    start: float
    end: float
    name: str


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (self.end - self.start) * ((at - low) / (high - low) if high > low else 0.5)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers that lie on the axis."""
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            many = len(powers) > count
            found = [m * 10.0**p for p in powers[:: max(len(powers) // count, 1)] for m in ((1,) if many else (1, 2, 5))]
        else:
            raw = max(self.high - self.low, 1e-12) / count
            size = 10.0 ** math.floor(math.log10(raw))
            step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * 0.999)
            first = math.ceil(self.low / step - 1e-9)
            found = [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [t for t in found if self.low * (1 - 1e-9) <= t <= self.high * (1 + 1e-9) or (not self.is_log and t == 0.0)]


def lines(
    courses: Sequence[Line],
    *,
    x: str,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
    is_log_x: bool = False,
    is_log_y: bool = False,
    spans: Sequence[Span] = (),
) -> str:
    """Lines with their bands and a legend. Empty if there is nothing to draw."""
    points = [p for line in courses for p in line.points]
    if not points:
        return '<p class="none">Nothing was measured.</p>'
    across = Scale(*_range([p[0] for p in points], is_log_x), LEFT, WIDTH - RIGHT, is_log_x)
    values = [p[1] for p in points] + ([] if is_log_y else [p[1] + s * (p[2] or 0.0) for p in points for s in (-1, 1)])
    up = Scale(*_range(values, is_log_y, pad=0.04), HEIGHT - BOTTOM, TOP, is_log_y)
    drawn = [_span(span, across) for span in spans]
    drawn += _axes(across, up, x, show_x, show_y)
    for line in courses:
        band = [p for p in line.points if p[2] is not None]
        if len(band) > 1 and not is_log_y:
            over = [f"{across(a):.1f},{up(m + (h or 0.0)):.1f}" for a, m, h in band]
            under = [f"{across(a):.1f},{up(m - (h or 0.0)):.1f}" for a, m, h in reversed(band)]
            drawn.append(f'<polygon class="band" style="fill:var(--{line.colour})" points="{" ".join(over + under)}"/>')
    for line in courses:
        path = " ".join(f"{across(a):.1f},{up(m):.1f}" for a, m, _ in line.points)
        style = (
            f"stroke:var(--{line.colour})"
            + (";stroke-dasharray:5 4" if line.is_dashed else "")
            + (";stroke-width:1" if line.is_thin else "")
        )
        last = line.points[-1] if line.points else (0.0, 0.0, None)
        says = escape(f"{line.name}: {show_y(last[1])} at {show_x(last[0])}")
        drawn.append(f'<polyline class="line" style="{style}" points="{path}"><title>{says}</title></polyline>')
    return _svg(drawn, HEIGHT, " ".join(line.name for line in courses)) + _legend(courses)


def heat(fields: Sequence[Sequence[float]], *, x: str, y: str, ends: tuple[str, str, str, str], unit: str) -> str:
    """A heat map, first row on top. ends: what stands at the left, the right, the top and the bottom end of the axes."""
    most = max((v for row in fields for v in row), default=0.0)
    if most <= 0.0:
        return '<p class="none">Nothing was measured.</p>'
    wide, high = (WIDTH - LEFT - RIGHT) / len(fields[0]), (HEIGHT - TOP - BOTTOM) / len(fields)
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    for row, values in enumerate(fields):
        for column, value in enumerate(values):
            if value > 0.0:
                level = min(int(value / most * LEVELS), LEVELS - 1)
                paths[level].append(
                    f"M{LEFT + column * wide:.1f} {TOP + row * high:.1f}h{wide + 0.05:.1f}v{high + 0.05:.1f}h{-wide - 0.05:.1f}z"
                )
    drawn = [f'<rect class="ground" x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"/>']
    for level, path in enumerate(paths):
        if path:
            low, high_value = most * level / LEVELS, most * (level + 1) / LEVELS
            title = f"<title>{low:.3g} to {high_value:.3g} {escape(unit)}</title>"
            drawn.append(
                f'<path style="fill:var(--gossip);opacity:{0.15 + 0.85 * level / (LEVELS - 1):.2f}" d="{"".join(path)}">{title}</path>'
            )
    left, right, top, bottom = map(escape, ends)
    low = HEIGHT - BOTTOM
    drawn += [
        f'<text class="tick" x="{LEFT}" y="{low + 16}">{left}</text>',
        f'<text class="tick end" x="{WIDTH - RIGHT}" y="{low + 16}">{right}</text>',
        f'<text class="tick end" x="{LEFT - 6}" y="{TOP + 10}">{top}</text>',
        f'<text class="tick end" x="{LEFT - 6}" y="{low}">{bottom}</text>',
        *_names(x, y),
    ]
    return _svg(drawn, HEIGHT, f"{y} by {x}") + f'<p class="key">darkest: {most:.3g} {escape(unit)}</p>'


def ring(names: Sequence[str], talked: Mapping[tuple[int, int], int], colours: Sequence[str]) -> str:
    """Peers on a circle, a line between two that talked: the more, the stronger."""
    most, middle, radius = max(talked.values(), default=1), WIDTH / 2, 118.0
    centre = (HEIGHT - 8) / 2 + 4

    def place(k: int, r: float = radius) -> tuple[float, float]:
        angle = 2 * math.pi * k / len(names) - math.pi / 2
        return middle + r * math.cos(angle), centre + r * math.sin(angle)

    drawn = []
    for (a, b), count in sorted(talked.items(), key=lambda item: item[1]):
        (ax, ay), (bx, by) = place(a), place(b)
        share = count / most
        style = f"opacity:{0.12 + 0.7 * share:.2f};stroke-width:{0.6 + 2.4 * share:.1f}"
        says = escape(f"{names[a]} and {names[b]}: {count} exchanges")
        drawn.append(
            f'<line class="edge" x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}" style="{style}"><title>{says}</title></line>'
        )
    for k, name in enumerate(names):
        x, y = place(k)
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" style="fill:var(--{colours[k]})"><title>{escape(name)}</title></circle>')
        if len(names) <= 24:
            tx, ty = place(k, radius + 12)
            side = "end" if tx < middle - 5 else "" if tx > middle + 5 else "mid"
            drawn.append(f'<text class="tick {side}" x="{tx:.1f}" y="{ty + 3:.1f}">{escape(name)}</text>')
    return _svg(drawn, HEIGHT, "who talked to whom")


def lanes(rows: Sequence[tuple[str, Sequence[tuple[float, float, float, str]]]], end: float, show_x: Callable[[float], str]) -> str:
    """One lane for each name; in it bars (start, end, share 0 to 1, what a hover says), the fuller the larger the share."""
    height = TOP + 26 * len(rows) + BOTTOM
    left = 96
    across = Scale(0.0, end, left, WIDTH - RIGHT)
    drawn = []
    for tick in across.ticks():
        drawn.append(f'<line class="grid" x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        drawn.append(f'<text class="tick mid" x="{across(tick):.1f}" y="{height - BOTTOM + 16}">{escape(show_x(tick))}</text>')
    for row, (name, bars) in enumerate(rows):
        y = TOP + 26 * row + 4
        drawn.append(f'<text class="tick end" x="{left - 8}" y="{y + 13}">{escape(name)}</text>')
        for start, stop, share, says in bars:
            wide = max(across(stop) - across(start), 2.0)
            place = f'x="{across(start):.1f}" y="{y}" width="{wide:.1f}" height="18" rx="2"'
            drawn.append(f'<rect class="fault" {place} style="opacity:{0.25 + 0.75 * share:.2f}"><title>{escape(says)}</title></rect>')
    drawn.append(f'<text class="name mid" x="{(left + WIDTH - RIGHT) / 2:.0f}" y="{height - 8}">time</text>')
    return _svg(drawn, height, "faults over time")


def _range(values: Sequence[float], is_log: bool, pad: float = 0.0) -> tuple[float, float]:
    if is_log:
        positive = [v for v in values if v > 0.0] or [1.0]
        low, high = min(positive), max(positive)
        return (low, high) if high > low else (low / 2, high * 2)
    low, high = min(values), max(values)
    room = (high - low) * pad or (0.0 if high > low else max(abs(high), 1.0) * 0.05)
    return low - room, high + room


def _axes(across: Scale, up: Scale, x: str, show_x: Callable[[float], str], show_y: Callable[[float], str]) -> list[str]:
    drawn, low = [], HEIGHT - BOTTOM
    for tick in up.ticks():
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        drawn.append(f'<text class="tick end" x="{LEFT - 8}" y="{up(tick) + 4:.1f}">{escape(show_y(tick))}</text>')
    for tick in across.ticks(6):
        drawn.append(f'<text class="tick mid" x="{across(tick):.1f}" y="{low + 16}">{escape(show_x(tick))}</text>')
    drawn.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{low}" y2="{low}"/>')
    return drawn + _names(x, "")


def _names(x: str, y: str) -> list[str]:
    found = [f'<text class="name mid" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}">{escape(x)}</text>']
    if y:
        middle = (TOP + HEIGHT - BOTTOM) / 2
        found.append(f'<text class="name mid" transform="translate(14 {middle:.0f}) rotate(-90)">{escape(y)}</text>')
    return found


def _span(span: Span, across: Scale) -> str:
    start, end = across(span.start), across(span.end)
    place = f'x="{start:.1f}" y="{TOP}" width="{max(end - start, 1.5):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
    return f'<rect class="span" {place}><title>{escape(span.name)}</title></rect>'


def _legend(courses: Sequence[Line]) -> str:
    keys = [
        f'<span><i style="border-top:{1 if line.is_thin else 2}px {"dashed" if line.is_dashed else "solid"} var(--{line.colour})"></i>'
        f"{escape(line.name)}</span>"
        for line in courses
    ]
    return f'<p class="key">{"".join(keys)}</p>'


def _svg(drawn: Sequence[str], height: float, says: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(says)}">{"".join(drawn)}</svg>'
