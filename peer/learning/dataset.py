"""The owner's rows as the task wants them: columns by name and in the task's order, classes by the card, every value checked.

The last room in which rows are rows: what leaves it are arrays that the trainer keeps to itself.
"""

from __future__ import annotations

import difflib
import unicodedata
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.tasks import Column, Task

from .columns import places
from .tables import MISSING, Block, DataError, Table, number, numbers, read_table

MAX_VALUE: Final = 1e50
"""Size of a value. Squares of larger ones, summed over all rows of a network, would leave the range of float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """X float64 (n, d), NaN where a value is missing; y (n,): int64 index of the card's class, or float64. `notes` are for the owner."""

    X: NDArray[np.float64]
    y: NDArray[Any]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.X)

    def take(self, indices: NDArray[np.intp]) -> Rows:
        """Some of the rows."""
        return Rows(self.X[indices], self.y[indices], self.notes)


def read_rows(task: Task, source: str, mapping: Mapping[str, str]) -> Rows:
    """Read a source (a CSV file, `sklearn:NAME`) for a task; `mapping` is {the task's name: the file's name} where they differ.

    Raises ColumnMismatch and other DataErrors.
    """
    table = read_table(source)
    at = places(task, table, mapping, needs_target=True)
    features, target = _Features(task, table), _Targets(task, table)
    for block in table.blocks():
        features.add(block, at)
        target.add(block, at[-1])
    return Rows(features.matrix(), target.y, table.notes)


def read_features(task: Task, source: str, mapping: Mapping[str, str]) -> NDArray[np.float64]:
    """Read rows to predict for: (n, d). They need no target, and any value may be missing."""
    table = read_table(source)
    at = places(task, table, mapping, needs_target=False)
    features = _Features(task, table, may_miss=True)
    for block in table.blocks():
        features.add(block, at)
    return features.matrix()


class _Features:
    """The task's columns, collected block by block."""

    def __init__(self, task: Task, table: Table, *, may_miss: bool = False) -> None:
        self._task, self._table, self._may_miss = task, table, may_miss
        self._values = [array("d") for _ in task.columns]

    def matrix(self) -> NDArray[np.float64]:
        return np.stack([np.array(v, dtype=np.float64) for v in self._values], axis=1)

    def add(self, block: Block, at: Sequence[int]) -> None:
        for column, held, place in zip(self._task.columns, self._values, at, strict=False):
            cells = block.columns[place]
            values, strange = numbers(cells, self._table.has_decimal_comma)
            if strange:
                raise self._fault(block, strange[0], f"{column.name} is {_quoted(cells[strange[0]])} where a number is needed")
            self._check(block, column, np.array(values))
            held.extend(values)

    def _check(self, block: Block, column: Column, values: NDArray[np.float64]) -> None:
        low = -MAX_VALUE if column.low is None else column.low
        high = MAX_VALUE if column.high is None else column.high
        if not (column.is_gappy or self._may_miss) and (gaps := np.flatnonzero(np.isnan(values))).size:
            where = self._table.where(block.lines[gaps[0]])
            raise DataError(
                f"{_capital(where)}: {column.name} is missing, and the task's card says that it never is.",
                "complete or remove such rows, or ask for a task whose card allows gaps in it",
            )
        if (outside := np.flatnonzero((values < low) | (values > high))).size:
            unit = f" {column.unit}" if column.unit else ""
            says = f"{column.name} is {values[outside[0]]:g}{unit}, outside the task's range {low:g} to {high:g}{unit}"
            raise self._fault(block, int(outside[0]), says)

    def _fault(self, block: Block, row: int, says: str) -> DataError:
        return DataError(f"{_capital(self._table.where(block.lines[row]))}: {says}.", "correct or remove the row")


class _Targets:
    """The target, collected block by block: numbers, or indices of the card's classes."""

    def __init__(self, task: Task, table: Table) -> None:
        self._task, self._table = task, table
        self._values: array[Any] = array("q" if task.is_classification else "d")
        self._classes = {class_key(c): i for i, c in reversed(list(enumerate(task.target.classes)))}
        self._exactly = {c: i for i, c in enumerate(task.target.classes)}

    @property
    def y(self) -> NDArray[Any]:
        return np.array(self._values, dtype=np.int64 if self._task.is_classification else np.float64)

    def add(self, block: Block, place: int) -> None:
        cells = block.columns[place]
        if self._task.is_classification:
            indices: dict[str, int] = {}
            for row, cell in enumerate(cells):
                if cell not in indices:
                    indices[cell] = self._index(cell, self._table.where(block.lines[row]))
                self._values.append(indices[cell])
            return
        values, strange = numbers(cells, self._table.has_decimal_comma)
        gaps = [i for i, v in enumerate(values) if v != v or abs(v) > MAX_VALUE]
        if gaps:
            cell, where = cells[gaps[0]], self._table.where(block.lines[gaps[0]])
            says = f"is {_quoted(cell)} where a number is needed" if gaps[0] in strange or cell.lower() not in MISSING else "is missing"
            raise DataError(f"{_capital(where)}: the target {self._task.target.name} {says}.", "correct or remove the row")
        self._values.extend(values)

    def _index(self, cell: str, where: str) -> int:
        index = self._exactly.get(cell)
        if index is None:
            index = self._classes.get(class_key(cell, self._table.has_decimal_comma))
        if index is not None:
            return index
        target, classes = self._task.target.name, self._task.target.classes
        if cell.lower() in MISSING:
            raise DataError(f"{_capital(where)}: the target {target} is missing.", "correct or remove the row")
        alike = difflib.get_close_matches(cell.casefold(), [c.casefold() for c in classes], 1)
        meant = f"; is {next(c for c in classes if c.casefold() == alike[0])!r} meant?" if alike else ""
        listed = ", ".join(classes[:12]) + (f" and {len(classes) - 12} more" if len(classes) > 12 else "")
        raise DataError(
            f"{_capital(where)}: the target {target} is {_quoted(cell)}, which is none of the task's classes ({listed}){meant}.",
            "correct or remove the row",
        )


def class_key(text: str, has_decimal_comma: bool = False) -> str:
    """One spelling for labels that mean the same: "3", "3.0" and " 3" are "3"; other text stays what it is (Unicode form NFC)."""
    text = unicodedata.normalize("NFC", text.strip())
    value = number(text.replace(",", ".") if has_decimal_comma else text)
    if value is None or value != value:
        return text
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def _quoted(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "…")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


__all__ = ["DataError", "Rows", "class_key", "read_features", "read_rows", "read_table"]
