"""Real hosts for tests: the `lan` fixture. See docs/lan.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scenarios.lan import Lan

REQUIRE = "CHINWAG_REQUIRE_LAN"
"""Set to 1 where the tests of this folder must run, as in CI: there what is missing is a failure."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lan: needs network namespaces (Linux, as root or with user namespaces)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lan)


def need(what_is_missing: str | None) -> None:
    """Go on only if nothing is missing: else skip, or fail where it must not be missing."""
    if what_is_missing is None:
        return
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{REQUIRE}=1, but {what_is_missing}")
    pytest.skip(what_is_missing)


@pytest.fixture
def lan() -> Iterator[Callable[[int], Lan]]:
    """A factory: `lan(8)` is a LAN of eight hosts that is taken down, with all its processes, when the test ends."""
    need(Lan.why_not())
    with ExitStack() as stack:
        yield lambda hosts: stack.enter_context(Lan(hosts))


@pytest.fixture
def needs() -> Callable[[str | None], None]:
    """`needs(sentence or None)`: skip with the sentence, or fail where everything must be present."""
    return need
