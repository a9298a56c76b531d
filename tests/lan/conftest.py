"""Real hosts for tests: the `lan` fixture. See docs/lan.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scenarios.lan import Lan
from scenarios.village import Device


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lan)


def need(what_is_missing: str | None) -> None:
    """Go on only if nothing is missing. Where nothing may be missing, as in CI, tests/conftest.py makes a failure of the skip."""
    if what_is_missing is not None:
        pytest.skip(what_is_missing)


@pytest.fixture
def lan() -> Iterator[Callable[[int], Lan]]:
    """A factory: `lan(8)` is a LAN of eight hosts that is taken down, with all its processes, when the test ends."""
    need(Lan.why_not())
    with ExitStack() as stack:
        yield lambda hosts: stack.enter_context(Lan(hosts))


@pytest.fixture
def needs() -> Callable[[str | None], None]:
    """`needs(sentence or None)`: skip with the sentence."""
    return need


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], tuple[Lan, list[Device]]]]:
    """A factory: `village(3)` is a LAN of three devices without a home yet, for all tests of a module. No daemon may have failed in it."""
    need(Lan.why_not())
    folder = tmp_path_factory.mktemp("village")
    devices: list[Device] = []

    def settle(hosts: int) -> tuple[Lan, list[Device]]:
        lan = stack.enter_context(Lan(hosts))
        devices.extend(Device(host, folder / host.name) for host in lan.hosts)
        return lan, devices

    with ExitStack() as stack:
        yield settle
    for device in devices:
        assert not device.log.exists() or "raceback" not in device.log.read_text(), device.last_words()
