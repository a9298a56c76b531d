"""The scenario `fault-everything`: from a seed a small network, its weather, its liars, and every kind of fault, then quiet.

python -m scenarios.everything 17           runs one seed and says what does not hold
python -m scenarios.everything 0-199        runs many, on all cores
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Final

import numpy as np

from peer.learning.dataset import Rows

from .invariants import QUIET_S
from .simulator import Simulation
from .world import FAULTS, LIARS, Fault, Latency, Outcome, PeerPlan, Violation, Weather, World

FAULTY_S: Final = 60.0
"""Seconds in which faults begin; all are over 20 s later."""

LOST_AFTER_S: Final = 15.0

REPLAY: Final = "python -m scenarios.everything"


def world(seed: int) -> World:
    """A network of three to eight peers, mostly with statistics only (weights take ten times as long), and up to a dozen faults."""
    chance = Random(f"fault-everything/{seed}")
    model = chance.choice(("lda", "lda", "gaussian-nb", "ridge", "logistic"))
    count = chance.randint(3, 8)
    liars = [chance.choice(LIARS) if chance.random() < 0.1 and k else None for k in range(count)]
    peers = tuple(
        PeerPlan(
            f"peer-{k}",
            rows(seed * 100 + k, chance.randint(20, 60), model),
            joins_at=chance.choice((0.0, 0.0, 20.0 * chance.random())),
            cpu=chance.choice((1.0, 1.0, 0.2)),
            liar=liars[k],
        )
        for k in range(count)
    )
    weather = Weather(
        Latency(chance.choice((0.5, 5.0, 60.0)), spread=chance.choice((0.0, 0.7)), across=chance.choice((0.0, 0.5))),
        bytes_per_s=chance.choice((None, None, 20_000.0)),
        loss=chance.choice((0.0, 0.02, 0.2)),
    )
    faults = [fault(chance, count) for _ in range(chance.randint(3, 12))]
    return World(
        peers=peers,
        test=rows(seed * 100 + 99, 60, model),
        model=model,
        classes=() if model == "ridge" else ("a", "b", "c"),
        weather=weather,
        faults=tuple(sorted(faults, key=lambda f: f.at)),
        period_s=0.5,
        lost_after_s=LOST_AFTER_S,
        seconds=FAULTY_S + 25.0 + QUIET_S + 2 * LOST_AFTER_S,
        sample_every_s=5.0,
        sync_ms=chance.choice((0.0, 2.0, 30.0)),
        introductions=0,
    )


def rows(seed: int, count: int, model: str) -> Rows:
    """Three clouds in four dimensions, or numbers that depend on them."""
    draw = np.random.Generator(np.random.PCG64(seed))
    kind = draw.integers(0, 3, count)
    x = draw.normal(size=(count, 4)) + 2.0 * np.eye(3, 4)[kind]
    return Rows(x, x.sum(axis=1) + 0.1 * draw.normal(size=count) if model == "ridge" else kind)


def fault(chance: Random, count: int) -> Fault:
    """Any kind, with a minority of the peers, for up to 20 s."""
    at = 5.0 + (FAULTY_S - 5.0) * chance.random()
    until = at + 20.0 * chance.random()
    peers = tuple(sorted(chance.sample(range(count), chance.randint(1, max(count // 2, 1)))))
    kind = chance.choice(FAULTS)
    value: float | None = None
    match kind:
        case "crash":
            value = float(chance.random() < 0.7)
            return Fault(at, kind, peers, until if chance.random() < 0.9 else None, value)
        case "clock_jump":
            value = chance.choice((-30.0, -1.0, 1.0, 30.0))
        case "clock_drift":
            value = chance.uniform(-0.02, 0.02)
        case "slow_cpu":
            value = chance.uniform(0.02, 0.5)
        case "leave":
            value = float(chance.random() < 0.5)
            return Fault(at, kind, peers, until if chance.random() < 0.6 else None, value)
        case "rows_change":
            value = chance.uniform(0.5, 0.9)
        case "cut":
            value = chance.uniform(0.2, 1.0)
    return Fault(at, kind, peers, until, value)


def run(seed: int) -> Outcome:
    return Simulation(world(seed), seed).run()


def explained(violation: Violation) -> str:
    """A violation for whoever has to find out why: the command that shows it again, and what happened before."""
    lines = [f"{violation.name} does not hold at {violation.at} s: {violation.says}", f"replay: {REPLAY} {violation.seed}"]
    for event in violation.events:
        facts = " ".join(f"{k}={_short(v)}" for k, v in event["facts"].items())
        lines.append(f"  {event['at']:>12.6f}  {event['peer']:>3}  {event['kind']}  {facts}")
    return "\n".join(lines)


def _short(value: object) -> str:
    return text if len(text := str(value)) <= 16 else text[:15] + "…"


def _told(seed: int) -> tuple[int, list[str]]:
    return seed, [explained(v) for v in run(seed).violations]


def soak(seeds: Iterable[int], tell: Callable[[str], None]) -> list[int]:
    """Run seeds on all cores; those that failed, each explained."""
    failed = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for seed, says in pool.map(_told, seeds, chunksize=4):
            for text in says:
                tell(f"seed {seed}: {text}\n")
            if says:
                failed.append(seed)
    return failed


def main(words: list[str]) -> int:
    seeds: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    failed = soak(seeds, print)
    print(f"{len(seeds)} seeds, {len(failed)} failed" + (": " + " ".join(map(str, failed)) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
