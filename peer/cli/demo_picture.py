"""What the demo draws: who knows what, how good each is alone, how good now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .screen import aligned, plural, score, size, sparkline

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .demo_peers import DemoNetwork, DemoPeer

CURVE = 16


def rows(network: DemoNetwork) -> list[list[str]]:
    """A row of cells for each peer, under their headings."""
    found = [["", "knows only", "alone", "now", "", "exchanges", "sent"]]
    for peer in network.peers:
        task = peer.task
        points = [point[2] for point in task.get("history", ())]
        course = sparkline([task["alone"], *points] if task.get("alone") is not None else points, CURVE)
        cells = [peer.name, " ".join(map(str, peer.knows)), score(task.get("alone"), "accuracy"), score(task.get("now"), "accuracy")]
        found.append([*cells, course, f"{task.get('exchanges', 0):,}", size(task.get("bytes_sent", 0))])
    return found


def pooled_line(network: DemoNetwork) -> str:
    """What the rows of all would give in one place: what learning together is measured against."""
    return f"all rows in one place would give {score(network.pooled, 'accuracy')}" if network.pooled is not None else ""


def lines(network: DemoNetwork) -> list[str]:
    """The picture as plain text."""
    return [*aligned(rows(network)), *filter(None, [pooled_line(network)])]


def picture(network: DemoNetwork, title: str, elapsed_s: float, *, is_over: bool = False) -> RenderableType:
    """The picture for a terminal, 80 columns wide."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    heads, *cells = rows(network)
    for head in heads:
        table.add_column(head, no_wrap=True, justify="right" if head in ("alone", "now", "exchanges", "sent") else "left")
    for peer, row in zip(network.peers, cells, strict=True):
        style = "" if peer.is_running else "dim"
        shown: list[RenderableType] = [
            Text(row[0], style="bold"),
            row[1],
            row[2],
            Text(row[3], style="bold green"),
            Text(row[4], style="green"),
            *row[5:],
        ]
        if not peer.is_running:
            shown = [*row[:4], Text(_gone(peer), style="red"), *row[5:]]
        table.add_row(*shown, style=style)
    below = [t for t in (pooled_line(network), _state(network, elapsed_s)) if t]
    parts: list[RenderableType] = [Text(title), Text(), table, Text(), *(Text(t) for t in below)]
    if not is_over:
        parts.append(Text(_keys(network), style="dim"))
    return Group(*parts)


def _gone(peer: DemoPeer) -> str:
    return "ended by itself" if peer.is_wanted else "killed"


def _state(network: DemoNetwork, elapsed_s: float) -> str:
    running = [p for p in network.peers if p.is_running]
    model = next((p.task.get("peers") for p in running if p.task.get("peers")), None)
    of = f", the model is made of {plural(model, 'peer')}" if model else ""
    return f"{network.model}, {elapsed_s:.0f} s: {plural(len(running), 'peer')} of {len(network.peers)} running{of}"


def _keys(network: DemoNetwork) -> str:
    from .demo import to_kill, to_revive

    kill, revive = to_kill(network), to_revive(network)
    keys = [f"[k] kill {kill.name}" if kill else "", f"[r] bring {revive.name} back" if revive else "", "[q] quit"]
    return "  ".join(k for k in keys if k)
