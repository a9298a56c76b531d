"""What a command prints: text for a person or JSON for a program, in one place so that both are the same everywhere.

Answers go to stdout, progress and questions to stderr. Names and texts may come from other people's devices and files: nothing
that could move the cursor is ever printed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

BARS: Final = "▁▂▃▄▅▆▇█"

STYLE: Final = re.compile(r"\x1b\[[0-9;]*m|.", re.DOTALL)
"""One character, or one of the colour sequences that `click.style` writes."""


@dataclass(slots=True)
class Settings:
    """The global options, as given before or after the command's name."""

    home: Path | None = None
    is_json: bool = False
    is_quiet: bool = False
    verbosity: int = 0
    is_plain: bool = False
    words: tuple[str, ...] = ()
    """The command line as it was typed, for sentences that say how to type it better."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Commands of rooms above this one: "package.module:object" by name."""

    def typed(self, *more: str) -> str:
        """The command as typed, with more words at its end."""
        return shlex.join(["chinwag", *self.words, *more])

    def at_home(self, command: str) -> str:
        """This command, for the home that was chosen on the command line."""
        if self.home is None or not command.startswith("chinwag ") or "--home" in command:
            return command
        return f"chinwag --home {shlex.quote(str(self.home))} {command.removeprefix('chinwag ')}"


@dataclass(frozen=True, slots=True)
class Screen:
    """Where one command writes to."""

    settings: Settings

    @property
    def home(self) -> Path:
        """The folder of this peer: --home, else $CHINWAG_HOME, else the user's data folder."""
        from ..config import Home

        return Home.find(self.settings.home).path

    @property
    def is_json(self) -> bool:
        return self.settings.is_json

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads along and can answer."""
        return sys.stdin.isatty() and sys.stdout.isatty() and not self.is_json

    @property
    def has_colour(self) -> bool:
        return sys.stdout.isatty() and not self.settings.is_plain and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def answer(self, value: dict[str, Any], *lines: str) -> None:
        """What the command was asked for: one JSON object on one line, or these lines."""
        if self.is_json:
            click.echo(json.dumps(value))
        elif lines:
            self._print(lines)

    def say(self, *lines: str) -> None:
        """What a person may want to read beside the answer. A program, and whoever asked for quiet, does not."""
        if not self.is_json and not self.settings.is_quiet:
            self._print(lines)

    def next(self, command: str | None, why: str = "") -> None:
        """What to type next."""
        if command:
            self.say(self.faint(f"next: {self.settings.at_home(command)}") + (f"   {why}" if why else ""))

    def note(self, line: str) -> None:
        """Progress, on stderr."""
        if not self.settings.is_quiet:
            click.echo(visible(line), err=True)

    def console(self) -> Console:
        """Where something is drawn. Importing rich takes 100 ms, so only commands that draw ask for it."""
        from rich.console import Console

        return Console(no_color=not self.has_colour, highlight=False, emoji=False, markup=False)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something takes a while."""
        if self.is_terminal and not self.settings.is_quiet:
            with self.console().status(visible(what)):
                yield
        else:
            self.note(what)
            yield

    def _print(self, lines: Sequence[str]) -> None:
        shown = [visible(line) for line in lines]
        if sys.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            shown = [part for line in shown for part in folded(line, columns)]
        click.echo("\n".join(shown), color=self.has_colour)

    def table(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Rows of cells as lines. On a terminal that is too narrow the last columns are left out."""
        lines = aligned(rows)
        if sys.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            while max(map(width, lines)) > columns and len(rows[0]) > 1:
                rows = [row[:-1] for row in rows]
                lines = aligned(rows)
        return lines

    def strong(self, text: str) -> str:
        return self._styled(text, bold=True)

    def faint(self, text: str) -> str:
        return self._styled(text, dim=True)

    def good(self, text: str) -> str:
        return self._styled(text, fg="green")

    def bad(self, text: str) -> str:
        return self._styled(text, fg="red")

    def _styled(self, text: str, **style: Any) -> str:
        return click.style(visible(text), **style) if self.has_colour else text


def screen() -> Screen:
    """The screen of the command that runs now."""
    return Screen(click.get_current_context().ensure_object(Settings))


def visible(text: str) -> str:
    """This text with every character that could steer a terminal replaced; colours stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" or c.startswith("\x1b[") else "\ufffd" for c in STYLE.findall(text))


def folded(line: str, columns: int) -> list[str]:
    """A line that is too long, broken between words; what follows stands under the first word of its text, or a little to the right.

    A line with a word that fits into no line is left alone: it is something to copy.
    """
    if width(line) <= columns or max(map(width, line.split())) >= columns:
        return [line]
    label = re.match(r" *(?:\S+ {2,})?", click.unstyle(line))
    hanging = " " * (label.end() if label and 0 < label.end() <= 16 else 2)
    lines = [""]
    for piece in re.findall(r" *[^ ]+", line):
        if width(lines[-1] + piece) > columns:
            lines.append(hanging + piece.lstrip())
        else:
            lines[-1] += piece
    return lines


def cut(text: str, cells: int) -> str:
    """A name that must not take more than so many cells of a table."""
    if width(text) <= cells:
        return text
    while width(text) > cells - 1:
        text = text[:-1]
    return text + "…"


def width(text: str) -> int:
    """Columns of a terminal that this text takes."""
    plain = click.unstyle(text)
    if plain.isascii():
        return len(plain)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain)


def aligned(rows: Sequence[Sequence[str]], gap: int = 3) -> list[str]:
    """Rows of cells as lines whose columns stand under each other."""
    if not rows:
        return []
    widths = [max(width(row[i]) for row in rows if i < len(row)) for i in range(max(len(row) for row in rows))]
    return [(" " * gap).join(cell + " " * (widths[i] - width(cell)) for i, cell in enumerate(row)).rstrip() for row in rows]


def ago(seconds: float) -> str:
    """A span of time, as coarse as one wants to read it."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def clock(at: float, now: float | None = None) -> str:
    """A point in time: the hour if it is today's, else the date too."""
    then, today = time.localtime(at), time.localtime(time.time() if now is None else now)
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def score(value: float | None, metric: str | None) -> str:
    """A score: accuracy in per cent, anything else as a number."""
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if metric == "accuracy" else f"{value:.2f}"


def sparkline(values: Sequence[float], cells: int, floor: float | None = None) -> str:
    """The course of these values, from `floor` up. It spans at least 0.1, so that noise does not look like learning."""
    if not values:
        return ""
    chosen = [values[i * len(values) // cells] for i in range(cells - 1)] + [values[-1]] if len(values) > cells else list(values)
    high = max(chosen)
    low = min(*chosen, high - 0.1, high if floor is None else floor)
    return "".join(BARS[min(int((v - low) / (high - low) * len(BARS)), len(BARS) - 1)] for v in chosen)


def plural(count: int, word: str, words: str | None = None) -> str:
    """ "1 peer", "2 peers", "1,797 rows"."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"
