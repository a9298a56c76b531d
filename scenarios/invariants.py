"""What must hold in every run. Each check has a name; what breaks it becomes a Violation with the seed and the events before it.

conserved   both ends of an exchange moved by opposite amounts: durable states, not what anybody says, summed to rounding
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peer.events import TaskId
from protocol.tasks import Task

from .host import Host
from .queue import Queue
from .trace import Trace
from .world import Violation, World


class Invariants:
    """Of one simulation."""

    def __init__(self, world: World, seed: int, task: Task, task_id: TaskId, hosts: Sequence[Host], queue: Queue, trace: Trace) -> None:
        self._world, self._seed, self._task, self._task_id = world, seed, task, task_id
        self._hosts, self._queue, self._trace = hosts, queue, trace
        self._found: dict[str, Violation] = {}

    def changed(self) -> None:
        """A fault began or ended."""

    def written(self, host: int, records: tuple[Any, ...]) -> None:
        """A transaction is durable."""

    def finish(self) -> list[Violation]:
        return list(self._found.values())

    def verdicts(self) -> dict[str, str]:
        return {}
