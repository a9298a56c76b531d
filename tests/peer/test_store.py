"""The store: what one commit wrote is there as a whole or not at all, whenever and however the process or the disk gave up."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer import saved as s
from peer.config import Home, load_identity, save_identity
from peer.store import Store, StoreBusy, StoreDamaged, StoreError, StoreTooNew, read_saved
from protocol.exchange import Epoch
from protocol.identity import found_network, issue_leaf

TASK, OTHER_TASK, PEER = b"t" * 32, b"u" * 32, b"p" * 32
EPOCH = Epoch(3, b"s" * 32)
LARGE = 150_000
"""Numbers in an array that goes to a file of its own (1.2 MB)."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path)) as store:
        yield store


def plain(value: Any) -> Any:
    """The same with arrays as something that == can compare."""
    if isinstance(value, np.ndarray):
        assert value.dtype == np.float64
        return value.shape, value.tobytes()
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def state(value: float, size: int = 4, part: str = "weights", task: bytes = TASK) -> s.HoldState:
    return s.HoldState(task, part, EPOCH, {"w": np.full(size, value, float)}, {"rows": 12, "is_on": True, "rate": 0.1})


def reopened(folder: Path) -> s.Saved:
    with contextlib.closing(Store(folder)) as again:
        return again.load()


# what is kept ---------------------------------------------------------------------------------------------------------------------------


def test_every_record_comes_back_as_it_was(tmp_path: Path, store: Store) -> None:
    half = s.Prepare(b"x" * 16, TASK, "weights", PEER, EPOCH, {"w": np.array([1.5, np.inf, -0.0]), "n": np.array(2.0)})
    result = s.KeepResult(TASK, "statistics", Epoch(2, PEER), {"m": np.ones((2, 3, 4))}, {"peers": 3})
    invite = s.KeepInvite(b"i" * 32, 1700000000.25, True)
    score = s.AddScore(TASK, 1700000000.5, 7, 0.875)
    task = s.KeepTask(TASK, b"card", "accepted")
    store.commit((state(1), half, result, invite, score, task, s.Apply(b"y" * 16, TASK, "weights", PEER)))
    store.commit((s.KeepRevocation(b"r1"), s.KeepRevocation(b"r0"), s.KeepRevocation(b"r1"), s.KeepRecord(PEER, b"record")))
    store.commit((s.KeepCertificate(PEER, b"leaf"), s.KeepSequence(5)))
    store.close()
    assert plain(reopened(tmp_path)) == plain(
        s.Saved(
            states={(TASK, "weights"): state(1)},
            results={(TASK, "statistics"): result},
            prepared={b"x" * 16: half},
            applied={(PEER, TASK, "weights"): b"y" * 16},
            tasks={TASK: task},
            revocations=(b"r1", b"r0"),
            records={PEER: b"record"},
            certificates={PEER: b"leaf"},
            invites={b"i" * 32: invite},
            sequence=5,
            scores={TASK: (score,)},
        )
    )


def test_arrays_in_any_memory_order_and_type_come_back_as_float64_of_the_same_values(store: Store) -> None:
    table = np.arange(6.0).reshape(2, 3)
    arrays = {"turned": table.T, "every second": table[:, ::2], "halves": table.astype(np.float32), "big-endian": table.astype(">f8")}
    store.commit((s.HoldState(TASK, "weights", EPOCH, arrays, {}),))
    found = store.load().states[TASK, "weights"].arrays
    assert {name: (a.dtype.str, a.tolist()) for name, a in found.items()} == {n: ("<f8", a.tolist()) for n, a in arrays.items()}


def test_a_score_that_is_not_a_number_stays_one(store: Store) -> None:
    store.commit((s.AddScore(TASK, 1.0, 1, float("nan")),))
    assert np.isnan(store.load().scores[TASK][0].now)


def test_the_newest_thousand_scores_of_each_task_are_kept(store: Store) -> None:
    store.commit([s.AddScore(task, float(k), k, 0.5) for k in range(1005) for task in (TASK, OTHER_TASK)])
    assert [[p.exchanges for p in store.load().scores[task]] for task in (TASK, OTHER_TASK)] == [list(range(5, 1005))] * 2


def test_a_sequence_never_goes_back(store: Store) -> None:
    store.commit((s.KeepSequence(9),))
    store.commit((s.KeepSequence(4),))
    assert store.load().sequence == 9


def test_erasing_a_task_leaves_its_card_its_decision_and_the_other_tasks(store: Store) -> None:
    kept = (s.KeepTask(TASK, b"card", "left"), s.Apply(b"y" * 16, TASK, "weights", PEER), state(2, task=OTHER_TASK))
    gone = (state(1, LARGE), s.KeepResult(TASK, "weights", EPOCH, {}, {}), s.AddScore(TASK, 1.0, 1, 0.5))
    store.commit((*kept, *gone, s.Prepare(b"x" * 16, TASK, "weights", PEER, EPOCH, {})))
    store.commit((s.EraseTask(TASK),))
    found = store.load()
    assert set(found.states) == {(OTHER_TASK, "weights")}
    assert (found.results, found.prepared, found.scores) == ({}, {}, {})
    assert found.tasks[TASK].decision == "left"
    assert set(found.applied) == {(PEER, TASK, "weights")}


