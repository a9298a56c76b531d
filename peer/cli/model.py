"""`chinwag model`: take the model out, for other programs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, Group, version
from .screen import plural, screen, size

if TYPE_CHECKING:
    from .results import Held


@click.group(cls=Group)
def model() -> None:
    """The model that this device holds."""


@model.command(cls=Command)
@click.argument("task")
@click.option("-o", "--out", "target", required=True, metavar="FILE.safetensors", type=click.Path(dir_okay=False, path_type=Path))
def export(task: str, target: Path) -> None:
    """Write the model of TASK as numbers (safetensors) and, beside them, a card in JSON that says what they are and how they predict.

    There is no code in either file, so opening them is safe.
    """
    import numpy as np
    from safetensors.numpy import save

    from ..control import ControlError, Exit
    from ..files import write_whole
    from .results import held_model

    out = screen()
    card_path = target.with_suffix(".json")
    if card_path == target:
        raise ControlError("The card gets the name that ends in .json; the numbers need another.", "-o FILE.safetensors", Exit.USAGE)
    held = held_model(out.home, task)
    arrays = {name: np.array(value, dtype=np.float64, order="C") for name, value in held.model.arrays().items()}
    card = _card(held, out.home)
    numbers = save(arrays, metadata={"task": held.task.name, "model": held.task.model, "card": card_path.name})
    readable_by_others = 0o666 & ~_umask()
    write_whole(target, numbers, readable_by_others)
    write_whole(card_path, (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode(), readable_by_others)
    told = {"task": held.task.name, "out": str(target.absolute()), "card": str(card_path.absolute()), "bytes": len(numbers)}
    out.answer(told, f"{target}: {plural(len(arrays), 'array')}, {size(len(numbers))}; {card_path}: what they are")
    if not out.is_json:
        out.note(f"model: {held.about()}")


def _card(held: Held, home: Path) -> dict[str, Any]:
    """What the numbers are, where they come from, how good they are."""
    from protocol.identity import PeerId, short
    from protocol.records import open_record

    from ..config import Home, load_config, load_identity

    own = load_identity(Home(home)).peer
    took_part = [{"id": own.hex(), "short": short(own), "name": load_config(Home(home)).peer.name}]
    if held.saved.tasks[held.task_id].decision != "accepted":
        took_part = []
    for card in held.saved.records.values():
        peer, record = open_record(card)
        if bytes(held.task_id) in record.tasks and peer != own:
            took_part.append({"id": peer.hex(), "short": short(PeerId(peer)), "name": record.name})
    points = held.saved.scores.get(held.task_id, ())
    scores = {"metric": held.metric, "alone": _alone(home, held), "now": None, "exchanges": 0}
    if points:
        scores |= {"now": points[-1].now, "exchanges": points[-1].exchanges}
    return {
        **held.model.describe(),
        "id": held.task_id.hex(),
        "about": held.task.about,
        "epoch": held.result.epoch.number,
        "took_part": took_part,
        "scores": scores,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": version(),
    }


def _alone(home: Path, held: Held) -> float | None:
    """The score without the others, which only a running daemon has at hand."""
    from ..control import Control, ControlError

    try:
        tasks = Control.of(home).get("/status", timeout_s=2.0)["tasks"]
    except ControlError:
        return None
    return next((t["alone"] for t in tasks if t["id"] == held.task_id.hex()), None)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
