"""`chinwag leave`: withdraw this device from a task."""

from __future__ import annotations

import click

from .command import Command
from .screen import screen


@click.command(cls=Command, short_help="Leave a task: this device contributes nothing any more.")
@click.argument("task")
@click.option(
    "--keep-model", "erase", flag_value=False, default=False, type=bool, help="Keep the model for predictions (this is the default)."
)
@click.option("--erase", "erase", flag_value=True, type=bool, help="Delete the model and all else that this device holds of the task.")
def leave(task: str, erase: bool) -> None:
    """Leave TASK: from now on this device contributes nothing to it.

    The others begin a new epoch without this device's rows; within two epochs nothing of them is left in their model.
    """
    from ..control import Control, segment

    out = screen()
    answer = Control.of(out.home).post(f"/tasks/{segment(task)}/leave", {"erase": erase})
    kept = "all that this device held of it is deleted" if erase else "its model stays here for predictions"
    out.answer(answer | {"left": True, "erased": erase}, f"Left {task}; {kept}.")
    out.say("The others' next epoch is made without this device's rows.")