def _model(saved: dict[str, Any], record: Any) -> None:
    """What a commit of this record means, in a dictionary."""
    match record:
        case s.HoldState():
            saved["states"][record.task, record.part] = record
        case s.KeepResult():
            saved["results"][record.task, record.part] = record
        case s.Prepare():
            saved["prepared"][record.xid] = record
        case s.Settle():
            saved["prepared"].pop(record.xid, None)
        case s.Apply():
            saved["applied"][record.partner, record.task, record.part] = record.xid
        case s.EraseTask():
            for table in ("states", "results"):
                saved[table] = {key: kept for key, kept in saved[table].items() if key[0] != record.task}
            saved["prepared"] = {xid: kept for xid, kept in saved["prepared"].items() if kept.task != record.task}
        case s.KeepRecord():
            saved["records"][record.peer] = record.card
        case s.ForgetRecord():
            saved["records"].pop(record.peer, None)
        case s.KeepInvite():
            saved["invites"][record.digest] = record
        case s.SpendInvite():
            saved["invites"].pop(record.digest, None)
        case s.KeepSequence():
            saved["sequence"] = max(saved["sequence"], record.number)


TASKS, PARTS, XIDS, PEERS = (st.sampled_from(words) for words in ((TASK, OTHER_TASK), ("a", "b"), (b"1", b"2"), (b"p", b"q")))
ARRAYS = st.builds(lambda size, value: {"w": np.full(size, value, float)}, st.sampled_from([0, 3, LARGE]), st.floats(-2, 2))
EPOCHS = st.builds(Epoch, st.integers(0, 2**53), PEERS)
RECORDS = st.one_of(
    st.builds(s.HoldState, TASKS, PARTS, EPOCHS, ARRAYS, st.just({})),
    st.builds(s.KeepResult, TASKS, PARTS, EPOCHS, ARRAYS, st.just({})),
    st.builds(s.Prepare, XIDS, TASKS, PARTS, PEERS, EPOCHS, ARRAYS),
    st.builds(s.Settle, XIDS),
    st.builds(s.Apply, XIDS, TASKS, PARTS, PEERS),
    st.builds(s.EraseTask, TASKS),
    st.builds(s.KeepRecord, PEERS, st.binary(max_size=3)),
    st.builds(s.ForgetRecord, PEERS),
    st.builds(s.KeepInvite, XIDS, st.floats(0, 9), st.booleans()),
    st.builds(s.SpendInvite, XIDS),
    st.builds(s.KeepSequence, st.integers(0, 9)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(RECORDS, max_size=4), max_size=6), st.integers(0, 6))
def test_any_sequence_of_commits_means_what_a_dictionary_would(tmp_path_factory: pytest.TempPathFactory, commits: Any, crash: int) -> None:
    folder = tmp_path_factory.mktemp("store")
    model: dict[str, Any] = {"states": {}, "results": {}, "prepared": {}, "applied": {}, "records": {}, "invites": {}, "sequence": 0}
    store = Store(folder)
    for index, records in enumerate(commits):
        store.commit(records)
        for record in records:
            _model(model, record)
        if index == crash:
            store.close()
            store = Store(folder)
    assert plain(store.load()) == plain(s.Saved(**model))
    _only_what_is_named(folder)
    store.close()
    shutil.rmtree(folder)


def _only_what_is_named(folder: Path) -> None:
    """Every tensor file belongs to what is saved, and none is missing."""
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as found:
        tables = ("states", "results", "prepared")
        named = {name for table in tables for (name,) in found.execute(f"SELECT file FROM {table} WHERE file IS NOT NULL")}
    assert {path.name for path in (folder / "tensors").iterdir()} == named


# the disk -------------------------------------------------------------------------------------------------------------------------------


def _cut(file: Path) -> None:
    os.truncate(file, 1000)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
def test_a_part_that_the_disk_has_damaged_is_forgotten_and_named(tmp_path: Path, store: Store, damage: Callable[[Path], None]) -> None:
    small = {"w": np.ones(3)}
    store.commit((state(1, LARGE), s.Prepare(b"x" * 16, TASK, "weights", PEER, EPOCH, small)))
    store.commit((s.KeepResult(TASK, "weights", EPOCH, small, {}), state(2, part="statistics")))
    store.close()
    [file] = (tmp_path / "tensors").iterdir()
    damage(file)
    assert set(read_saved(tmp_path).states) == {(TASK, "statistics")}
    with contextlib.closing(Store(tmp_path)) as again:
        found = again.load()
        assert set(found.states) == {(TASK, "statistics")}
        assert found.prepared == {}, "a half is no use without the state it would be added to"
        assert set(found.results) == {(TASK, "weights")}
        [loss] = again.losses
        assert "state (weights) of task 74747474 is lost" in loss
        again.load()
        assert again.losses == ()
    _only_what_is_named(tmp_path)


