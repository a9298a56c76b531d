"""What is in the owner's file, before anything is done with it: kinds of columns, gaps, ranges, classes, and what stands in the way.

A report stays on the device: it holds smallest and largest values. What a new task's card says of the file (`card_fields`) is only the
names of its columns, which of them have gaps, and the names of the classes. Never imports scikit-learn for a file.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from protocol.tasks import DEFAULT_MIN_ROWS, MAX_CLASSES, MAX_COLUMNS, Column, Target
from protocol.wire import WireError

from .dataset import MAX_VALUE, class_key
from .tables import MISSING, Block, DataError, Table, label, numbers, read_table

FEW_DISTINCT: Final = 20
"""Whole numbers with this many different values or fewer are taken for classes, not for amounts."""

ROWS_PER_CLASS: Final = 3
"""Rows that each such value needs on average; three different numbers in five rows are amounts."""

OFF_CENTRE: Final = 1e4
"""Distance of a column's mean from zero, in standard deviations, beyond which squares lose digits: half of float64's are left at 1e4."""

SUGGESTED_ALPHA: Final = {"lda": 0.0, "gaussian-nb": 0.0, "ridge": 1e-6, "logistic": 1e-3}
"""Penalty per row that a new card proposes. Ridge's is for columns in their own units: small, against collinear columns only."""


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """One column. `kind` is "number" or "text"; low, high and mean are None for text and for a column without values.

    `distinct` counts different values, MAX_CLASSES + 1 standing for more.
    """

    name: str
    kind: str
    missing: int
    low: float | None
    high: float | None
    mean: float | None
    distinct: int


@dataclass(frozen=True, slots=True)
class DataReport:
    """A source looked through. `classes` is {label: rows} if the target looks like classes, else empty; `suggested` a model or None."""

    source: str
    rows: int
    columns: tuple[ColumnReport, ...]
    target: str | None
    classes: dict[str, int]
    suggested: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CardFields:
    """What a new task's card takes from a file: nothing that was counted or measured in it."""

    columns: tuple[Column, ...]
    target: Target
    model: str
    alpha: float


def report(source: str, target: str | None = None) -> DataReport:
    """Read the whole of a source once. Raises DataError if it is no table, or lacks the target."""
    table = read_table(source)
    if target is not None and target not in table.names:
        shown = ", ".join(table.names[:12]) + (" …" if len(table.names) > 12 else "")
        raise DataError(f"{label(source)} has no column {target}; it has {shown}.")
    tallies = [_Tally(name) for name in table.names]
    rows = 0
    for block in table.blocks():
        rows += len(block.lines)
        for tally, cells in zip(tallies, block.columns, strict=True):
            tally.add(cells, table, block)
    columns = tuple(t.report() for t in tallies)
    goal = next((t for t in tallies if t.name == target), None)
    classes = goal.classes(rows) if goal is not None else {}
    suggested = None if goal is None else "lda" if classes else "ridge" if goal.kind == "number" else None
    problems = tuple(p for t in tallies for p in t.problems(rows, is_target=t is goal)) + tuple(_problems(rows, columns, goal, classes))
    return DataReport(source, rows, columns, target, classes, suggested, problems, table.notes)


def card_fields(
    report: DataReport, model: str | None = None, *, leave_out: Collection[str] = (), more_classes: Collection[str] = ()
) -> CardFields:
    """The part of a card that a file decides. Columns of text are left out; `more_classes` are those that only others' files hold.

    Raises DataError if no card can be made of it.
    """
    name = label(report.source)
    model = model or report.suggested
    if report.target is None or model is None:
        raise DataError(f"Say which column of {name} is to be predicted.", "chinwag task new NAME --target COLUMN")
    usable = [c for c in report.columns if c.kind == "number" and c.name != report.target and c.name not in leave_out]
    usable = [c for c in usable if c.low is not None]
    if not usable:
        raise DataError(f"{name} has no column of numbers to predict {report.target} from.")
    if len(usable) > MAX_COLUMNS:
        raise DataError(f"{name} has {len(usable):,} columns of numbers; a task has {MAX_COLUMNS:,} at most.")
    goal = next(c for c in report.columns if c.name == report.target)
    classes: tuple[str, ...] = ()
    if model != "ridge":
        classes = tuple(sorted({*report.classes, *map(class_key, more_classes)}, key=_class_order))
        if len(classes) < 2:
            holds = f"only the class {classes[0]}" if classes else "amounts, or too many different texts"
            raise DataError(f"{model} predicts one of several classes, and the column {report.target} of {name} holds {holds}.")
    elif goal.kind != "number":
        raise DataError(f"ridge predicts a number, and the column {report.target} of {name} holds text.")
    try:
        columns = tuple(Column(c.name, c.missing > 0) for c in usable)
        return CardFields(columns, Target(report.target, classes), model, SUGGESTED_ALPHA[model])
    except WireError as error:
        raise DataError(f"A name in {name} cannot stand on a task's card ({error}); rename it in the file.") from None


