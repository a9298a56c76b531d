"""A scenario on real daemons does what it does in the simulator; what only the simulator can do is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.control import ControlError
from scenarios import results, runner
from scenarios.live import run_live, why_not
from scenarios.scenario import build, cells, parse

THREE = """
[scenario]
seeds = [1]

[data]
source = "synthetic"
partition = "dirichlet"
rows = 900

[peers]
count = 3

[stop]
seconds = 9
exchanges = 300
sample_every_s = 0.5

[[fault]]
kind = "crash"
at_s = 1.5
until_s = 3.0
peers = [1]
"""


def test_daemons_on_the_loopback_interface_reach_the_pooled_model(tmp_path: Path) -> None:
    found = runner.run(parse(THREE, "three"), tmp_path, on="processes")
    [cell] = found.cells
    assert found.on == cell.on == "processes"
    assert cell.verdicts == {"running": "holds", "foreseen": "holds"}
    assert len(cell.peers) == 3
    for peer in cell.peers:
        assert peer.score == pytest.approx(cell.baselines["pooled"], abs=1e-9)
        assert peer.exchanges > 0
        assert peer.bytes_sent > 0
    assert sum(count for _, _, count in cell.talked) > 3
    assert [sample[0] for sample in cell.samples] == sorted(sample[0] for sample in cell.samples)
    events = results.unpacked((tmp_path / "trace.msgpack").read_bytes())
    assert sum(event.get("kind") == "peer.started" and event["peer"] == 1 for event in events) == 2, "it crashed and came back"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ('[attack]\nkind = "sign_flip"\nshare = 0.4\n', "a liar"),
        ("[network]\nloss = 0.1\n", "loss of packets"),
        ('[[fault]]\nkind = "clock_jump"\nat_s = 1\npeers = [0]\nvalue = 9\n', "the fault clock_jump"),
        ('[[fault]]\nkind = "partition"\nat_s = 1\npeers = [0]\n', "the fault partition"),
    ],
)
def test_what_needs_the_simulator_is_refused_in_a_sentence(more: str, what: str) -> None:
    world = build(cells(parse(THREE + more, "three"))[0], 1)
    assert why_not(build(cells(parse(THREE, "three"))[0], 1), "processes") is None
    with pytest.raises(ControlError, match=what) as caught:
        run_live(world, 1, "processes")
    assert caught.value.exit == 2
