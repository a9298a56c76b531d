"""What a peer holds, kept through every crash: one SQLite database, and a file for each array set too large for it.

One commit is one transaction. A large set is written, flushed and renamed into `tensors/` before the transaction that names it, and swept
only after the transaction that lets go of it; so whatever the database names is there and whole, and what it does not name is nobody's. A
file is called by the hash of its bytes, which are checked against it when read.

One process writes; any number may read meanwhile. Never pickle: arrays are safetensors, facts are JSON.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensor_bytes

from protocol.exchange import Epoch
from protocol.identity import PeerId
from protocol.tensors import Arrays

from . import saved as s
from .config import ROOT, Home, save_leaf
from .database import (
    TABLES,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreTooNew,
    check,
    claim,
    connect,
    in_words,
    make_ready,
    own,
    set_own,
    transaction,
)
from .events import Seconds, TaskId
from .files import private_folder, sync_folder, write_whole

__all__ = ["Store", "StoreBusy", "StoreDamaged", "StoreError", "StoreFull", "StoreTooNew", "read_saved"]

MAX_BLOB_BYTES: Final = 1024 * 1024
"""Arrays up to this size lie in the database. SQLite writes a blob twice (log, then table), so beyond a megabyte a file is cheaper; below
it the two flushes more that a file costs are not."""

WITH_ARRAYS: Final = ("states", "results", "prepared")

MAX_SCORES: Final = 1000
"""Points of a task's curve that are kept: a few times what a screen is wide."""


