"""The SQLite file under the store: its tables, who may write, how a transaction ends, and what goes wrong, in words.

`store.py` knows what is kept; this knows how SQLite keeps it, on every system and through every crash.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

DATABASE: Final = "state.db"
LOCK: Final = "state.lock"

FORMAT: Final = 1
"""The layout of the tables, as PRAGMA user_version. A database with a higher number is left alone."""

APPLICATION: Final = 0x43484E57
"""PRAGMA application_id: "CHNW". A database with another one is not ours to write to."""

MAX_LOG_BYTES: Final = 16 * 1024 * 1024
"""What the write-ahead log is cut back to after a large transaction. It grows to 4 MiB before SQLite empties it."""

SCHEMA: Final = """
CREATE TABLE own (name TEXT PRIMARY KEY, value);
CREATE TABLE states (task BLOB, part TEXT, number INTEGER, starter BLOB, arrays BLOB, file TEXT, facts TEXT, PRIMARY KEY (task, part));
CREATE TABLE results (task BLOB, part TEXT, number INTEGER, starter BLOB, arrays BLOB, file TEXT, facts TEXT, PRIMARY KEY (task, part));
CREATE TABLE prepared (xid BLOB PRIMARY KEY, task BLOB, part TEXT, partner BLOB, number INTEGER, starter BLOB, arrays BLOB, file TEXT);
CREATE TABLE applied (partner BLOB, task BLOB, part TEXT, xid BLOB, PRIMARY KEY (partner, task, part));
CREATE TABLE tasks (task BLOB PRIMARY KEY, card BLOB, decision TEXT);
CREATE TABLE revocations (card BLOB PRIMARY KEY);
CREATE TABLE records (peer BLOB PRIMARY KEY, card BLOB);
CREATE TABLE certificates (peer BLOB PRIMARY KEY, leaf BLOB);
CREATE TABLE invites (digest BLOB PRIMARY KEY, expires REAL, may_invite INTEGER);
CREATE TABLE scores (id INTEGER PRIMARY KEY, task BLOB, at REAL, exchanges INTEGER, now REAL);
CREATE INDEX scores_of_task ON scores (task, id);
"""

TABLES: Final = ("own", "states", "results", "prepared", "applied", "tasks", "revocations", "records", "certificates", "invites", "scores")
WITH_ARRAYS: Final = ("states", "results", "prepared")

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StoreError(OSError):
    """The disk, or what is on it, does not serve: one sentence that says why, what to type next, the exit code of a command."""

    exit = 1

    def __init__(self, sentence: str, next: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next = next


class StoreBusy(StoreError):
    """Another process writes in this folder. `pid` is None if it has only just begun."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        super().__init__(f"Another daemon{f' (process {pid})' if pid else ''} is running in {folder}.", "chinwag status")
        self.pid = pid


class StoreFull(StoreError):
    """There is no room. Nothing of the commit was written, and what was there before is intact."""


class StoreTooNew(StoreError):
    """A newer Chinwag has written this; nothing was changed."""

    exit = 7


class StoreDamaged(StoreError):
    """What is on the disk is not what was written."""


# opening ----------------------------------------------------------------------------------------------------------------------------------


def claim(folder: Path) -> sqlite3.Connection:
    """Take the folder, until this connection is closed or this process ends, however it ends. Raises StoreBusy.

    It is a lock on an empty database of its own: SQLite knows how to lock on every system, and one on the real database would shut readers
    out.
    """
    lock = connect(folder / LOCK, wait_s=0)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise StoreBusy(folder, _pid(folder)) from None
    return lock


def _pid(folder: Path) -> int | None:
    """Who writes here: it puts its number into the database when it opens it."""
    try:
        with closing(connect(folder / DATABASE)) as database:
            return int(own(database, "pid", 0)) or None
    except sqlite3.Error:
        return None


def connect(path: Path, wait_s: float = 30.0) -> sqlite3.Connection:
    """Open this database; one that is made is for its owner only. wait_s: for another's lock, which a reader holds for moments only.

    The file is not opened here if it exists: closing it again would take SQLite's own locks from it (POSIX locks belong to the process).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    return sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)


def make_ready(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or make sure that they are ours and of this format, before anything is changed."""
    found = check(database, path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA fullfsync = ON")
    database.execute("PRAGMA checkpoint_fullfsync = ON")
    database.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
    if found == 0:
        with transaction(database):
            for statement in SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {FORMAT}")
            database.execute(f"PRAGMA application_id = {APPLICATION}")


def check(database: sqlite3.Connection, path: Path) -> int:
    """The format of this database; 0 if it is empty still. Raises StoreTooNew, and StoreDamaged if it is another program's."""
    found, application = _number(database, "user_version"), _number(database, "application_id")
    if application == APPLICATION and found > FORMAT:
        sentence = f"{path} was written by a newer Chinwag (format {found}; this one knows {FORMAT})."
        raise StoreTooNew(sentence, "pip install --upgrade chinwag")
    [(tables,)] = database.execute("SELECT count(*) FROM sqlite_master")
    if application != APPLICATION and (application or found or tables):
        raise StoreDamaged(f"{path} is the database of another program.", "move it away")
    return found


def _number(database: sqlite3.Connection, pragma: str) -> int:
    [(value,)] = database.execute(f"PRAGMA {pragma}")
    return int(value)


def own(database: sqlite3.Connection, name: str, default: Any) -> Any:
    """A single value of this peer's."""
    found = database.execute("SELECT value FROM own WHERE name = ?", (name,)).fetchone()
    return default if found is None else found[0]


def set_own(database: sqlite3.Connection, name: str, value: Any) -> None:
    database.execute("INSERT OR REPLACE INTO own VALUES (?, ?)", (name, value))


# using ------------------------------------------------------------------------------------------------------------------------------------


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # after some faults SQLite has rolled back by itself
            database.execute("ROLLBACK")
        raise


@contextmanager
def in_words(folder: Path) -> Iterator[None]:
    """Every fault of the disk and of SQLite, as a StoreError."""
    try:
        yield
    except StoreError:
        raise
    except sqlite3.Error as error:
        raise _told(folder, getattr(error, "sqlite_errorcode", 0), str(error)) from error
    except OSError as error:
        if error.errno in FULL:
            raise _full(folder) from error
        raise StoreError(f"{error.filename or folder} cannot be used: {error.strerror}.", "chinwag doctor") from error


def _told(folder: Path, code: int, text: str) -> StoreError:
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE):  # the latter two: quotas and limits
        return _full(folder)
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(f"{folder / 'state.db'} is damaged: {text}.", "move it away; this peer keeps its identity and learns anew")
    return StoreError(f"{folder / 'state.db'} cannot be used: {text}.", "chinwag doctor")


def _full(folder: Path) -> StoreFull:
    return StoreFull(f"There is no room left to write in {folder}.", "make room, then: chinwag start")
