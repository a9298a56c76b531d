"""The model this device holds, read from its own store: with the daemon or without it, with a network or without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .screen import plural

if TYPE_CHECKING:
    from protocol.tasks import Task
    from protocol.tensors import Arrays

    from ..events import TaskId
    from ..learning.models import Model
    from ..saved import KeepResult, Saved


@dataclass(frozen=True, slots=True)
class Held:
    """A fitted model, and the published result it was made from. `mapping` is the owner's, {the task's column: the file's}."""

    task_id: TaskId
    task: Task
    model: Model
    result: KeepResult
    mapping: dict[str, str]
    saved: Saved

    @property
    def metric(self) -> str:
        return "accuracy" if self.task.is_classification else "r2"

    def about(self) -> str:
        """Where the model comes from, in one line."""
        peers, rows = self.model.about.get("peers"), self.model.about.get("rows")
        made = f"made of {plural(round(peers), 'peer')}, {plural(round(rows), 'row')}" if peers and rows else "made by others"
        return f"{self.task.name} ({self.task.model}), {made}, epoch {self.result.epoch.number}"


def held_model(home: Path, name: str | None) -> Held:
    """The model of a task of this home. Raises ControlError if there is no such task, or nothing to make a model of yet."""
    from ..config import Home, load_config
    from ..control import ControlError, Exit
    from ..learning.models import fit
    from .cards import saved_task

    task_id, task, saved = saved_task(home, name)
    found = _published(saved, task_id, task)
    if found is None:
        kept = saved.tasks[task_id].decision
        remedy = f"chinwag task accept {task.name}" if kept == "offered" else "chinwag start" if kept == "accepted" else None
        raise ControlError(f"There is no model of {task.name} on this device yet.", remedy, Exit.FAILED)
    result, statistics, weights = found
    tables = load_config(Home(home)).tasks
    table = tables.get(task_id.hex()[:16]) or tables.get(task.name)
    return Held(task_id, task, fit(task, statistics, weights), result, dict(table.map) if table else {}, saved)


def _published(saved: Saved, task_id: TaskId, task: Task) -> tuple[KeepResult, Arrays, Arrays | None] | None:
    """The result in use, its statistics, and the weights if the model has any: they live in the scale of the statistics they began with."""
    statistics = saved.results.get((task_id, "statistics"))
    if "weights" not in task.parts:
        return (statistics, statistics.arrays, None) if statistics is not None else None
    weights, state = saved.results.get((task_id, "weights")), saved.states.get((task_id, "weights"))
    if weights is None:
        return None
    if state is not None and state.epoch == weights.epoch:
        prefix = "preparation/"
        scale = {name.removeprefix(prefix): value for name, value in state.arrays.items() if name.startswith(prefix)}
        return weights, scale, weights.arrays
    return (weights, statistics.arrays, weights.arrays) if statistics is not None and statistics.epoch == weights.epoch else None


@contextmanager
def readable(source: str) -> Iterator[str]:
    """A source as a file: `-` is what comes on standard input, put into a file that is gone afterwards (a table is looked at twice)."""
    import shutil
    import sys
    import tempfile

    from .rows import absolute

    if source != "-":
        yield absolute(source)
        return
    with tempfile.TemporaryDirectory(prefix="chinwag-") as folder:
        path = Path(folder) / "standard input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield str(path)


def plain(value: Any) -> Any:
    """numpy's numbers as Python's own."""
    return value.item() if hasattr(value, "item") else value
