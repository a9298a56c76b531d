"""Every bug that is planted is found by its seed, under the invariant that it breaks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from scenarios.everything import explained, run
from scenarios.invariants import NAMES

spec = importlib.util.spec_from_file_location("planted_bugs", Path(__file__).with_name("bugs.py"))
assert spec is not None
assert spec.loader is not None
bugs = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = bugs
spec.loader.exec_module(bugs)


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_planted_bug_is_found(bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    found = {violation.name: violation for violation in run(bug.seed).violations}
    assert bug.invariant in found, bug.says
    text = explained(found[bug.invariant])
    assert f"replay: python -m scenarios.everything {bug.seed}" in text
    assert 1 < len(text.splitlines()) <= 52


def test_every_invariant_has_a_bug_that_breaks_it() -> None:
    assert {bug.invariant for bug in bugs.BUGS} == set(NAMES)