class Store:
    """The writer. Opening it takes the folder for this process until `close` or its death, and clears away what a crash left.

    Calls may come from any thread; they wait for each other. A StoreError from `commit` means that memory may be ahead of the disk: whoever
    holds what was to be saved must stop, and begin again from `load`.

    What belongs to a network ends with it: opened under another root certificate than before, the store is empty.
    """

    def __init__(self, folder: Path) -> None:
        self._home = Home(folder)
        self._turn = threading.Lock()
        self.losses: tuple[str, ...] = ()
        """What `load` found damaged and let go, a sentence each."""
        with in_words(folder):
            private_folder(folder)
            private_folder(self._home.tensors)
            self._lock = claim(folder)
            try:
                self._database = connect(self._home.database)
                make_ready(self._database, self._home.database)
                self._begin()
            except BaseException:
                self.close()
                raise

    def load(self) -> s.Saved:
        """What the last commit left.

        A part whose arrays the disk has damaged is forgotten, as if its task had just been accepted, and named in `losses`: the next epoch
        makes it good, while a peer that refused to start would need a person. Raises StoreError.
        """
        with self._turn, in_words(self._home.path):
            found, damages = _read_all(self._database, self._home.tensors)
            with transaction(self._database):
                for damage in damages:
                    for table in damage.tables:
                        self._database.execute(f"DELETE FROM {table} WHERE task = ? AND part = ?", (damage.task, damage.part))
            self.losses = tuple(damage.sentence for damage in damages)
            self._sweep()
            return found

    def commit(self, records: Iterable[Any]) -> None:
        """Make these durable, all or none. Raises StoreError."""
        records = tuple(records)
        with self._turn, in_words(self._home.path):
            for record in records:
                if isinstance(record, s.KeepLeaf):
                    # Before the transaction: a leaf that came is good, whatever becomes of the records beside it.
                    save_leaf(self._home, record.leaf, record.inviter)
            try:
                placed = [(record, self._place(record)) for record in records]
                with transaction(self._database):
                    for record, place in placed:
                        self._write(record, place)
            finally:
                self._sweep()

    def close(self) -> None:
        """Give the folder back. May be called twice."""
        with self._turn:
            if hasattr(self, "_database"):
                self._database.close()
            self._lock.close()

    def _begin(self) -> None:
        """Put this process's name in, begin anew if the peer has joined another network, and clear away what nobody needs."""
        root = self._home.identity / ROOT
        network = sha256(root.read_bytes()).digest() if root.exists() else None
        with transaction(self._database):
            before = own(self._database, "network", None)
            if None not in (before, network) and before != network:
                for table in TABLES:
                    self._database.execute(f"DELETE FROM {table}")
            set_own(self._database, "network", network or before)
            set_own(self._database, "pid", os.getpid())
        sync_folder(self._home.path)
        self._files = {path.name for path in self._home.tensors.iterdir()}
        self._sweep()

    def _place(self, record: Any) -> Place:
        """Where a record's arrays go: into the database (their bytes), or a file (its name), which is on the disk when this returns."""
        if not isinstance(record, s.HoldState | s.KeepResult | s.Prepare):
            return None, None
        content = _pack(record.delta if isinstance(record, s.Prepare) else record.arrays)
        if len(content) <= MAX_BLOB_BYTES:
            return content, None
        name = sha256(content).hexdigest()
        self._files.add(name)
        write_whole(self._home.tensors / name, content)
        return None, name

    def _write(self, record: Any, place: Place) -> None:
        run = self._database.execute
        match record:
            case s.HoldState() | s.KeepResult():
                table = "states" if isinstance(record, s.HoldState) else "results"
                row = (record.task, record.part, *record.epoch, *place, json.dumps(dict(record.facts)))
                run(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            case s.Prepare():
                half = (record.xid, record.task, record.part, record.partner, *record.epoch, *place)
                run("INSERT OR REPLACE INTO prepared VALUES (?, ?, ?, ?, ?, ?, ?, ?)", half)
            case s.Settle():
                run("DELETE FROM prepared WHERE xid = ?", (record.xid,))
            case s.Apply():
                run("INSERT OR REPLACE INTO applied VALUES (?, ?, ?, ?)", (record.partner, record.task, record.part, record.xid))
            case s.KeepTask():
                run("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", (record.task, record.card, record.decision))
            case s.EraseTask():
                for table in (*WITH_ARRAYS, "scores"):
                    run(f"DELETE FROM {table} WHERE task = ?", (record.task,))
            case s.KeepRevocation():
                run("INSERT OR IGNORE INTO revocations VALUES (?)", (record.card,))
            case s.KeepRecord():
                run("INSERT OR REPLACE INTO records VALUES (?, ?)", (record.peer, record.card))
            case s.ForgetRecord():
                run("DELETE FROM records WHERE peer = ?", (record.peer,))
            case s.KeepCertificate():
                run("INSERT OR REPLACE INTO certificates VALUES (?, ?)", (record.peer, record.leaf))
            case s.KeepInvite():
                run("INSERT OR REPLACE INTO invites VALUES (?, ?, ?)", (record.digest, record.expires, record.may_invite))
            case s.SpendInvite():
                run("DELETE FROM invites WHERE digest = ?", (record.digest,))
            case s.KeepSequence():
                set_own(self._database, "sequence", max(record.number, own(self._database, "sequence", 0)))
            case s.AddScore():
                run(
                    "INSERT INTO scores (task, at, exchanges, now) VALUES (?, ?, ?, ?)",
                    (record.task, record.at, record.exchanges, record.now),
                )
                newest = "SELECT id FROM scores WHERE task = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
                run(f"DELETE FROM scores WHERE task = ? AND id <= ({newest})", (record.task, record.task, MAX_SCORES))
            case s.KeepLeaf():
                pass
            case _:
                raise TypeError(f"{type(record).__name__} is no record")

    def _sweep(self) -> None:
        """Delete the files that the database does not name. What cannot be deleted now (Windows, while it is read) goes the next time."""
        if not self._files:
            return
        query = " UNION ".join(f"SELECT file FROM {table} WHERE file IS NOT NULL" for table in WITH_ARRAYS)
        try:
            for name in self._files - {name for (name,) in self._database.execute(query)}:
                (self._home.tensors / name).unlink(missing_ok=True)
                self._files.discard(name)
        except (OSError, sqlite3.Error):
            pass


READ_TRIES: Final = 3
"""Between a reader's look into the database and its look into a file the daemon may have swept that file; looking again finds the next."""


def read_saved(folder: Path) -> s.Saved:
    """What the last commit left, while a daemon may be at work; without the parts that are damaged. Empty before the first commit.

    Raises StoreError.
    """
    home = Home(folder)
    found = s.Saved()
    with in_words(folder):
        for _ in range(READ_TRIES):
            if not home.database.exists():
                break
            with closing(connect(home.database)) as database:
                database.execute("PRAGMA query_only = ON")
                if check(database, home.database) == 0:
                    break
                found, damages = _read_all(database, home.tensors)
            if not damages:
                break
    return found


# arrays -----------------------------------------------------------------------------------------------------------------------------------

Place = tuple[bytes | None, str | None]
"""Of a set of arrays: its bytes if they lie in the database, or the name of its file."""


class _Torn(Exception):
    """Bytes that are not the arrays they were."""


def _pack(arrays: Arrays) -> bytes:
    """As safetensors. They must lie in C order: the library writes the memory as it is."""
    return tensor_bytes({name: np.asarray(values, "<f8", order="C") for name, values in arrays.items()})


def _unpack(place: Place, tensors: Path) -> dict[str, Any]:
    content, name = place
    try:
        if name is not None:
            content = (tensors / name).read_bytes()
            if sha256(content).hexdigest() != name:
                raise _Torn(f"{tensors / name} is not what was written")
        arrays = read_tensors(content or b"")
    except (FileNotFoundError, SafetensorError) as error:
        raise _Torn(f"{tensors / name} is missing" if name else str(error)) from None
    if any(values.dtype != np.float64 for values in arrays.values()):
        raise _Torn("arrays of another type than float64")
    return dict(arrays)


# reading ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a task that cannot be read again. What was to be added to a state is no use without it, nor it without that."""

    table: str
    task: TaskId
    part: str
    why: str

    @property
    def tables(self) -> tuple[str, ...]:
        return ("results",) if self.table == "results" else ("states", "prepared")

    @property
    def sentence(self) -> str:
        what = "published result" if self.table == "results" else "state"
        return f"The {what} ({self.part}) of task {self.task.hex()[:8]} is lost: {self.why}."


def _read_all(database: sqlite3.Connection, tensors: Path) -> tuple[s.Saved, list[Damage]]:
    """Everything as of one moment, and what is left out because the disk has damaged it."""
    damages: list[Damage] = []

    def rows(table: str) -> Iterator[dict[str, Any]]:
        cursor = database.execute(f"SELECT * FROM {table} ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        for values in cursor:
            row = dict(zip(names, values, strict=True))
            if table in WITH_ARRAYS:
                place, row["epoch"] = (row.pop("arrays"), row.pop("file")), Epoch(row.pop("number"), PeerId(row.pop("starter")))
                try:
                    row["delta" if table == "prepared" else "arrays"] = _unpack(place, tensors)
                except _Torn as torn:
                    damages.append(Damage(table, row["task"], row["part"], str(torn)))
                    continue
            if "facts" in row:
                row["facts"] = json.loads(row["facts"])
            yield row

    database.execute("BEGIN")
    try:
        scores: dict[TaskId, list[s.AddScore]] = {}
        for row in rows("scores"):
            now = math.nan if row["now"] is None else row["now"]  # SQLite has no NaN
            scores.setdefault(row["task"], []).append(s.AddScore(row["task"], Seconds(row["at"]), row["exchanges"], now))
        found = s.Saved(
            states={(row["task"], row["part"]): s.HoldState(**row) for row in rows("states")},
            results={(row["task"], row["part"]): s.KeepResult(**row) for row in rows("results")},
            prepared={row["xid"]: s.Prepare(**row) for row in rows("prepared")},
            applied={(row["partner"], row["task"], row["part"]): row["xid"] for row in rows("applied")},
            tasks={row["task"]: s.KeepTask(**row) for row in rows("tasks")},
            revocations=tuple(row["card"] for row in rows("revocations")),
            records={row["peer"]: row["card"] for row in rows("records")},
            certificates={row["peer"]: row["leaf"] for row in rows("certificates")},
            invites={row["digest"]: s.KeepInvite(row["digest"], row["expires"], bool(row["may_invite"])) for row in rows("invites")},
            sequence=own(database, "sequence", 0),
            scores={task: tuple(points) for task, points in scores.items()},
        )
    finally:
        database.execute("ROLLBACK")
    lost = {(damage.task, damage.part) for damage in damages if damage.table != "results"}
    if lost:
        found = replace(
            found,
            states={key: state for key, state in found.states.items() if key not in lost},
            prepared={xid: half for xid, half in found.prepared.items() if (half.task, half.part) not in lost},
        )
    return found, damages
