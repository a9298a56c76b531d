"""The face of the program: `import chinwag` is for notebooks, `chinwag` and `python -m chinwag` are the command.

It imports nothing until it is asked to: a command answers before numpy would be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

__version__ = "0.1.0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process if None); the exit code."""
    from peer.cli import main as command

    return command(arguments, {"scenario": "scenarios.cli:scenario"})


if __name__ == "__main__":
    raise SystemExit(main())
