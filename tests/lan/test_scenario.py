"""A scenario on hosts of a LAN: the partition of the file is one of cables, and its loss one of packets."""

from __future__ import annotations

from collections.abc import Callable

from scenarios.lan import Lan
from scenarios.live import run_live
from scenarios.scenario import build, cells, parse

FOUR = """
[data]
source = "synthetic"
partition = "dirichlet"
rows = 1200

[peers]
count = 4

[network]
loss = 0.02

[stop]
seconds = 16

[[fault]]
kind = "partition"
at_s = 0.2
until_s = 5
peers = [0, 1]
"""


def test_a_partition_keeps_two_halves_apart_until_it_heals(needs: Callable[[str | None], None]) -> None:
    needs(Lan.why_not())
    world = build(cells(parse(FOUR, "four"))[0], 1)
    found = run_live(world, 1, "lan")
    assert found.verdicts == {"running": "holds", "foreseen": "holds"}
    numbers = {plan.name: number for number, plan in enumerate(world.peers)}
    met = [
        (event["at"], (event["peer"] < 2) != (numbers[event["facts"]["name"]] < 2))
        for event in found.trace
        if event["kind"] == "exchange.committed" and event["facts"]["name"] in numbers
    ]
    assert not any(is_across for at, is_across in met if 0.7 < at < 5)
    assert any(is_across for at, is_across in met if at > 5)
    scores = {peer["score"] for peer in found.peers}
    assert len(scores) == 1, "one model for all"
