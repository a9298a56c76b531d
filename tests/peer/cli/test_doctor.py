from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peer import doctor
from peer.doctor import Check

Run = Callable[..., Any]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the doctor finds; and what it was told of this device lies in `checks.asked`."""

    class Found(list[Check]):
        asked: dict[str, Any]

    found = Found([Check("python", True, "Python 3.13.")])

    async def run_checks(home: Path, port: int, interfaces: Any = "auto", **more: Any) -> list[Check]:
        found.asked = {"port": port, "interfaces": interfaces} | more
        return list(found)

    monkeypatch.setattr(doctor, "run_checks", run_checks)
    return found


def test_a_device_on_which_all_is_well_ends_with_0(chinwag: Run, checks: Any) -> None:
    ran = chinwag("doctor")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "✓ python: Python 3.13.")


def test_what_is_in_the_way_comes_with_what_to_type_and_ends_with_5(chinwag: Run, checks: Any) -> None:
    checks.append(Check("firewall", False, "It is shut.", "sudo ufw allow 8786/tcp"))
    ran = chinwag("doctor")
    assert ran.code == 5
    assert "✗ firewall: It is shut.\n    next: sudo ufw allow 8786/tcp\n" in ran.out
    assert chinwag("doctor", "--json").json["checks"][1]["next"] == "sudo ufw allow 8786/tcp"


def test_before_init_it_looks_with_what_init_would_set(chinwag: Run, checks: Any) -> None:
    chinwag("doctor")
    assert checks.asked == {"port": 8786, "interfaces": "auto"}


def test_it_knows_this_peers_settings_certificate_and_daemon(chinwag: Run, checks: Any, home: Path, daemon: Any, sample: Any) -> None:
    (home / "identity").rmdir()
    chinwag("init")
    text = (home / "config.toml").read_text()
    (home / "config.toml").write_text(text.replace("[peer]\n", '[peer]\nport = 0\ninterfaces = ["eth9"]\ndiscovery = ["static"]\n'))
    daemon.says("GET /status", sample.status(port=40_000, pid=77))
    chinwag("doctor")
    asked = checks.asked
    assert (asked["port"], asked["interfaces"], asked["daemon"], asked["uses_mdns"]) == (40_000, ("eth9",), 77, False)
    assert asked["validity"][1] - asked["validity"][0] > 86_400
    assert len(asked["tag"]) == 16


def test_settings_that_cannot_be_read_are_one_of_the_findings(chinwag: Run, checks: Any, home: Path) -> None:
    chinwag("init")
    (home / "config.toml").write_text("[peer]\nname = 5\n")
    ran = chinwag("doctor")
    assert ran.code == 5
    assert "✗ config:" in ran.out
