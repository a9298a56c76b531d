"""`chinwag scenario`, as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import chinwag
from peer.cli.screen import Screen, Settings
from scenarios.progress import Progress, duration
from scenarios.scenario import names

ROOT = Path(__file__).parents[2]

TINY = """
[scenario]
seeds = [1, 2]
[data]
source = "synthetic"
rows = 400
[peers]
count = 3
[protocol]
model = ["lda", "gaussian-nb"]
[stop]
seconds = 2
"""

FAILS = """
[[finding]]
says = "Pigs fly."
measure = "mean"
at_least = 2.0
"""


@pytest.fixture
def type_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)

    def chinwag_scenario(*words: str) -> tuple[int, str, str]:
        code = chinwag.main(["scenario", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return chinwag_scenario


def test_from_a_file_to_a_table_and_a_report(type_in: Any, tmp_path: Path) -> None:
    code, out, err = type_in("run", "tiny.toml", "--jobs", "1")
    assert code == 0, err
    assert "2 cells, 2 seeds, 4 runs" in err
    assert "100 %" in err
    assert "model=lda" in out
    for name in ("scenario.toml", "result.json", "metrics.csv", "trace.msgpack", "report.html"):
        assert (tmp_path / "runs" / "tiny" / name).stat().st_size > 0
    code, out, _ = type_in("compare", "runs/tiny", "--against", "protocol.model=lda", "--csv", "table.csv")
    assert code == 0
    assert "− reference" in out.splitlines()[0]
    assert (tmp_path / "table.csv").read_text().startswith("run,cell,axes,method")
    code, out, _ = type_in("compare", "runs/tiny", "--json")
    assert [json.loads(line)["axes"] for line in out.splitlines()] == [{"protocol.model": "lda"}, {"protocol.model": "gaussian-nb"}]
    (tmp_path / "runs/tiny/report.html").unlink()
    assert type_in("report", "runs/tiny")[0] == 0
    assert (tmp_path / "runs/tiny/report.html").exists()
    code, out, _ = type_in("replay", "runs/tiny", "--seed", "2", "--last", "3")
    assert code == 0
    assert "the same bytes as then" in out
    code, _, err = type_in("run", "tiny.toml")
    assert code == 2
    assert "--resume" in err
    assert type_in("run", "tiny.toml", "--resume", "--quiet")[0] == 0


def test_a_finding_that_does_not_hold_is_exit_code_1_and_says_how_to_see_it_again(type_in: Any, tmp_path: Path) -> None:
    (tmp_path / "pigs.toml").write_text(TINY + FAILS)
    code, _, err = type_in("run", "pigs.toml", "--seed", "7", "--out", "here", "--jobs", "1")
    assert code == 1
    assert "Pigs fly.: mean is" in err
    [again] = {line.strip() for line in err.splitlines() if "replay" in line and "lda" in line}
    assert again == "again: chinwag scenario replay here --cell 'protocol.model=lda' --seed 7"
    code, _, err = type_in("replay", "here", "--cell", "protocol.model=lda", "--seed", "7", "--json")
    assert code == 1


def test_a_new_file_is_a_copy_to_change(type_in: Any, tmp_path: Path) -> None:
    assert type_in("new", "mine", "--from", "lossy-wifi")[0] == 0
    assert (tmp_path / "mine.toml").read_text() == (ROOT / "scenarios" / "lossy-wifi.toml").read_text()
    code, _, err = type_in("new", "mine")
    assert (code, "is there already" in err) == (2, True)


def test_the_list_names_every_scenario_that_is_shipped(type_in: Any) -> None:
    code, out, _ = type_in("list", "--json")
    assert code == 0
    assert [json.loads(line)["name"] for line in out.splitlines()] == names()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("run", "frist-light"), 2, "first-light"),
        (("run", "tiny.toml", "--on-cluster", "nowhere"), 5, "No dask scheduler answers"),
        (("compare", "nothing"), 6, "There are no results in nothing"),
        (("replay", "tiny.toml", "--cell", "x"), 2, "There is no cell 'x'"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(type_in: Any, words: tuple[str, ...], code: int, says: str) -> None:
    found, _, err = type_in(*words)
    assert found == code, err
    assert says in err
    assert "Traceback" not in err


def test_help_loads_no_numpy_and_a_peer_no_scenarios() -> None:
    program = "import chinwag, sys; chinwag.main(['scenario', '--help']); print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    loaded = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert "scenarios.cli" in loaded
    assert {"numpy", "scenarios.runner", "rich"}.isdisjoint(loaded)
    program = "from peer.cli import main; import sys; main(['status', '--home', '/nonexistent']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert "peer.cli.status" in loaded
    assert not [name for name in loaded if name.startswith("scenarios")]


def test_the_time_left_is_that_of_the_work_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    with Progress(Screen(Settings()), 80.0, clock=lambda: now[0]) as progress:
        assert progress.left_s is None
        progress.kept(20.0)
        assert progress.left_s is None, "what was there says nothing of how fast this goes"
        now[0] += 10.0
        progress.ended(20.0, "first")
        assert progress.left_s == pytest.approx(20.0)
        now[0] += 30.0
        progress.ended(40.0, "second")
        assert progress.left_s == 0.0
    assert capsys.readouterr().err.splitlines() == [" 50 %  first  20 s left", "100 %  second"]
    assert [duration(seconds) for seconds in (5, 300, 9000)] == ["5 s", "5 min", "2.5 h"]
