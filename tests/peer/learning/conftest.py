"""A task card as the tests of learning need it, and a CSV file in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from protocol.tasks import Column, Target, Task, Thresholds


@pytest.fixture
def make_task() -> Callable[..., Task]:
    def make(
        columns: Sequence[str | Column] = ("temp", "rpm"),
        target: str = "fault",
        classes: Sequence[str] = ("no", "yes"),
        model: str = "lda",
        alpha: float = 0.0,
        gappy: Sequence[str] = (),
        name: str = "pumps",
    ) -> Task:
        made = tuple(c if isinstance(c, Column) else Column(c, c in gappy) for c in columns)
        goal = Target(target, () if model == "ridge" else tuple(classes))
        return Task(
            name, "", made, goal, model, alpha, "gossip", "int8", "open", Thresholds(1, 1), bytes(32), bytes(32), 0
        )  # fmt: skip

    return make


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., str]:
    def make(content: str | bytes, name: str = "rows.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return make
