"""How far a run is and how long it will go on: the only part of it that looks at a clock, and on stderr only.

What is measured is the work of cells that ended, in units of their cost (peers times seconds of the run), so that a large cell at the end
of a sweep does not come as a surprise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from peer.cli.screen import Screen

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINE_EVERY_S: Final = 5.0
"""Between two lines where no bar can be drawn."""


class Progress:
    """Use it in a `with`; tell it what was there before, and each cell that ends."""

    def __init__(self, out: Screen, cost: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._cost, self._clock = out, max(cost, 1e-9), clock
        self._done = self._kept = 0.0
        self._began = self._said = clock()
        self._bar: Bar | None = None
        self._row: Any = None

    def __enter__(self) -> Progress:
        if self._out.is_terminal and not self._out.settings.is_quiet:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            words = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Bar(*words, console=Console(stderr=True, highlight=False), transient=True)
            self._row = self._bar.add_task("running", total=self._cost, left="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def kept(self, cost: float) -> None:
        """An earlier run has done this; it says nothing of how fast this one is."""
        self._kept += cost
        self._show("")

    def ended(self, cost: float, what: str) -> None:
        """A cell has ended just now."""
        self._done += cost
        self._show(what)

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take, if it goes on like this; None before the first cell has ended."""
        rest = max(self._cost - self._kept - self._done, 0.0)
        return rest * (self._clock() - self._began) / self._done if self._done else None

    def _show(self, what: str) -> None:
        left = self.left_s
        says = "" if left is None else f"{duration(left)} left"
        done = self._kept + self._done
        if self._bar is not None:
            self._bar.update(self._row, completed=done, description=what or "running", left=says)
        elif what and (self._clock() >= self._said + LINE_EVERY_S or done >= self._cost * (1 - 1e-9)):
            self._said = self._clock()
            self._out.note(f"{100 * done / self._cost:3.0f} %  {what}" + (f"  {says}" if left else ""))


def duration(seconds: float) -> str:
    """A span of time, as one would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
