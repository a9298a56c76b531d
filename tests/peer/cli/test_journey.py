"""Two devices from nothing to one model, with the commands that people type and the daemons that they start."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two homes, and two files whose columns differ in order and name. Daemons left running are stopped."""
    chance = random.Random(1)
    for name, header in (("pi", "temp,rpm,fault"), ("laptop", "fault,rpm,Temp_C")):
        rows = []
        for i in range(90):
            row = {"fault": "yes" if i % 3 else "no", "rpm": f"{chance.gauss(1500 - 60 * (i % 3), 30):.0f}"}
            row["temp"] = row["Temp_C"] = f"{chance.gauss(60 + 8 * (i % 3), 4):.1f}"
            rows.append(",".join(row[column] for column in header.split(",")))
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    found = tmp_path / "a home", tmp_path / "another home"
    yield found
    for home in found:
        try:
            os.kill(json.loads((home / "control.json").read_text())["pid"], signal.SIGTERM)
        except (FileNotFoundError, ProcessLookupError):
            pass


def on_loopback(home: Path) -> None:
    config = (home / "config.toml").read_text()
    quick = 'port = 0\ninterfaces = ["127.0.0.1"]\nperiod_s = 0.2\n'
    (home / "config.toml").write_text(config.replace("[peer]\n", f"[peer]\n{quick}"))


def test_two_devices_go_from_nothing_to_one_model_and_apart_again(chinwag: Run, homes: tuple[Path, Path], tmp_path: Path) -> None:
    def pi(*words: str) -> Any:
        return chinwag(*words, "--home", str(homes[0]))

    def laptop(*words: str) -> Any:
        return chinwag("--home", str(homes[1]), *words)

    def soon(run: Run, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while not is_so(status := run("status", "--json").json):
            assert time.monotonic() < deadline, status
            time.sleep(0.1)
        return dict(status)

    assert pi("init", "--data", str(tmp_path / "pi.csv"), "--target", "fault", "--name", "kitchen-pi").code == 0
    on_loopback(homes[0])
    assert pi("start", "--background").code == 0
    made = pi("task", "new", "pump-faults", "--model", "lda", "--unit", "temp=°C", "--yes")
    assert made.code == 0, made.err
    link = pi("invite", "--json").json["link"]

    joined = laptop("join", link, "--name", "laptop")
    assert joined.code == 0, joined.err
    assert laptop("join", link).code == 4
    on_loopback(homes[1])
    assert laptop("start", "--background").code == 0
    soon(laptop, lambda s: bool(s["tasks"]))
    refused = laptop("task", "accept", "pump-faults", "--data", str(tmp_path / "laptop.csv"), "--yes")
    assert refused.code == 6
    assert "chinwag --home" in refused.err
    assert "data map pump-faults temp=Temp_C" in refused.err
    mapping = ("--map", "temp=Temp_C")
    accepted = laptop("task", "accept", "pump-faults", "--data", str(tmp_path / "laptop.csv"), "--yes", *mapping)
    assert accepted.code == 0, accepted.err

    for run in (pi, laptop):
        status = soon(run, lambda s: s["tasks"][0]["rows_total"] == 144 and s["tasks"][0]["is_settled"])
        assert status["tasks"][0]["exchanges"] > 0
    assert [peer["name"] for peer in pi("peers", "--json").json["peers"]] == ["laptop"]
    mine = pi("predict", str(tmp_path / "pi.csv")).out.splitlines()
    theirs = laptop("predict", str(tmp_path / "laptop.csv"))
    assert theirs.code == 0
    assert len(mine) == 91
    assert laptop("evaluate", str(tmp_path / "laptop.csv"), "--json").json["score"] > 0.7

    assert laptop("leave", "pump-faults", "--erase").code == 0
    soon(pi, lambda s: s["tasks"][0]["rows_total"] == 72)
    assert laptop("predict", str(tmp_path / "laptop.csv")).code == 1
    assert pi("revoke", "laptop", "--yes").code == 0
    assert pi("peers", "--json").json["peers"][0]["state"] == "revoked"
    for run in (pi, laptop):
        assert run("stop").code == 0
