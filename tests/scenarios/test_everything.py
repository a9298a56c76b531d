"""Seeds of fault-everything: those that ever failed, and that a run is a function of its seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios.everything import explained, run, world
from scenarios.trace import digest
from scenarios.world import FAULTS, LIARS

ROOT = Path(__file__).parents[2]

SEEDS = [int(line.split()[0]) for line in (ROOT / "tests/seeds.txt").read_text().splitlines() if line and not line.startswith("#")]

SAYS = "from scenarios.everything import run; from scenarios.trace import digest; print(digest(run({seed}).trace))"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_that_once_failed_holds(seed: int) -> None:
    violations = run(seed).violations
    assert not violations, "\n\n".join(map(explained, violations))


def test_one_seed_is_one_trace_whatever_the_hash_seed() -> None:
    here = digest(run(1).trace)
    env = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    there = subprocess.run([sys.executable, "-c", SAYS.format(seed=1)], env=env, capture_output=True, text=True, check=True, cwd=ROOT)
    assert there.stdout.strip() == here


def test_the_seeds_of_ci_hold_every_fault_and_every_lie() -> None:
    worlds = [world(seed) for seed in range(200)]
    assert {fault.kind for w in worlds for fault in w.faults} == set(FAULTS)
    assert {plan.liar for w in worlds for plan in w.peers} == {None, *LIARS}
