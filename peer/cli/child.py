"""Other processes of ours: how they are started, and how they notice that whoever started them is gone.

A child holds the reading end of a pipe on its stdin. When the parent ends, in whatever way, the pipe closes; no signal, no
process id that may have been given to another, and the same on every system.

Run as a module it is the broom of the demo: `python -m peer.cli.child FOLDER` waits until its stdin closes and deletes the
folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

SWEEP_S: Final = 15.0
"""How long the broom keeps at it: daemons whose parent died take a few seconds to end, and write until then."""


def command_line(module: str, *words: str) -> list[str]:
    """Run this module of ours with the Python that runs now."""
    return [sys.executable, "-m", module, *words]


def environment(**more: str) -> Mapping[str, str]:
    """This process's environment, in which the child finds the very code that runs here."""
    root = str(Path(__file__).parents[2])
    paths = [root, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != root)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | more


def apart() -> dict[str, Any]:
    """Arguments of Popen for a child that Ctrl-C in this terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def detached() -> dict[str, Any]:
    """Arguments of Popen for a child that outlives this process and its terminal."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    return {"start_new_session": True}


def broom(folder: Path) -> subprocess.Popen[bytes]:
    """A process that deletes this folder when this one ends, even if it is killed."""
    return subprocess.Popen(command_line(__name__, str(folder)), stdin=subprocess.PIPE, env=environment(), cwd=folder.parent, **apart())


def sweep(folder: Path, patience_s: float = SWEEP_S) -> None:
    """Delete the folder; try again while something still writes to it."""
    import shutil

    deadline = time.monotonic() + patience_s
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.2)


if __name__ == "__main__":
    while os.read(0, 4096):
        pass
    sweep(Path(sys.argv[1]))