def _class_order(text: str) -> tuple[int, float, str]:
    """Numbers first, by value; then text."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


@dataclass(slots=True)
class _Tally:
    """Running counts of one column."""

    name: str
    numbers: int = 0
    missing: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0
    texts: int = 0
    example: str = ""
    example_at: str = ""
    distinct: dict[str, int] = field(default_factory=dict)
    """Rows of each different value, up to MAX_CLASSES + 1 values; complete only if there are no more than MAX_CLASSES."""

    def add(self, cells: tuple[str, ...], table: Table, block: Block) -> None:
        values, strange = numbers(cells, table.has_decimal_comma)
        if strange and not self.texts:
            self.example, self.example_at = cells[strange[0]], table.where(block.lines[strange[0]])
        self.texts += len(strange)
        finite = [v for v in values if v == v]
        self.missing += len(cells) - len(finite) - len(strange)
        self._moments(finite)
        if len(self.distinct) <= MAX_CLASSES:
            keys: dict[str, str | None] = {}
            for cell in cells:
                if cell not in keys:
                    keys[cell] = None if cell.lower() in MISSING else class_key(cell, table.has_decimal_comma)
                if (key := keys[cell]) is not None and (key in self.distinct or len(self.distinct) <= MAX_CLASSES):
                    self.distinct[key] = self.distinct.get(key, 0) + 1

    def _moments(self, values: list[float]) -> None:
        """Mean and sum of squared deviations, merged with those of the blocks before (Chan, Golub and LeVeque)."""
        if not values:
            return
        self.low, self.high = min(self.low, *values), max(self.high, *values)
        n, mean = len(values), math.fsum(values) / len(values)
        squares = math.fsum((v - mean) ** 2 if abs(v) < MAX_VALUE else 0.0 for v in values)
        total, apart = self.numbers + n, mean - self.mean
        self.squares += squares + apart**2 * self.numbers * n / total
        self.mean += apart * n / total
        self.numbers = total

    @property
    def kind(self) -> str:
        return "text" if self.texts else "number"

    @property
    def is_whole(self) -> bool:
        return all("." not in key and "e" not in key for key in self.distinct)

    def report(self) -> ColumnReport:
        is_number = self.kind == "number" and self.numbers > 0
        low, high, mean = (self.low, self.high, self.mean) if is_number else (None, None, None)
        return ColumnReport(self.name, self.kind, self.missing, low, high, mean, len(self.distinct))

    def classes(self, rows: int) -> dict[str, int]:
        """Rows of each class if this column, as a target, looks like classes: text, two values, or a few whole numbers that come often."""
        count = len(self.distinct)
        if count > MAX_CLASSES:
            return {}
        is_few = self.is_whole and count <= FEW_DISTINCT and count * ROWS_PER_CLASS <= rows
        if self.kind == "text" or (count == 2 and rows > 2) or is_few:
            return dict(sorted(self.distinct.items(), key=lambda item: _class_order(item[0])))
        return {}

    def problems(self, rows: int, *, is_target: bool) -> list[str]:
        found = []
        if is_target:
            if self.missing:
                found.append(f"The target {self.name} is missing in {self.missing:,} of {rows:,} rows; such rows cannot be used.")
            return found
        if self.texts and self.numbers:
            where = f"{self.example!r} in {self.example_at}"
            found.append(f"{self.name} holds numbers, but also {self.texts:,} texts, for instance {where}: it is left out.")
        elif self.texts:
            found.append(f"{self.name} is text, which no model here uses yet: it is left out.")
        elif not self.numbers:
            found.append(f"{self.name} has no values at all: it is left out.")
        elif self.low == self.high:
            found.append(f"{self.name} has the same value in every row, {self.low:g}: here it says nothing.")
        elif abs(self.mean) > OFF_CENTRE * math.sqrt(self.squares / self.numbers):
            found.append(f"{self.name} lies far from zero for how little it varies: give it a low and a high on the task's card.")
        return found


def _problems(rows: int, columns: tuple[ColumnReport, ...], goal: _Tally | None, classes: dict[str, int]) -> list[str]:
    found = []
    if rows < DEFAULT_MIN_ROWS:
        found.append(f"{rows:,} rows are few: a task asks for {DEFAULT_MIN_ROWS} or more before a device contributes.")
    if goal is None:
        return found
    if not any(c.kind == "number" and c.low is not None and c.name != goal.name for c in columns):
        found.append(f"There is no column of numbers to predict {goal.name} from.")
    if goal.kind == "text" and not classes:
        found.append(
            f"The target {goal.name} is text with more than {MAX_CLASSES} different values; a task has {MAX_CLASSES} classes at most."
        )
    if not goal.numbers and not goal.texts:
        found.append(f"The target {goal.name} has no values.")
    if len(classes) == 1:
        found.append(f"Every row has the same {goal.name}, {next(iter(classes))}; name the other classes when you make the task.")
    return found
