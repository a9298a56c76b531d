"""The task's columns found in the owner's file, by name. What does not match is shown with both lists and the command that maps it.

Columns are never matched by position: files that were exported twice come in other orders, and nobody notices (scikit-learn#7242).
"""

from __future__ import annotations

import difflib
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from protocol.tasks import Task

from .tables import DataError, Table, label

ALIKE: Final = 0.6
"""Similarity from which a file's column is suggested for a task's: difflib's own default. `Temp_C` for `temp` has 0.89."""

SHOWN: Final = 12
"""Names listed in a sentence; the rest are counted."""


class ColumnMismatch(DataError):
    """The file lacks columns of the task. Both lists, what is missing, and a mapping that may be meant ({task's name: file's name})."""

    def __init__(self, task: Task, wanted: Sequence[str], table: Table, missing: Sequence[str], suggested: Mapping[str, str]) -> None:
        self.wanted = tuple(wanted)
        self.found = table.names
        self.missing = tuple(missing)
        self.suggested = dict(suggested)
        sentence = (
            f"{label(table.source)} has no column {_listed(missing)}. "
            f"The task {task.name} wants {_listed(wanted)}; the file has {_listed(table.names)}."
        )
        pairs = [f"{name}={suggested.get(name, 'COLUMN')}" for name in missing]
        super().__init__(sentence, shlex.join(["chinwag", "data", "map", task.name, *pairs]))


def places(task: Task, table: Table, mapping: Mapping[str, str], *, needs_target: bool) -> list[int]:
    """Where in the file the task's columns are, in the task's order, the target last if it is needed. Raises ColumnMismatch."""
    wanted = [c.name for c in task.columns] + ([task.target.name] if needs_target else [])
    at = {name: i for i, name in enumerate(table.names)}
    names = {name: mapping.get(name, name) for name in wanted}
    missing = [name for name in wanted if names[name] not in at]
    if missing:
        taken = {names[name] for name in wanted} | ({task.target.name} & set(table.names))
        raise ColumnMismatch(task, wanted, table, missing, suggest(missing, [n for n in table.names if n not in taken]))
    used: dict[str, str] = {}
    for ours, theirs in names.items():
        if theirs in used:
            raise DataError(f"The column {theirs!r} of {label(table.source)} stands for both {used[theirs]!r} and {ours!r} of the task.")
        used[theirs] = ours
    return [at[names[name]] for name in wanted]


def suggest(missing: Iterable[str], free: Iterable[str]) -> dict[str, str]:
    """The free columns that look most like the missing ones, each used once, the surest pairs first."""
    free = list(free)
    pairs = []
    for name in missing:
        for other in free:
            if (likeness := _likeness(name, other)) >= ALIKE:
                pairs.append((-likeness, name, other))
    found: dict[str, str] = {}
    for _, name, other in sorted(pairs):
        if name not in found and other not in found.values():
            found[name] = other
    return found


def _likeness(a: str, b: str) -> float:
    a, b = _folded(a), _folded(b)
    if not a or not b:
        return 0.0
    likeness = difflib.SequenceMatcher(None, a, b).ratio()
    return max(likeness, 0.8) if a.startswith(b) or b.startswith(a) else likeness


def _folded(name: str) -> str:
    """Without case, accents and punctuation."""
    return "".join(c for c in unicodedata.normalize("NFKD", name).casefold() if c.isalnum())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN:,} more"
