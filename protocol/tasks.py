"""The task card: what is learned, from which columns, under which thresholds. Signed by its author, known by its hash.

A card travels by gossip to every member and waits there until the owner of that device accepts it. Nothing about a task can change after it
is signed: another card is another task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .messages import DIGEST
from .wire import Bool, Bytes, Choice, Float, Many, Nested, OutOfBounds, Structure, Text, UInt, optional, wire

MODELS: Final = ("lda", "ridge", "gaussian-nb", "logistic")
CLASSIFIERS: Final = ("lda", "gaussian-nb", "logistic")
STATISTICS_MODELS: Final = ("lda", "ridge", "gaussian-nb")

MAX_COLUMNS: Final = 1024
"""Columns of one task. The moments of d columns are d² numbers: 8 MiB at 1,024."""

MAX_CLASSES: Final = 256

DEFAULT_MIN_ROWS: Final = 20
"""Rows below which a peer contributes nothing: its first partner in an epoch sees its moments, and those of few rows are the rows."""


@dataclass(frozen=True, slots=True)
class Column(Structure):
    """One numeric column: its name, and what is known of it without seeing anybody's rows. `is_gappy`: values may be missing."""

    name: str = wire(Text(128))
    is_gappy: bool = wire(Bool())
    unit: str | None = optional(Text(32))
    low: float | None = optional(Float())
    high: float | None = optional(Float())

    def validate(self) -> None:
        # Half of it is the column's unit. Of two neighbouring subnormal numbers that half is 0, and nothing can be divided by it.
        if self.low is not None and self.high is not None and self.high / 2 - self.low / 2 <= 0.0:
            raise OutOfBounds(f"column {self.name}: its range is empty")


@dataclass(frozen=True, slots=True)
class Target(Structure):
    """What is predicted: one of `classes` (two or more, in the order of the card), or, without classes, a number."""

    name: str = wire(Text(128))
    classes: tuple[str, ...] = wire(Many(Text(64), MAX_CLASSES))


@dataclass(frozen=True, slots=True)
class Thresholds(Structure):
    """Below these a peer listens and predicts but contributes nothing. `min_peers` counts this peer too."""

    min_rows: int = wire(UInt(1, 2**40))
    min_peers: int = wire(UInt(1, 2**20))


@dataclass(frozen=True, slots=True)
class Task(Structure):
    """The card. `alpha` is the penalty per row: ridge solves mean squared error + alpha |w|²; logistic mean log loss + alpha/2 |w|².

    `created` and `ends` are seconds since 1970, UTC; a task without `ends` goes on until its members leave it.
    """

    name: str = wire(Text(64))
    about: str = wire(Text(512, low=0))
    columns: tuple[Column, ...] = wire(Many(Nested(Column), MAX_COLUMNS, low=1))
    target: Target = wire(Nested(Target))
    model: str = wire(Choice(MODELS))
    alpha: float = wire(Float(low=0.0))
    protocol: str = wire(Choice(("gossip",)))
    encoding: str = wire(Choice(("int8", "f32")))
    privacy: str = wire(Choice(("open",)))
    thresholds: Thresholds = wire(Nested(Thresholds))
    network: bytes = wire(DIGEST)
    author: bytes = wire(Bytes(32, 32))
    created: int = wire(UInt(0, 2**40))
    ends: int | None = optional(UInt(0, 2**40))

    def validate(self) -> None:
        names = [c.name for c in self.columns] + [self.target.name]
        if len(set(names)) < len(names):
            raise OutOfBounds("a column is named twice")
        if len(set(self.target.classes)) < len(self.target.classes):
            raise OutOfBounds("a class is named twice")
        if self.is_classification and len(self.target.classes) < 2:
            raise OutOfBounds(f"{self.model} needs a target with two classes or more")
        if not self.is_classification and self.target.classes:
            raise OutOfBounds(f"{self.model} predicts a number; its target has no classes")

    @property
    def is_classification(self) -> bool:
        return self.model in CLASSIFIERS

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of this task's state, in the order in which they are agreed."""
        return ("statistics",) if self.model in STATISTICS_MODELS else ("statistics", "weights")
