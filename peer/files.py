"""Files that a crash cannot tear: written beside their place, flushed, then renamed into it.

Everything private that this peer keeps outside its database goes through here: keys, settings, tensors, the control token. A reader finds
the old bytes or the new, never a part, and never with wider rights than asked for, not even for a moment.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

TEMPORARY = ".tmp"
"""Suffix of a file that is not in its place yet. One that a crash left behind is nobody's."""


def private_folder(path: Path) -> None:
    """Make this folder, and those above it, for its owner only. One that exists is shut to others too, where the file system can."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    shut(path, 0o700)


def shut(path: Path, mode: int) -> None:
    """Take away what `mode` does not grant. On a file system without modes (FAT, a Windows share) nothing happens, and that is no error."""
    if os.name == "posix" and path.stat().st_mode & 0o777 & ~mode:
        try:
            path.chmod(mode)
        except PermissionError:
            pass


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path` by these bytes, durably. Raises OSError, and then the old file stands and nothing is left beside it."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode), "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make what was renamed in this folder durable. Windows offers no such call, and journals names by itself."""
    if sys.platform == "win32":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        _sync(folder)
    finally:
        os.close(folder)


def _sync(file: int) -> None:
    """On macOS fsync stops at the drive's own cache; F_FULLFSYNC does not, but not every file system there has it."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass
    os.fsync(file)
