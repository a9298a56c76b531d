"""What a LAN does to daemons, and what they must keep through it: exactly the rows of those who take part, each counted once.

Four devices, one `lda` task, and one fault after the other. The tests share the devices and follow upon each other, as faults do.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from peer.learning.models import Classifier, fit
from peer.saved import HoldState, KeepResult
from protocol.cards import open_card
from protocol.tasks import Task
from protocol.wire import decode
from scenarios.lan import Lan
from scenarios.village import Device, become_members, until

TASK = "leaks"
CLASSES = ("high", "low", "none")
COLUMNS = ("a", "b", "c", "d")

PATIENCE_S = 90.0
"""After a fault: TCP may wait half a minute before it tries again."""

pytestmark = pytest.mark.timeout(300)


class Rows:
    """One device's file: four columns and a target of three classes."""

    def __init__(self, folder: Path, seed: int) -> None:
        chance = np.random.default_rng(seed)
        count = 60 + 10 * seed
        kind = chance.integers(3, size=count)
        self.y = np.array(CLASSES)[kind]
        self.X = np.eye(4)[kind] + chance.normal(size=(count, 4)) @ (np.eye(4) + 0.4)
        self.path = folder / f"{seed}.csv"
        lines = [",".join(map(str, [*x, y])) for x, y in zip(self.X.tolist(), self.y, strict=True)]
        self.path.write_text("\n".join([",".join([*COLUMNS, "leak"]), *lines]) + "\n")

    def moments(self) -> dict[str, NDArray[np.float64]]:
        """The sums that this device contributes, from their definition."""
        member = self.y[:, None] == np.array(CLASSES)
        second = (self.X.T @ self.X)[np.triu_indices(4)]
        return {"rows": np.array(float(len(self.y))), "counts": member.sum(0), "sums": member.T @ self.X, "second": second}


@dataclass
class Village:
    """The devices, and the rows that each has now: what all of them should have learned."""

    lan: Lan
    devices: list[Device]
    folder: Path
    files: int = 0
    rows: dict[str, Rows] = field(default_factory=dict)

    def new_rows(self, device: Device) -> Rows:
        self.files += 1
        self.rows[device.host.name] = Rows(self.folder, self.files)
        return self.rows[device.host.name]

    def change_rows(self, device: Device) -> None:
        """Give a device another file, so that all have something new to agree on."""
        device.chinwag("task", "accept", TASK, "--data", str(self.new_rows(device).path), "--holdout", "0", "--yes")

    def agree(self, devices: Sequence[Device], patience_s: float = PATIENCE_S) -> None:
        """Wait until every one of these has published what all their rows in one place would give, to 1e-9."""
        rows = [self.rows[device.host.name] for device in devices]
        expected = {name: sum(r.moments()[name] for r in rows) for name in rows[0].moments()}
        for device in devices:
            until(
                lambda d=device: (r := published(d)) is not None and apart(total(r), expected) <= 1e-9,
                lambda d=device: f"{d.host.name} holds {published(d)}\nnot {expected}\n{d.last_words()}",
                patience_s,
            )
        X, y = np.concatenate([r.X for r in rows]), np.concatenate([r.y for r in rows])
        pooled = LinearDiscriminantAnalysis().fit(X, y)
        for device in devices:
            result = published(device)
            assert result is not None
            model = fit(card(device), result.arrays)
            assert isinstance(model, Classifier)
            assert np.abs(model.predict_proba(X) - pooled.predict_proba(X)).max() <= 1e-9
            assert round(1 / float(result.arrays["starter"])) == len(devices)


def published(device: Device) -> KeepResult | None:
    return next(iter(device.saved().results.values()), None)


def total(result: KeepResult) -> dict[str, Any]:
    """A published average times the number of peers that it is over."""
    return {name: array / result.arrays["starter"] for name, array in result.arrays.items() if name != "starter"}


