"""Real daemons on real hosts: all find all with nothing configured, and three devices go from three CSV files to one model.

The three use the documented commands alone; what their models say is compared with scikit-learn's on all their rows in one place.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from scenarios.lan import Host, Lan
from scenarios.village import Device, become_members, until

COLUMNS = ("temp", "rpm", "load", "hum", "age")
CLASSES = ("idle", "worn", "loose", "leak")


class Pumps:
    """Rows of five columns, one far from zero and one tiny, and four classes that overlap."""

    def __init__(self, count: int, seed: int, without: str | None = None) -> None:
        chance = np.random.default_rng(seed)
        kinds = [k for k, name in enumerate(CLASSES) if name != without]
        self.y = np.array(CLASSES)[k := chance.choice(kinds, count)]
        centre = np.array([[60, 1500, 0.02, 40, 3], [66, 1440, 0.03, 40, 5], [61, 1470, 0.05, 44, 6], [58, 1520, 0.03, 52, 4]])
        self.X = centre[k] + chance.normal(size=(count, 5)) @ np.diag([4, 40, 0.008, 4, 1.5]) @ (np.eye(5) + 0.3)

    def write(self, path: Path, header: str) -> Path:
        """As a CSV file with its columns in this order; `Temp_C` is temp under another name."""
        columns = dict(zip(COLUMNS, self.X.T, strict=True)) | {"Temp_C": self.X[:, 0], "fault": self.y}
        names = header.split(",")
        rows = zip(*(columns[name].tolist() for name in names), strict=True)
        path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
        return path


# discovery ----------------------------------------------------------------------------------------------------------------

AVAHI = ("avahi-daemon", "avahi-browse", "dbus-daemon")

AVAHI_BROWSE = """
set -e
mount -t tmpfs none /run
mkdir -p /run/dbus
dbus-daemon --system --fork
avahi-daemon --no-drop-root --no-rlimits --no-chroot -D
browse() { avahi-browse --resolve --parsable --terminate _chinwag._tcp; }
until [ "$(browse | grep -c '^=;eth0;IPv4;')" -ge "$1" ]; do sleep 0.2; done
browse
"""
"""Bus and daemon see a /run of their own, so they meet neither those of the computer nor those of another test."""


def addresses_seen_by_avahi(host: Host, count: int) -> set[str]:
    """What a client that we did not write finds on this host, once it has found so many."""
    browsed = host.run(["unshare", "--mount", "sh", "-c", AVAHI_BROWSE, "sh", str(count)], stderr=subprocess.STDOUT)
    assert browsed.returncode == 0, browsed.stdout
    return set(re.findall(r"^=;eth0;IPv4;.*;_chinwag\._tcp;local;[^;]*;([0-9.]+);8786;", browsed.stdout, re.MULTILINE))


@pytest.mark.timeout(300)
def test_eight_daemons_with_nothing_configured_but_membership_find_all(
    lan: Callable[[int], Lan], needs: Callable[[str | None], None], tmp_path: Path
) -> None:
    missing = [tool for tool in AVAHI if shutil.which(tool) is None]
    needs(f"not installed: {', '.join(missing)} (packages avahi-daemon, avahi-utils, dbus)" if missing else None)
    has_all_users = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"] and os.geteuid() == 0
    needs(None if has_all_users else "avahi-daemon and dbus-daemon change their user, which only the computer's own root lets them")
    *hosts, looker = lan(9).hosts
    devices = [Device(host, tmp_path / host.name) for host in hosts]
    become_members(devices)
    for device in devices:
        device.start()
    for device in devices:
        others = [d for d in devices if d is not device]
        wait_until_met(device, others)
        wait_until_all_live(device, {d.host.name for d in others})
    assert addresses_seen_by_avahi(looker, len(hosts)) == {host.address for host in hosts}


# three files, one model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> list[Pumps]:
    """The rows of the three devices; the second has never had a leak."""
    return [Pumps(240, 1), Pumps(150, 2, without="leak"), Pumps(90, 3)]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pumps]:
    """Rows that nobody learns from, and their file."""
    pumps = Pumps(1500, 4)
    return pumps.write(tmp_path_factory.mktemp("trial") / "trial.csv", "hum,fault,temp,age,rpm,load"), pumps


@pytest.fixture(scope="module")
def devices(
    village: Callable[[int], tuple[Lan, list[Device]]],
    rows: list[Pumps],
    trial: tuple[Path, Pumps],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Device]:
    """Three devices that came together by the documented commands, and take part in `pumps` (lda) and `pumps-sgd` (logistic)."""
    folder = tmp_path_factory.mktemp("rows")
    _, devices = village(3)
    first, *others = devices
    headers = ("temp,rpm,load,hum,age,fault", "fault,age,hum,load,rpm,temp", "rpm,Temp_C,fault,load,age,hum")
    for device, pumps, header in zip(devices, rows, headers, strict=True):
        file = pumps.write(folder / f"{device.host.name}.csv", header)
        device.chinwag("init", "--data", str(file), "--target", "fault", "--name", device.host.name)
        device.set(period_s=0.1)  # what follows needs a hundred exchanges, and is no question of pace
        device.start()
    for device in devices:
        device.wait_until_up()
    for device in others:
        device.chinwag("join", first.chinwag("invite", "--json").json["link"])
    test = ("--test", str(trial[0]), "--yes")
    first.chinwag("task", "new", "pumps", "--model", "lda", *test)
    first.chinwag("task", "new", "pumps-sgd", "--model", "logistic", "--alpha", "0.001", *test)
    for device in others:
        wait_until_offered(device, 2)
    for task in ("pumps", "pumps-sgd"):
        others[0].chinwag("task", "accept", task, *test)
    return devices


def predicted(device: Device, file: Path, task: str) -> NDArray[np.str_]:
    """What `chinwag predict` says for every row of a file."""
    table = list(csv.DictReader(device.chinwag("predict", str(file), "--task", task).out.splitlines()))
    return np.array([row["prediction"] for row in table])


@pytest.mark.timeout(300)
def test_a_column_that_is_named_otherwise_is_refused_and_the_printed_command_mends_it(
    devices: list[Device], trial: tuple[Path, Pumps]
) -> None:
    third = devices[2]
    for task in ("pumps", "pumps-sgd"):
        refused = third.chinwag("task", "accept", task, "--yes", code=6)
        assert "temp" in refused.err
        assert "Temp_C" in refused.err
        [command] = re.findall(r"^next: chinwag (.*)$", refused.err, re.MULTILINE)
        assert f"data map {task} temp=Temp_C" in command
        third.chinwag(*shlex.split(command), "--yes")  # as nobody can be asked here
        assert '"temp" = "Temp_C"' in (third.home / "config.toml").read_text()
    file = trial[1].write(trial[0].with_name("trial-of-the-third.csv"), "Temp_C,rpm,load,hum,age,fault")
    for task in ("pumps", "pumps-sgd"):
        accepted = third.chinwag("task", "accept", task, "--test", str(file), "--yes", "--json").json
        assert accepted["report"]["train_rows"] == 90


@pytest.mark.timeout(300)
def test_the_lda_of_every_device_predicts_row_by_row_what_scikit_learn_does_from_all_their_rows(
    devices: list[Device], rows: list[Pumps], trial: tuple[Path, Pumps]
) -> None:
    total = sum(len(pumps.y) for pumps in rows)
    for device in devices:
        wait_until_settled(device, "pumps", total)
    pooled = LinearDiscriminantAnalysis().fit(np.concatenate([p.X for p in rows]), np.concatenate([p.y for p in rows]))
    expected = pooled.predict(trial[1].X)
    assert len(set(expected)) == 4
    for device in devices:
        file = trial[0] if device is not devices[2] else trial[0].with_name("trial-of-the-third.csv")
        assert (predicted(device, file, "pumps") == expected).all()


@pytest.mark.timeout(300)
def test_the_logistic_regression_of_every_device_is_within_a_point_of_that_of_all_their_rows(
    devices: list[Device], rows: list[Pumps], trial: tuple[Path, Pumps]
) -> None:
    X, y = np.concatenate([p.X for p in rows]), np.concatenate([p.y for p in rows])
    scaler = StandardScaler().fit(X)
    pooled = LogisticRegression(C=1 / (0.001 * len(y)), max_iter=2000).fit(scaler.transform(X), y)
    of_all = pooled.score(scaler.transform(trial[1].X), trial[1].y)
    for device in devices:
        wait_for_turns(device, 80)
    for device in devices:
        file = trial[0] if device is not devices[2] else trial[0].with_name("trial-of-the-third.csv")
        scored = device.chinwag("evaluate", str(file), "--task", "pumps-sgd", "--json").json
        assert scored["score"] > of_all - 0.01, f"{device.host.name}: {scored['score']}, of all rows {of_all}"
        right = (predicted(device, file, "pumps-sgd") == trial[1].y).mean()
        assert right == pytest.approx(scored["score"], abs=0.01), "the device goes on learning between the two commands, but not by much"


# waiting ------------------------------------------------------------------------------------------------------------------


def wait_until_met(device: Device, others: list[Device]) -> None:
    expected = {d.identity().peer.hex() for d in others}
    until(lambda: {e["peer"] for e in device.happened("peer.connected")} >= expected, device.last_words)


def wait_until_all_live(device: Device, names: set[str]) -> None:
    """Until `chinwag peers` shows exactly these, live. Of two connections between a pair one is closed, so one may look in between."""
    expected = dict.fromkeys(names, "live")
    until(lambda: {name: peer["state"] for name, peer in device.peers().items()} == expected, device.peers, every_s=0.3)


def wait_until_offered(device: Device, count: int) -> None:
    until(lambda: len(device.happened("task.offered")) == count, device.last_words)


def wait_until_settled(device: Device, task: str, rows: int) -> None:
    """Until a device has published a settled result over this many rows."""

    def is_settled() -> bool:
        shown = {t["name"]: t for t in device.status()["tasks"]}[task]
        return bool(shown["is_settled"] and shown["rows_total"] == rows)

    until(is_settled, lambda: device.status()["tasks"], every_s=0.3)


def wait_for_turns(device: Device, count: int) -> None:
    """Until this many exchanges stand behind the published weights."""

    def is_there() -> bool:
        return any(r.facts["exchanges"] >= count for (_, part), r in device.saved().results.items() if part == "weights")

    until(is_there, lambda: device.status()["tasks"], every_s=0.3)
