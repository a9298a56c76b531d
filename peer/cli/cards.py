"""Task cards as a person reads them, and the one question that is asked before a device takes part."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .screen import Screen, plural

if TYPE_CHECKING:
    from protocol.tasks import Task

    from ..events import TaskId
    from ..saved import Saved

MODELS = {
    "lda": "linear discriminant analysis",
    "gaussian-nb": "Gaussian naive Bayes",
    "logistic": "logistic regression",
    "ridge": "ridge regression",
}

COLUMNS_SHOWN = 16
"""Columns of a card that are listed; the rest are counted."""


def open_task(card: bytes) -> Task:
    """The task on a card that the store holds."""
    from protocol.cards import open_card
    from protocol.tasks import Task
    from protocol.wire import decode

    return decode(Task, open_card("task", card)[1])


def saved_task(home: Path, name: str | None) -> tuple[TaskId, Task, Saved]:
    """A task of this home by name or beginning of its id, daemon or not; without a name the only one that has a result.

    Raises ControlError if none, or more than one, is meant.
    """
    from ..config import Home, load_config
    from ..control import ControlError, Exit
    from ..store import read_saved

    load_config(Home(home))
    saved = read_saved(home)
    known = {task: open_task(kept.card) for task, kept in saved.tasks.items()}
    if name is None:
        meant = {task for task, _ in saved.results if task in known} or set(known)
    else:
        meant = {t for t, card in known.items() if card.name == name} or {
            t for t in known if len(name) >= 6 and t.hex().startswith(name.lower())
        }
    if len(meant) == 1:
        [task] = meant
        return task, known[task], saved
    names = ", ".join(sorted(f"{known[t].name} ({t.hex()[:8]})" for t in meant or known))
    if not known:
        raise ControlError("This device knows no task yet.", "chinwag task list", Exit.FAILED)
    if not meant:
        raise ControlError(f"There is no task {name!r} here; there are: {names}.", "chinwag task list", Exit.USAGE)
    raise ControlError(f"More than one task can be meant: {names}.", "name one with --task", Exit.USAGE)


def card_lines(out: Screen, task: dict[str, Any]) -> list[str]:
    """A card as the REST API gives it, in full."""
    kind = f"one of {len(task['classes'])} classes ({_some(task['classes'])})" if task["classes"] else "a number"
    thresholds = task["thresholds"]
    author = f" by {task.get('author_name') or task['author'][:8]}" if task.get("author") else ""
    made = f", {time.strftime('%Y-%m-%d', time.localtime(task['created']))}" if task.get("created") else ""
    lines = [f"task {out.strong(task['name'])}{author}{made}"]
    if task["about"]:
        lines.append(f"  {task['about']}")
    lines += [
        f"  learns    {task['target']}: {kind}, by {MODELS.get(task['model'], task['model'])}, penalty {task['alpha']:g}",
        f"  from      {plural(len(task['columns']), 'column')} of numbers: {_some([_column(c) for c in task['columns']])}",
        f"  gaps      {_gaps(task['columns'])}",
        f"  asks for  {plural(thresholds['min_rows'], 'row')} or more on a device, and {plural(thresholds['min_peers'], 'device')} or more",
        f"  ends      {_end(task.get('ends'))}",
    ]
    if task.get("leaves"):
        lines.append(f"  leaves this device: {task['leaves']}")
    return lines


def _end(ends: int | None) -> str:
    """A task that ends at midnight ends with the day before, as a person says it."""
    if ends is None:
        return "when its members leave"
    if time.localtime(ends)[3:6] == (0, 0, 0):
        return f"with {time.strftime('%Y-%m-%d', time.localtime(ends - 1))}"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ends))


def _column(column: dict[str, Any]) -> str:
    low, high = column.get("low"), column.get("high")
    bounds = f" {low:g} to {high:g}" if low is not None and high is not None else f" from {low:g}" if low is not None else ""
    bounds = bounds or (f" up to {high:g}" if high is not None else "")
    unit = f" {column['unit']}" if column.get("unit") else ""
    return f"{column['name']}{bounds}{unit}"


def _gaps(columns: list[dict[str, Any]]) -> str:
    gappy = [c["name"] for c in columns if c.get("is_gappy")]
    if not gappy:
        return "are not allowed in any column"
    where = "in any column" if len(gappy) == len(columns) else f"in {_some(gappy)}"
    return f"are allowed {where}, and filled with everybody's mean"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:COLUMNS_SHOWN])
    return shown if len(names) <= COLUMNS_SHOWN else f"{shown} and {len(names) - COLUMNS_SHOWN} more"


def consent(out: Screen, is_sure: bool, question: str) -> None:
    """Ask the owner. Where nobody can answer, only --yes is a yes. Raises ControlError if it is a no."""
    from ..control import ControlError, Exit

    if is_sure:
        return
    if not out.is_terminal:
        raise ControlError("Taking part needs a yes, and nobody can be asked here.", out.settings.typed("--yes"), Exit.USAGE)
    if not click.confirm(question, default=False):
        raise ControlError("Nothing was changed.", None, Exit.REFUSED)
