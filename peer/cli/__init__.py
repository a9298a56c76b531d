"""The command `chinwag`. A command is a thin file: parse, call, print, exit code.

Every module here imports what it needs inside the function that needs it: `chinwag --help`, `status` and `peers` must answer
within 250 ms, and numpy alone takes as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def main(arguments: Sequence[str] | None = None, more: Mapping[str, str] | None = None) -> int:
    """Run the command with these arguments (those of the process if None); the exit code.

    more: commands that do not belong to one peer, by name: "package.module:object". Whoever is above this room adds them.
    """
    from .command import run

    return run(arguments, more)
