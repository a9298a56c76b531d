"""The trainer of a simulated peer: the learning of `peer/learning`, called in place, over rows that a scenario gave out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from peer.events import Train, Trained
from peer.learning import cvgossip
from peer.learning.dataset import Rows
from peer.learning.local import fit_alone
from peer.learning.models import fit
from peer.learning.moments import own_statistics
from peer.learning.pooled import NothingLearned
from protocol.tasks import Task
from protocol.tensors import Arrays


class Bench:
    """One peer's rows and what its daemon's trainer process would answer.

    Scores are of the scenario's test rows. A model is fitted at most once in `score_every_s`; in between the last score is repeated, for a
    fit costs ten exchanges.
    """

    def __init__(self, task: Task, rows: Rows | None, test: Rows, score_every_s: float) -> None:
        self.task, self.rows, self.test = task, rows, test
        self.distort: Callable[[Arrays, Arrays | None], Arrays] = lambda found, before: found
        """What a liar does to its own moments, and (with the weights before) to its weights after a turn."""
        self._every_s = score_every_s
        self._scored: tuple[float, float] | None = None
        self._sampled: tuple[Arrays, Arrays, float] | None = None

    def run(self, job: Train, now: float) -> Trained:
        if self.rows is None:
            return Trained(job.task, job.job, error="there are no rows here", facts={"next": "chinwag init --data FILE"})
        match job.job:
            case "open":
                return self._open(job)
            case "train":
                return Trained(job.task, "train", self._train(self.rows, job))
        arrays = {part: under(f"{part}/", job.arrays) for part in ("statistics", "weights")}
        return Trained(job.task, "score", facts={"now": self.score(arrays["statistics"], arrays["weights"], now)})

    def score(self, statistics: Arrays, weights: Arrays, now: float) -> float:
        """Accuracy or r2 on the test rows of the model that these make, or the last score if it is fresh enough."""
        if self._scored is None or now >= self._scored[0] + self._every_s:
            try:
                self._scored = now, round(fit(self.task, statistics, weights or None).score(self.test), 9)
            except NothingLearned:
                self._scored = now, 0.0
        return self._scored[1]

    def sample(self, statistics: Arrays, weights: Arrays, now: float) -> float:
        """The score of what is in use now, whenever the last one was made."""
        if self._sampled is None or self._sampled[0] is not statistics or self._sampled[1] is not weights:
            self._scored = None
            self._sampled = statistics, weights, self.score(statistics, weights, now)
        return self._sampled[2]

    def keep(self, share: float) -> None:
        """Drop all rows but the first, this share of them."""
        if self.rows is not None:
            self.rows = self.rows.take(np.arange(max(round(len(self.rows) * share), 1)))

    def alone(self) -> float | None:
        """The score of a model of this peer's rows only."""
        if self.rows is None or not len(self.rows):
            return None
        statistics = {**own_statistics(self.task, self.rows), "starter": np.array(1.0)}
        weights = fit_alone(self.task, self.rows, statistics) if "weights" in self.task.parts else None
        return round(fit(self.task, statistics, weights).score(self.test), 9)

    def _open(self, job: Train) -> Trained:
        assert self.rows is not None
        facts = {
            "rows": len(self.rows),
            "train_rows": len(self.rows),
            "test_rows": len(self.test),
            "metric": "accuracy" if self.task.is_classification else "r2",
            "alone": self.alone(),
        }
        return Trained(job.task, "open", self.distort(own_statistics(self.task, self.rows), None), facts)

    def _train(self, rows: Rows, job: Train) -> Mapping[str, Any]:
        statistics, weights, control = (under(f"{part}/", job.arrays) for part in ("statistics", "weights", "control"))
        after = cvgossip.train(self.task, rows, statistics, weights, control, int(job.settings["seed"]), int(job.settings["round"]))
        return {f"weights/{name}": value for name, value in self.distort(after, weights).items()}


def under(prefix: str, arrays: Arrays) -> dict[str, Any]:
    """The arrays whose names begin so, without that."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
