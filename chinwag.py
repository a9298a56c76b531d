"""The face of the program: `import chinwag` is for notebooks, `chinwag` and `python -m chinwag` are the command.

It imports nothing until it is asked to: a command answers before numpy would be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.notebook import Run, Scenario

__version__ = "0.1.0"

__all__ = ["Run", "Scenario", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process if None); the exit code."""
    from peer.cli import main as command

    return command(arguments, {"scenario": "scenarios.cli:scenario"})


def __getattr__(name: str) -> Any:
    """The names of a notebook, loaded when they are asked for."""
    if name in ("Run", "Scenario"):
        from scenarios import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'chinwag' has no attribute {name!r}")


if __name__ == "__main__":
    raise SystemExit(main())
