"""Which of the owner's rows belong to which task, and whether their files have changed.

The brain knows no paths: it asks for a task to be opened, and what this file says is added to that job. A file is looked at, never
watched: what tells of changes (inotify, FSEvents) is different on every system and blind on network drives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from protocol.identity import PeerId

from .config import Config, Home, TaskTable, save_config
from .control import ControlError, Exit
from .events import TaskId

POLL_S: Final = 5.0
"""Seconds between two looks. A file counts as changed when two looks in a row agree, so one that is being written is not read half."""

ID_LETTERS: Final = 16
"""A table of config.toml may also be named by the first letters of a task's id: two tasks may bear one name."""

Stamp = tuple[int, int, int] | None
"""Time of change in ns, size, inode; None if the file cannot be seen."""


class OwnersRows:
    """What the owner has set about rows: `config.toml` as it is now, and how it changes when a task is accepted.

    The table of a task in config.toml bears its name, or the first letters of its id, which come first: two tasks may bear one name.
    """

    def __init__(self, home: Home, config: Config) -> None:
        self._home = home
        self.config = config

    def table(self, task: TaskId, name: str) -> TaskTable:
        """What is set for this task, the source taken from [rows] if the task has none of its own."""
        table = self.config.tasks.get(_short(task)) or self.config.tasks.get(name) or TaskTable()
        return table if table.source else msgspec.structs.replace(table, source=self.config.rows.source)

    @staticmethod
    def changed(
        table: TaskTable, source: str | None, mapping: Mapping[str, str] | None, test: str | None, holdout: float | None
    ) -> TaskTable:
        """`table` with what the owner has said otherwise."""
        said = {"source": source, "map": dict(mapping) if mapping is not None else None, "test": test, "holdout": holdout}
        return msgspec.structs.replace(table, **{key: value for key, value in said.items() if value is not None})

    def keep(self, task: TaskId, name: str, table: TaskTable, *, is_name_taken: bool) -> None:
        """Write `table` into config.toml. `is_name_taken` says that another accepted task bears this name."""
        key = _short(task) if is_name_taken or _short(task) in self.config.tasks else name
        config = msgspec.structs.replace(self.config, tasks={**self.config.tasks, key: table})
        save_config(self._home, config)
        self.config = config

    def rename(self, name: str) -> None:
        """Call this device otherwise from now on. Raises ControlError if nothing can be called that."""
        try:
            peer = msgspec.structs.replace(self.config.peer, name=name)
        except ValueError as error:
            raise ControlError(f"This device cannot be called that: {error}.", None, Exit.USAGE) from None
        config = msgspec.structs.replace(self.config, peer=peer)
        save_config(self._home, config)
        self.config = config


def open_settings(table: TaskTable, peer: PeerId, task: TaskId) -> dict[str, Any]:
    """What the "open" job needs besides the card. The seed makes the hold-out the same rows every time, and others on every device."""
    seed = hashlib.sha256(b"chinwag holdout" + peer + task).digest()
    return {
        "source": table.source,
        "map": dict(table.map),
        "test": table.test,
        "holdout": table.holdout,
        "seed": int.from_bytes(seed[:8], "big") >> 1,
    }


def _short(task: TaskId) -> str:
    return task.hex()[:ID_LETTERS]


class RowsWatch:
    """Tell it what is being read, and `look` again and again: it says which tasks' files are other than when they were read."""

    def __init__(self) -> None:
        self._read: dict[TaskId, tuple[Stamp, ...]] = {}
        self._seen: dict[TaskId, tuple[Stamp, ...]] = {}

    def reading(self, task: TaskId, table: TaskTable) -> None:
        """The task's files are about to be read: what is in them now is what will be known of them."""
        self._read[task] = _stamps(table)

    def look(self, tables: Mapping[TaskId, TaskTable]) -> list[TaskId]:
        """The tasks whose rows have changed and are at rest again. A task that nobody has read has not changed."""
        changed = []
        for task, table in tables.items():
            now = _stamps(table)
            before = self._seen.get(task)
            self._seen[task] = now
            if self._read.get(task, now) != now == before and None not in now:
                self._read[task] = now
                changed.append(task)
        return changed


def _stamps(table: TaskTable) -> tuple[Stamp, ...]:
    return tuple(_stamp(path) for path in (table.source, table.test) if path)


def _stamp(path: str) -> Stamp:
    try:
        found = Path(path).expanduser().stat()
    except (OSError, RuntimeError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