def apart(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest relative difference of any sum."""
    return max(float(np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name])) for name in expected)


def card(device: Device) -> Task:
    [kept] = device.saved().tasks.values()
    return decode(Task, open_card("task", kept.card)[1])


def epoch(device: Device) -> tuple[int, bytes]:
    return held(device, "statistics").epoch


def held(device: Device, part: str) -> HoldState:
    return next(state for (_, name), state in device.saved().states.items() if name == part)


@pytest.fixture(scope="module")
def village_of_four(village: Callable[[int], tuple[Lan, list[Device]]], tmp_path_factory: pytest.TempPathFactory) -> Village:
    """Four members; the first three take part in the task, the fourth has not been switched on yet."""
    lan, devices = village(4)
    four = Village(lan, devices, tmp_path_factory.mktemp("rows"))
    become_members(devices, period_s=0.1)
    for device in devices[:3]:
        device.start()
    for device in devices[:3]:
        device.wait_until_up()
    options = ("--holdout", "0", "--yes", "--data")
    devices[0].chinwag(
        "task", "new", TASK, "--model", "lda", "--target", "leak", "--no-gaps", *options, str(four.new_rows(devices[0]).path)
    )
    for device in devices[1:3]:
        until_offered(device)
        device.chinwag("task", "accept", TASK, *options, str(four.new_rows(device).path))
    return four


def until_offered(device: Device) -> None:
    until(lambda: device.happened("task.offered"), device.last_words)


def test_a_device_that_comes_late_is_taken_in_by_the_running_epoch(village_of_four: Village) -> None:
    *early, late = village_of_four.devices
    village_of_four.agree(early)
    before = epoch(early[0])
    late.start()
    late.wait_until_up()
    until_offered(late)
    village_of_four.change_rows(late)
    village_of_four.agree([*early, late])
    assert {epoch(device) for device in [*early, late]} == {before}


# killed ------------------------------------------------------------------------------------------------------------------------


def test_daemons_killed_amid_exchanges_come_back_with_nothing_lost_and_nothing_applied_twice(village_of_four: Village) -> None:
    devices = village_of_four.devices
    chance = random.Random(3)
    before = epoch(devices[0])
    in_doubt = 0
    for turn in range(10):
        village_of_four.change_rows(chance.choice(devices))
        if turn % 2:
            time.sleep(chance.random())
            victim = chance.choice(devices)
        else:
            victim = someone_committing(devices, is_initiator=turn % 4 == 0)
        victim.kill()
        others = [device for device in devices if device is not victim]
        for device in others:
            device.freeze()
        in_doubt += assert_conserved(devices)
        for device in others:
            device.thaw()
        victim.start()
        victim.wait_until_up()
    village_of_four.agree(devices)
    assert {epoch(device) for device in devices} == {before}, "a daemon that was away for a second is no reason for a new epoch"
    assert in_doubt > 0, "no kill fell between a COMMIT and its DONE"
    assert_conserved(devices)
    until(lambda: not any(device.saved().prepared for device in devices), lambda: "an exchange stays in doubt")


def someone_committing(devices: Sequence[Device], *, is_initiator: bool) -> Device:
    """Wait until some device has made its half of an exchange durable; that device, or its partner, at that very moment."""
    by_id = {device.identity().peer: device for device in devices}
    with closing(Halves(devices)) as halves:
        initiator, partner = until(halves.look, lambda: "no exchange within a minute", every_s=0.0)
    return initiator if is_initiator else by_id[partner]


class Halves:
    """Looks into the stores for halves in doubt, quickly enough to see one before it is settled."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._stores = [(device, sqlite3.connect(f"file:{device.home}/state.db?mode=ro", uri=True)) for device in devices]

    def look(self) -> tuple[Device, bytes] | None:
        for device, store in self._stores:
            if row := store.execute("SELECT partner FROM prepared").fetchone():
                return device, row[0]
        return None

    def close(self) -> None:
        for _, store in self._stores:
            store.close()


def assert_conserved(devices: Sequence[Device]) -> int:
    """What all hold together, halves counted that are decided but not yet added, is the sum of their own moments and one starter's mark.

    Returns how many halves are in doubt.
    """
    stores = {device.identity().peer: device.saved() for device in devices}
    [task] = {task for saved in stores.values() for task in saved.tasks}
    assert len({saved.states[task, "statistics"].epoch for saved in stores.values()}) == 1
    together: dict[str, Any] = dict.fromkeys(next(iter(stores.values())).states[task, "statistics"].arrays, 0.0)
    own, size = together | {"starter": 1.0}, dict(together)
    for peer, saved in stores.items():
        arrays = [saved.states[task, "statistics"].arrays]
        arrays += [half.delta for half in saved.prepared.values() if stores[half.partner].applied.get((peer, task, half.part)) == half.xid]
        for name in together:
            together[name] = together[name] + sum(a[name] for a in arrays)
            own[name] = own[name] + saved.states[task, "own"].arrays[name]
            size[name] = size[name] + np.abs(saved.states[task, "own"].arrays[name]).sum() + float(name == "starter")
    for name in together:
        assert np.abs(together[name] - own[name]).max() <= 1e-9 * size[name], name
    return sum(len(saved.prepared) for saved in stores.values())


# the wire ----------------------------------------------------------------------------------------------------------------------


def test_after_a_partition_of_30_seconds_all_agree_again(village_of_four: Village) -> None:
    lan, devices = village_of_four.lan, village_of_four.devices
    village_of_four.agree(devices)
    lan.partition([device.host for device in devices[:2]])
    healed_at = time.monotonic() + 30
    for device in (devices[1], devices[2]):
        village_of_four.change_rows(device)
    with pytest.raises(AssertionError):
        village_of_four.agree(devices, healed_at - time.monotonic())
    lan.heal()
    village_of_four.agree(devices)


def test_with_a_tenth_of_all_packets_lost_all_agree(village_of_four: Village) -> None:
    for device in village_of_four.devices:
        device.host.lossy(10)
    for device in village_of_four.devices[::2]:
        village_of_four.change_rows(device)
    village_of_four.agree(village_of_four.devices)
    village_of_four.lan.heal()


def test_over_a_link_of_1_megabit_all_agree(village_of_four: Village) -> None:
    devices = village_of_four.devices
    devices[2].host.slow(1000)
    village_of_four.change_rows(devices[2])
    village_of_four.change_rows(devices[0])
    village_of_four.agree(devices)
    village_of_four.lan.heal()


# gone --------------------------------------------------------------------------------------------------------------------------


def test_a_device_that_leaves_and_erases_is_forgotten_exactly_within_two_epochs(village_of_four: Village) -> None:
    *others, gone = village_of_four.devices
    before, _ = epoch(others[0])
    gone.chinwag("leave", TASK, "--erase")
    village_of_four.agree(others)
    assert {epoch(device)[0] - before for device in others} <= {1, 2}
    saved = gone.saved()
    assert (saved.states, saved.results, saved.prepared, saved.scores) == ({}, {}, {}, {})
    assert gone.chinwag("predict", str(village_of_four.rows[gone.host.name].path), code=1).out == ""


def test_a_device_that_is_killed_for_good_is_forgotten_exactly_within_two_epochs(village_of_four: Village) -> None:
    first, second, dead, _ = village_of_four.devices
    for device in (first, second):
        device.set(lost_after_s=8.0)
        device.restart()
    village_of_four.agree([first, second, dead])
    before, _ = epoch(first)
    dead.kill()
    village_of_four.agree([first, second])
    assert {epoch(device)[0] - before for device in (first, second)} <= {1, 2}
    assert first.peers()[dead.host.name]["state"] == "lost"
