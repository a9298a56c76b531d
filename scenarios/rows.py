"""The rows of a scenario: a bundled set, an owner's CSV files or invented ones, and those among them that nobody trains on.

What decides is the card, as everywhere: columns by name, classes by their label. A set is read once in a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from peer.learning.bundled import SETS
from peer.learning.dataset import DataError, Rows, read_rows
from peer.learning.holdout import split
from peer.learning.report import card_fields, report
from protocol.tasks import Column, Target, Task, Thresholds

INVENTED: Final = "synthetic"
"""The source that needs no file: clouds of points, one class each, that overlap."""

INVENTED_COLUMNS: Final = 16
INVENTED_CLASSES: Final = 4
"""The moments of these for LDA are 206 numbers, 1.6 KB: small enough for a thousand peers."""

APART: Final = 1.2
"""Distance of a cloud's middle from the origin, in standard deviations: the best lines between them err on one row in seven."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A task's columns and classes, the training rows, one batch for each file they came from, and the rows that only score."""

    task: Task
    batches: tuple[Rows, ...]
    test: Rows

    @property
    def train(self) -> Rows:
        return joined(self.batches)


def read(
    source: str, target: str | None, model: str, alpha: float | None, test: float, limit: int | None, seed: int, folder: str
) -> Dataset:
    """Rows of a source, `limit` of them at most, a share `test` of each file held back. Raises DataError."""
    task, batches = _batches(source, target, model, alpha, folder)
    if limit is not None:
        order = np.random.Generator(np.random.PCG64([seed, 1]))
        batches = tuple(b.take(np.sort(order.permutation(len(b))[:limit])) for b in batches)
    halves = [split(task, rows, test, seed) for rows in batches]
    return Dataset(task, tuple(train for train, _ in halves), joined([held for _, held in halves]))


def joined(batches: Sequence[Rows]) -> Rows:
    """All rows in one place."""
    return Rows(np.concatenate([b.X for b in batches]), np.concatenate([b.y for b in batches]))


@lru_cache(maxsize=4)
def _batches(source: str, target: str | None, model: str, alpha: float | None, folder: str) -> tuple[Task, tuple[Rows, ...]]:
    if source == INVENTED:
        return _invented(model, alpha)
    if source in SETS:
        sources = [f"sklearn:{source}"]
    else:
        place = Path(folder) / Path(source).expanduser()
        files = sorted(place.parent.glob(place.name)) if "*" in source else sorted(place.glob("*.csv")) if place.is_dir() else [place]
        sources = [str(file) for file in files]
    if not sources:
        raise DataError(f"There is no file {source}.")
    reports = [report(s, target or "target") for s in sources]
    found = card_fields(reports[0], model, more_classes=[c for r in reports[1:] for c in r.classes])
    gappy = {c.name for r in reports for c in r.columns if c.missing}
    columns = tuple(Column(c.name, c.name in gappy) for c in found.columns)
    task = card(columns, found.target, model, found.alpha if alpha is None else alpha)
    return task, tuple(read_rows(task, s, {}) for s in sources)


def card(columns: tuple[Column, ...], target: Target, model: str, alpha: float) -> Task:
    """A card that no network and no author has signed: what a model needs to know, and no more."""
    thresholds = Thresholds(min_rows=1, min_peers=1)
    return Task(
        name="scenario", about="", columns=columns, target=target, model=model, alpha=alpha, protocol="gossip", encoding="f32",
        privacy="open", thresholds=thresholds, network=bytes(32), author=bytes(32), created=0,
    )  # fmt: skip


def _invented(model: str, alpha: float | None) -> tuple[Task, tuple[Rows, ...]]:
    """20,000 rows, the same in every scenario: who holds which of them is what a seed decides."""
    chance = np.random.Generator(np.random.PCG64(20_000))
    y = chance.integers(0, INVENTED_CLASSES, 20_000)
    middles = chance.normal(size=(INVENTED_CLASSES, INVENTED_COLUMNS))
    middles *= 2.0 * APART / np.linalg.norm(middles, axis=1, keepdims=True)
    X = middles[y] + chance.normal(size=(len(y), INVENTED_COLUMNS))
    columns = tuple(Column(f"x{k}", False) for k in range(INVENTED_COLUMNS))
    if model == "ridge":
        slope = chance.normal(size=INVENTED_COLUMNS)
        return card(columns, Target("y", ()), model, 1e-6 if alpha is None else alpha), (Rows(X, X @ slope + chance.normal(size=len(y))),)
    target = Target("y", tuple("abcd"[:INVENTED_CLASSES]))
    return card(columns, target, model, (1e-3 if model == "logistic" else 0.0) if alpha is None else alpha), (Rows(X, y.astype(np.int64)),)
