"""The trainer's jobs: open a task's rows, score a model on the rows held out, train a turn. Rows stay here, in one process, in memory.

open    settings: card (signed), source, map, test or None, holdout, seed     arrays: none
        facts: rows, train_rows, test_rows, missing, classes, metric, alone, notes      gives: own statistics, by their names
score   arrays: statistics/…, weights/… if the model has any                            facts: now
train   arrays: statistics/…, weights/…, control/…   settings: round, seed              gives: weights/…
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocol.cards import open_card
from protocol.tasks import Task
from protocol.tensors import Arrays
from protocol.wire import decode

from . import cvgossip
from .dataset import DataError, Rows, read_rows
from .holdout import split
from .local import fit_alone
from .models import fit
from .moments import own_statistics


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A task and its rows; `test` is never trained on, unless there is nothing else to score with."""

    task: Task
    train: Rows
    test: Rows


class Bench:
    """The rows of every task that was opened."""

    def __init__(self) -> None:
        self._opened: dict[bytes, Opened] = {}

    def run(self, job: str, task: bytes, settings: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """(arrays, facts) of a job. Raises DataError; NothingLearned if there is no average to make a model of."""
        match job:
            case "open":
                return self._open(task, settings)
            case "score":
                return {}, {"now": self._score(self._rows(task), arrays)}
            case "train":
                return self._train(self._rows(task), settings, arrays), {}
        raise ValueError(f"no job is called {job!r}")

    def _rows(self, task: bytes) -> Opened:
        if task not in self._opened:
            raise DataError("The rows of this task have not been opened.")
        return self._opened[task]

    def _open(self, task_id: bytes, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        task = decode(Task, open_card("task", settings["card"])[1])
        source, mapping, extra = settings["source"], settings.get("map") or {}, settings.get("test")
        if not source:
            remedy = shlex.join(["chinwag", "task", "accept", task.name, "--data", "FILE"])
            raise DataError(f"Nothing says which file holds this device's rows for {task.name}.", remedy)
        rows = read_rows(task, source, mapping)
        notes = list(rows.notes)
        if extra:
            opened = Opened(task, rows, read_rows(task, extra, mapping))
        else:
            opened = Opened(task, *split(task, rows, float(settings.get("holdout", 0.2)), int(settings.get("seed", 0))))
        test_rows = len(opened.test)
        if not test_rows:
            notes.append("No row is held out, so scores are over the rows that were learned from: better than the truth.")
            opened = Opened(task, opened.train, opened.train)
        statistics = own_statistics(task, opened.train)
        facts = {
            "rows": len(rows),
            "train_rows": len(opened.train),
            "test_rows": test_rows,
            "missing": int(np.isnan(rows.X).sum()),
            "classes": {name: int((rows.y == k).sum()) for k, name in enumerate(task.target.classes)},
            "metric": "accuracy" if task.is_classification else "r2",
            "alone": _alone(opened, statistics),
            "notes": notes,
        }
        self._opened[task_id] = opened
        return dict(statistics), facts

    def _score(self, opened: Opened, arrays: Arrays) -> float:
        weights = _under("weights/", arrays) or None
        return fit(opened.task, _under("statistics/", arrays), weights).score(opened.test)

    def _train(self, opened: Opened, settings: Mapping[str, Any], arrays: Arrays) -> dict[str, Any]:
        weights = cvgossip.train(
            opened.task,
            opened.train,
            _under("statistics/", arrays),
            _under("weights/", arrays),
            _under("control/", arrays),
            int(settings["seed"]),
            int(settings["round"]),
        )
        return {f"weights/{name}": value for name, value in weights.items()}


def _alone(opened: Opened, statistics: Mapping[str, Any]) -> float:
    """The score of the same model, made of this device's training rows only."""
    alone = {**statistics, "starter": np.array(1.0)}
    weights = fit_alone(opened.task, opened.train, alone) if "weights" in opened.task.parts else None
    return fit(opened.task, alone, weights).score(opened.test)


def _under(prefix: str, arrays: Arrays) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