def test_a_damaged_result_does_not_cost_the_state(tmp_path: Path, store: Store) -> None:
    store.commit((state(1), s.KeepResult(TASK, "weights", EPOCH, {"w": np.ones(LARGE)}, {})))
    [file] = (tmp_path / "tensors").iterdir()
    file.unlink()
    assert (set(store.load().states), store.load().results) == ({(TASK, "weights")}, {})


def test_what_a_crash_left_in_the_folder_is_cleared_away(tmp_path: Path, store: Store) -> None:
    store.commit((state(1, LARGE),))
    store.close()
    (tmp_path / "tensors" / "a.tmp").write_bytes(b"half of")
    (tmp_path / "tensors" / ("0" * 64)).write_bytes(b"nobody's")
    assert set(reopened(tmp_path).states) == {(TASK, "weights")}
    _only_what_is_named(tmp_path)


def test_a_database_of_a_newer_version_is_left_alone_with_a_clear_error(tmp_path: Path, store: Store) -> None:
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as newer:
        newer.execute("PRAGMA user_version = 99")
    before = (tmp_path / "state.db").read_bytes()
    for attempt in (Store, read_saved):
        with pytest.raises(StoreTooNew, match=r"newer Chinwag \(format 99; this one knows 1\)") as caught:
            attempt(tmp_path)
        assert (caught.value.exit, caught.value.next) == (7, "pip install --upgrade chinwag")
    assert (tmp_path / "state.db").read_bytes() == before


def _not_a_database(path: Path) -> None:
    path.write_bytes(b"this is no database, but long enough for one " * 100)


def _another_programs(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url)")


@pytest.mark.parametrize("spoil", [_not_a_database, _another_programs])
def test_a_file_that_is_not_ours_is_left_alone_with_a_clear_error(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "state.db")
    before = (tmp_path / "state.db").read_bytes()
    for attempt in (Store, read_saved):
        with pytest.raises(StoreDamaged, match=r"state\.db is (damaged|the database of another program)"):
            attempt(tmp_path)
    assert (tmp_path / "state.db").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be used: Not a directory"):
        Store(tmp_path / "file" / "home")


def test_a_record_that_is_none_is_refused_with_all_that_came_with_it(store: Store) -> None:
    with pytest.raises(TypeError, match="str is no record"):
        store.commit((s.KeepSequence(1), "surprise"))
    assert store.load().sequence == 0


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_nobody_else_may_read_what_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    with contextlib.closing(Store(folder)) as store:
        store.commit((state(1, LARGE),))
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert {path.name: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


# one writer, many readers ---------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_taken_within_the_same_process_stays_so_after_readers_come_and_go(store: Store, tmp_path: Path) -> None:
    read_saved(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreBusy):
            Store(tmp_path)
    probe = f"from pathlib import Path; from peer.store import Store; Store(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert f"(process {os.getpid()})" in done.stderr, "a lock of this process was lost when it closed the same file elsewhere"


def test_before_the_first_start_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_saved(tmp_path) == s.Saved()
    assert [*tmp_path.iterdir()] == []


# one network ----------------------------------------------------------------------------------------------------------------------------

NOW = 1_700_000_000


def test_a_peer_that_has_joined_another_network_begins_with_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first, second = (found_network(bytes([n]) * 32, bytes([n + 1]) * 32, bytes([n + 2]) * 32, NOW) for n in (1, 11))
    save_identity(home, first)
    with contextlib.closing(Store(tmp_path)) as store:
        store.commit((state(1, LARGE), s.KeepSequence(7), s.KeepRevocation(b"r")))
    assert reopened(tmp_path).sequence == 7
    save_identity(home, second)
    assert plain(reopened(tmp_path)) == plain(s.Saved())
    _only_what_is_named(tmp_path)


def test_a_new_leaf_becomes_part_of_the_identity(tmp_path: Path) -> None:
    home = Home(tmp_path)
    identity = found_network(b"r" * 32, b"a" * 32, b"p" * 32, NOW)
    save_identity(home, identity)
    assert identity.authority is not None
    assert identity.authority_key is not None
    leaf = issue_leaf(identity.authority_key, identity.authority, identity.key.public_key(), NOW + 1000)
    with contextlib.closing(Store(tmp_path)) as store:
        store.commit((s.KeepLeaf(leaf, identity.authority),))
    assert load_identity(home).leaf == leaf != identity.leaf
