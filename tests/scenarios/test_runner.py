"""Running a scenario: the same bytes wherever it runs, nothing finished is lost, and what lies on disk reads back as it was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import chinwag
from peer.control import ControlError
from scenarios import replaying, results, runner
from scenarios.runner import Places
from scenarios.scenario import Scenario, cells, load, parse

TINY = """
[scenario]
about = "Four peers, a crash, two seeds."
seeds = [1, 2]

[data]
source = "synthetic"
partition = "dirichlet"
alpha = [0.1, 10.0]
rows = 400

[peers]
count = 4

[stop]
seconds = 3

[[fault]]
kind = "crash"
at_s = 1.0
until_s = 2.0
peers = [1]

[[finding]]
says = "Together they are better than alone."
measure = "mean"
minus = "alone"
at_least = 0.0
"""


@pytest.fixture(scope="module")
def tiny() -> Scenario:
    return parse(TINY, "tiny")


@pytest.fixture(scope="module")
def done(tiny: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    runner.run(tiny, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Watcher:
    def __init__(self) -> None:
        self.all_kept: list[float] = []
        self.all_ended: list[str] = []

    def kept(self, cost: float) -> None:
        self.all_kept.append(cost)

    def ended(self, cost: float, what: str) -> None:
        self.all_ended.append(what)


def test_what_is_read_back_is_what_was_found(tiny: Scenario, done: Path) -> None:
    found = results.load(done)
    assert [(cell.cell, cell.seed) for cell in found.cells] == [(cell.name, seed) for cell in cells(tiny) for seed in (1, 2)]
    again, _ = runner.run_cell(cells(tiny)[1], 2)
    assert found.cells[3] == again
    assert (done / "scenario.toml").read_text() == TINY


def test_result_json_holds_everybodys_score_the_baselines_and_every_verdict(done: Path) -> None:
    for cell in json.loads((done / "result.json").read_bytes())["cells"]:
        assert {peer["name"] for peer in cell["peers"]} == {f"peer-{k}" for k in range(4)}
        assert all(peer["score"] is not None and peer["bytes_sent"] > 0 and peer["exchanges"] > 0 for peer in cell["peers"])
        assert set(cell["baselines"]) == {"alone", "pooled", "fedavg", "scaffold"}
        assert cell["verdicts"]
        assert set(cell["verdicts"].values()) == {"holds"}
        assert cell["findings"] == {"Together they are better than alone.": "holds"}
        assert sum(count for _, _, count in cell["talked"]) > 0


def test_processes_give_the_same_bytes_as_one(tiny: Scenario, done: Path, tmp_path: Path) -> None:
    runner.run(tiny, tmp_path, places=Places(jobs=2))
    assert files(tmp_path) == files(done)


@pytest.mark.parametrize("hashseed", ["0", "4711"])
def test_a_cell_does_not_depend_on_the_hash_seed(done: Path, hashseed: str) -> None:
    program = (
        "import sys, hashlib, msgspec; from scenarios import runner, results; from scenarios.scenario import parse, cells;"
        "found, trace = runner.run_cell(cells(parse(sys.stdin.read(), 'tiny'))[0], 1);"
        "print(*(hashlib.sha256(b).hexdigest() for b in results.cell_files(found, trace).values()))"
    )
    environment = os.environ | {"PYTHONHASHSEED": hashseed, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run([sys.executable, "-c", program], input=TINY, env=environment, capture_output=True, text=True, check=True).stdout
    stored = results.stored_bytes(done, ("data.alpha=0.1", 1))
    assert stored is not None
    assert said.split() == [hashlib.sha256(content).hexdigest() for content in stored.values()]


def test_resume_computes_only_what_is_missing_and_ends_with_the_same_bytes(tiny: Scenario, done: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    class Interrupted(Watcher):
        def ended(self, cost: float, what: str) -> None:
            super().ended(cost, what)
            if len(self.all_ended) == 2:
                raise Enough

    with pytest.raises(Enough):
        runner.run(tiny, tmp_path, watcher=Interrupted())
    watcher = Watcher()
    runner.run(tiny, tmp_path, is_resumed=True, watcher=watcher)
    assert len(watcher.all_kept) == 2
    assert len(watcher.all_ended) == 2
    assert files(tmp_path) == files(done)


def test_a_cell_that_was_half_written_is_computed_again(tiny: Scenario, done: Path, tmp_path: Path) -> None:
    runner.run(tiny, tmp_path, seeds=[1])
    [whole, *_] = sorted(tmp_path.glob("cells/*/1/result.json"))
    whole.write_bytes(whole.read_bytes()[:-100])
    watcher = Watcher()
    runner.run(tiny, tmp_path, seeds=[1], is_resumed=True, watcher=watcher)
    assert len(watcher.all_ended) == 1


def test_results_of_another_run_are_left_alone(tiny: Scenario, done: Path) -> None:
    before = files(done)
    with pytest.raises(ControlError, match="earlier run"):
        runner.run(tiny, done)
    with pytest.raises(ControlError, match="another version"):
        runner.run(parse(TINY.replace("400", "500"), "tiny"), done, is_resumed=True)
    assert files(done) == before


def test_a_worker_with_another_version_is_refused(tiny: Scenario) -> None:
    with pytest.raises(ControlError, match=r"This worker has Chinwag"):
        runner.cell_bytes("0.0.7", tiny.text, tiny.name, tiny.folder, 0, 1, "sim")
    job = (chinwag.__version__, tiny.text, tiny.name, tiny.folder, 0, 1, "sim")
    found, trace = msgspec.msgpack.decode(runner.cell_bytes(*job), type=tuple[results.CellResult, bytes])
    assert found.key == ("data.alpha=0.1", 1)
    assert results.unpacked(trace)


def test_a_replay_says_whether_the_bytes_are_the_same(done: Path, tmp_path: Path, tiny: Scenario) -> None:
    again = replaying.replay(str(done), 2, "data.alpha=10")
    assert again.is_same is True
    assert again.events[-1]["at"] > 0
    runner.run(tiny, tmp_path, seeds=[1])
    [trace] = tmp_path.glob("cells/data.alpha=10/1/trace.msgpack")
    trace.write_bytes(trace.read_bytes() + b"\x80")
    assert replaying.replay(str(tmp_path), 1, "data.alpha=10").is_same is False
    with pytest.raises(ControlError, match="There is no cell"):
        replaying.replay(str(done), 1, "alpha")


def test_own_files_are_found_again_at_a_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(2):
        rows = "".join(f"{i % 7 + k},{i % 5},{'yes' if i % 3 else 'no'}\n" for i in range(80))
        (tmp_path / f"site-{k}.csv").write_text("x,y,leak\n" + rows)
    (tmp_path / "sites.toml").write_text(
        '[scenario]\nseeds = [1]\n[data]\nsource = "site-*.csv"\ntarget = "leak"\npartition = "files"\n[stop]\nseconds = 2\n'
    )
    runner.run(load(tmp_path / "sites.toml"), tmp_path / "out")
    monkeypatch.chdir("/")
    assert replaying.replay(str(tmp_path / "out"), None, None).is_same is True


def test_the_trace_of_all_cells_names_the_cell_before_its_events(done: Path) -> None:
    events = results.unpacked((done / "trace.msgpack").read_bytes())
    heads = [event for event in events if "seed" in event]
    assert [(head["cell"], head["seed"]) for head in heads] == [(cell.cell, cell.seed) for cell in results.load(done).cells]


def test_an_exchange_counts_once_though_both_tell_of_it() -> None:
    def told(peer: int, name: str, xid: str) -> dict[str, Any]:
        return {"at": 0.0, "peer": peer, "kind": "exchange.committed", "facts": {"name": name, "xid": xid}}

    trace = [told(0, "b", "1"), told(1, "a", "1"), told(1, "a", "2"), told(2, "b", "3"), {"at": 0, "peer": 0, "kind": "x", "facts": {}}]
    assert runner.talked(trace, ["a", "b", "c"]) == ((0, 1, 2), (1, 2, 1))


def test_results_that_are_not_there_are_missed_in_words(tmp_path: Path) -> None:
    with pytest.raises(results.ResultsError, match="There are no results"):
        results.load(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "metrics.csv").write_text("a,b\n")
    with pytest.raises(results.ResultsError, match="cannot be read"):
        results.load(tmp_path)


def test_a_notebook_says_the_same_as_the_file(tmp_path: Path) -> None:
    skew = chinwag.Scenario(
        "skew",
        data={"source": "synthetic", "rows": 400, "partition": "dirichlet", "alpha": [0.1, 1.0]},
        peers={"count": 3},
        stop={"seconds": 2.0},
        fault=[{"kind": "crash", "at_s": 1.0, "until_s": 1.5, "peers": [0]}],
        seeds=[1],
    )
    assert parse(skew.text, "skew").faults[0].kind == "crash"
    run = skew.run(tmp_path)
    assert [record["axes"] for record in run.records()] == [{"data.alpha": 0.1}, {"data.alpha": 1.0}]
    assert run == chinwag.Run.load(tmp_path)
    assert "alpha=0.1" in repr(run)
    assert "<td>alpha=0.1</td>" in run._repr_html_()
    assert (tmp_path / "report.html").stat().st_size > 1000
