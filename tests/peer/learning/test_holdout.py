"""Which rows are kept back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.learning.dataset import Rows
from peer.learning.holdout import split
from protocol.tasks import Column, Target, Task, Thresholds


def labelled(y: list[int]) -> Rows:
    return Rows(np.arange(len(y), dtype=np.float64)[:, None], np.array(y, dtype=np.int64))


def test_the_same_seed_keeps_back_the_same_rows_and_another_seed_others(make_task):
    rows = labelled([0, 1] * 50)
    one, again, other = (split(make_task(columns=("a",)), rows, 0.2, seed)[1].X for seed in (7, 7, 8))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_every_class_keeps_back_its_share(make_task):
    train, test = split(make_task(columns=("a",)), labelled([0] * 50 + [1] * 10), 0.2, 1)
    assert np.bincount(test.y).tolist() == [10, 2]
    assert np.bincount(train.y).tolist() == [40, 8]


def test_the_only_row_of_a_class_is_trained_on(make_task):
    train, _ = split(make_task(columns=("a",)), labelled([0] * 9 + [1]), 0.9, 1)
    assert set(train.y) == {0, 1}


@pytest.mark.parametrize(("rows", "kept_back"), [(1, 0), (2, 1), (3, 1), (10, 2)])
def test_few_rows_are_shared_out_with_care(make_task, rows, kept_back):
    task = make_task(columns=("a",), model="ridge")
    train, test = split(task, Rows(np.zeros((rows, 1)), np.zeros(rows)), 0.2, 1)
    assert (len(train), len(test)) == (rows - kept_back, kept_back)


def test_nothing_is_kept_back_when_the_owner_says_so(make_task):
    train, test = split(make_task(columns=("a",)), labelled([0, 1] * 5), 0.0, 1)
    assert (len(train), len(test)) == (10, 0)


def test_a_share_that_is_no_fraction_is_refused(make_task):
    with pytest.raises(ValueError, match="fraction"):
        split(make_task(columns=("a",)), labelled([0, 1]), 1.0, 1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 2**63 - 1))
def test_every_row_goes_to_one_side_and_training_is_never_left_without(y, holdout, seed):
    target = Target("y", ("0", "1", "2", "3"))
    task = Task("t", "", (Column("a", False),), target, "lda", 0.0, "gossip", "int8", "open", Thresholds(1, 1), bytes(32), bytes(32), 0)
    train, test = split(task, labelled(y), holdout, seed)
    assert sorted([*train.X[:, 0], *test.X[:, 0]]) == list(range(len(y)))
    assert set(train.y) == set(y)
