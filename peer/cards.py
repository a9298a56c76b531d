"""Task cards for people: what is on one, and what leaves a device that takes part."""

from __future__ import annotations

from typing import Any

from protocol.tasks import Task

from .learning.moments import layout


def describe(task_id: bytes, task: Task) -> dict[str, Any]:
    """Everything on a card, as plain JSON values."""
    return {
        "id": task_id.hex(),
        "name": task.name,
        "about": task.about,
        "model": task.model,
        "alpha": task.alpha,
        "columns": [{"name": c.name, "unit": c.unit, "low": c.low, "high": c.high, "is_gappy": c.is_gappy} for c in task.columns],
        "target": task.target.name,
        "classes": list(task.target.classes),
        "thresholds": {"min_rows": task.thresholds.min_rows, "min_peers": task.thresholds.min_peers},
        "encoding": task.encoding,
        "privacy": task.privacy,
        "author": task.author.hex(),
        "created": task.created,
        "ends": task.ends,
        "leaves": leaves(task),
    }


def leaves(task: Task) -> str:
    """What taking part lets out of this device, in plain words."""
    sums, *weights = [layout(task, part).size("f64") // 8 for part in task.parts]
    trained = f", and {weights[0]:,} weights trained on them" if weights else ""
    return (
        f"{sums:,} sums over this device's rows per exchange, never a row itself{trained}. "
        "Open mode: the first partner in an epoch sees this device's own sums; after that they are mixed with others'."
    )
