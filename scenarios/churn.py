"""Who is there when: a synthetic day of phones, and any trace of a measurement.

Phones are on when they charge in a Wi-Fi, most of them at night, and the nights are not the same for all. Here the chance of being on
swings about its mean over a day, a phone's own night lies within three time zones, and sessions last an exponential time: the shape, not
the numbers, of what Hegedűs, Danner and Jelasity measured (JPDC 2021).
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Final

import numpy as np

from .settings import Churn

Absence = tuple[int, float, float | None]
"""Peer, from when, until when it is off (None: to the end)."""

SWING: Final = 0.8
"""How far the chance of being on swings about its mean, as a share of it: at noon a fifth of the mean is on."""

ZONES: Final = 0.125
"""Spread of the phones' nights, in days."""

STEPS_A_SESSION: Final = 10
"""Looks at a phone in one mean session; finer steps change nothing that one could measure."""


class BadTrace(Exception):
    """A trace of churn cannot be used: a sentence."""


def absences(churn: Churn, count: int, seconds: float, folder: str, chance: np.random.Generator) -> list[Absence]:
    """When who is off. Raises BadTrace."""
    end = seconds if churn.until_s is None else min(churn.until_s, seconds)
    match churn.kind:
        case "none":
            return []
        case "phones":
            return [absence for k in range(count) for absence in _phone(k, churn, end, end < seconds, chance)]
    if churn.trace is None:
        raise BadTrace("[churn] trace names the CSV file that says who is there when; kind = 'trace' needs it.")
    return _read(Path(folder) / churn.trace, count, end, end < seconds)


def _phone(k: int, churn: Churn, end: float, comes_back: bool, chance: np.random.Generator) -> list[Absence]:
    night = chance.uniform(-ZONES, ZONES)
    step = churn.session_s / STEPS_A_SESSION

    def share(at: float) -> float:
        swung = churn.online * (1.0 + SWING * math.cos(2.0 * math.pi * (at / churn.day_s - night)))
        return min(max(swung, 0.01), 0.99)

    found: list[Absence] = []
    is_on, off_at = bool(chance.random() < share(0.0)), 0.0
    for n in range(1, math.ceil(end / step)):
        at = n * step
        # Stationary at share(at), with a mean stay of session_s where that is on.
        leaves, comes = 1.0 / STEPS_A_SESSION, share(at) / (1.0 - share(at)) / STEPS_A_SESSION
        if chance.random() < min(leaves if is_on else comes, 1.0):
            is_on = not is_on
            if is_on:
                found.append((k, off_at, at))
            else:
                off_at = at
    return found if is_on else [*found, (k, off_at, end if comes_back else None)]


def _read(path: Path, count: int, end: float, comes_back: bool) -> list[Absence]:
    """The gaps between the times for which peers are on."""
    times: dict[int, list[tuple[float, float]]] = {k: [] for k in range(count)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), 2):
                peer, on, off = int(row["peer"]), float(row["on_s"]), float(row["off_s"])
                if peer not in times or not 0.0 <= on < off:
                    raise BadTrace(f"{path}, line {line}: peer {peer} of {count}, on from {on:g} to {off:g} s.")
                times[peer].append((on, off))
    except OSError as error:
        raise BadTrace(f"{path} cannot be read: {error.strerror}.") from None
    except (KeyError, TypeError, ValueError):
        raise BadTrace(f"{path} needs the columns peer, on_s and off_s, and a number in each.") from None
    found: list[Absence] = []
    for peer, spans in times.items():
        off_at = 0.0
        for on, off in sorted(spans):
            if off_at < on and off_at < end:
                found.append((peer, off_at, min(on, end) if on < end or comes_back else None))
            off_at = max(off_at, off)
        if off_at < end:
            found.append((peer, off_at, end if comes_back else None))
    return found
