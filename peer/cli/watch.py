"""`chinwag watch`: how learning goes, live.

The picture is made from `status` and `peers`, asked for whenever the event stream says that something happened, at most a few
times a second; the newest events stand below it. So it shows the truth after any gap, and costs nothing while nothing happens.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import click

from .command import Command
from .screen import Screen, ago, cut, score, screen, size, sparkline, visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from ..control import Control, ControlError, ServerEvent

REDRAW_S: Final = 0.25
"""Shortest time between two pictures; the eye does not follow faster."""

REFRESH_S: Final = 2.0
"""Longest time between two pictures: "heard 3 s ago" must grow."""

NEWEST: Final = 6
"""Events below the picture; with two tables above they fit into 24 lines."""


@click.command(cls=Command)
def watch() -> None:
    """Watch the peers and the scores, live. With --json: every event, one a line."""
    from ..control import Control

    out = screen()
    control = Control.of(out.home)
    control.get("/status")
    try:
        if out.is_json:
            for event in control.events():
                click.echo(json.dumps({"id": event.id, "event": event.kind, **event.facts}))
            raise _stopped()
        _draw(out, control)
    except KeyboardInterrupt:
        pass


class Feed:
    """Reads the event stream in a thread of its own; `wait` returns when there is news, or after a while."""

    def __init__(self, control: Control) -> None:
        self.newest: deque[tuple[float, ServerEvent]] = deque(maxlen=NEWEST)
        self.end: ControlError | None = None
        self._control = control
        self._news = threading.Event()
        threading.Thread(target=self._read, name="events", daemon=True).start()

    def wait(self) -> None:
        self._news.wait(REFRESH_S)
        self._news.clear()

    def _read(self) -> None:
        from ..control import ControlError

        try:
            for event in self._control.events():
                self.newest.append((time.time(), event))
                self._news.set()
            self.end = _stopped()
        except ControlError as error:
            self.end = error
        self._news.set()


def _stopped() -> ControlError:
    from ..control import ControlError, Exit

    return ControlError("The daemon has stopped.", "chinwag start", Exit.NOT_RUNNING)


def _draw(out: Screen, control: Control) -> None:
    from rich.live import Live

    console = out.console()
    feed = Feed(control)
    with Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop") as live:
        while feed.end is None:
            live.update(
                picture(control.get("/status"), control.get("/peers")["peers"], list(feed.newest), time.time(), console.width), refresh=True
            )
            time.sleep(REDRAW_S)
            feed.wait()
    raise feed.end


def picture(
    status: dict[str, Any], peers: list[dict[str, Any]], newest: list[tuple[float, ServerEvent]], now: float, columns: int
) -> RenderableType:
    """Everything at once: this peer, its tasks with their curves, the others, the newest events. Fits 80 columns."""
    from rich.console import Group
    from rich.text import Text

    from .status import standing

    head = Text.assemble(
        (visible(status["name"]), "bold"), f"  {status['short']}   up {ago(now - status['since'])}   {standing(status, now)}"
    )
    parts: list[RenderableType] = [head, Text()]
    parts += (
        [_tasks(status["tasks"], columns), Text()] if status["tasks"] else [Text("no task yet: chinwag task new NAME --model lda"), Text()]
    )
    if peers:
        parts += [_peers(peers, now, columns), Text()]
    parts += [Text(_line(at, event), style="dim", no_wrap=True, overflow="ellipsis") for at, event in newest]
    parts.append(Text("Ctrl-C ends watching; the peer goes on.", style="dim"))
    return Group(*parts)


def _tasks(tasks: list[dict[str, Any]], columns: int) -> RenderableType:
    table = _table("task", "state", "alone", "now", "course", "of", "exchanges", "sent")
    cells = max(8, min(24, columns - 66))
    for task in tasks:
        course = sparkline([point[2] for point in task["history"]], cells, task["alone"])
        of = f"{task['peers']} peers" if task["peers"] and task["peers"] > 1 else "itself" if task["peers"] else "–"
        shown = [cut(task["name"], 16), task["state"], score(task["alone"], task["metric"]), score(task["now"], task["metric"]), course, of]
        table.add_row(*(_cell(text) for text in [*shown, f"{task['exchanges']:,}", size(task["bytes_sent"])]))
    return table


def _peers(peers: list[dict[str, Any]], now: float, columns: int) -> RenderableType:
    table = _table("peer", "id", "state", "heard", "exchanges", "address")
    for peer in sorted(peers, key=lambda p: (p["state"] != "live", p["name"] or "")):
        heard = f"{ago(now - peer['last_heard'])} ago" if peer.get("last_heard") else "never"
        shown = [
            cut(peer["name"] or "?", 20),
            peer["short"],
            peer["state"],
            heard,
            f"{peer['exchanges']:,}",
            (peer["addresses"] or ["–"])[0],
        ]
        table.add_row(*(_cell(text) for text in shown))
    return table


def _table(*headers: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        table.add_column(
            header, no_wrap=True, overflow="ellipsis", justify="right" if header in ("alone", "now", "exchanges", "sent") else "left"
        )
    return table


def _cell(text: str) -> Text:
    from rich.text import Text

    colour = {"running": "green", "live": "green", "failed": "red", "lost": "red", "revoked": "red"}.get(text, "")
    return Text(visible(text), style=colour)


def _line(at: float, event: ServerEvent) -> str:
    from ..logs import sentence

    return visible(f"{time.strftime('%H:%M:%S', time.localtime(at))}  {sentence(event.kind, event.facts)}")
