"""Moments: their layout, that they add up, and which of a neighbour's are refused."""

from __future__ import annotations

import numpy as np
import pytest

from peer.learning.dataset import Rows
from peer.learning.moments import (
    MAX_STARTER,
    MAX_WEIGHT,
    StateRefused,
    layout,
    own_statistics,
    packed,
    participants,
    pooled_rows,
    unpacked,
    validate,
)
from protocol.tasks import CLASSIFIERS, MODELS, STATISTICS_MODELS, Column
from protocol.tensors import decode, encode

COLUMNS = ("temp", Column("rpm", True), Column("load", True, "%", 0.0, 100.0), "age")


def some_rows(model: str, n: int = 40, seed: int = 1) -> Rows:
    random = np.random.default_rng(seed)
    X = random.uniform(0, 100, (n, 4))
    X[random.random((n, 4)) < 0.3 * np.array([0, 1, 1, 0])] = np.nan
    return Rows(X, random.integers(0, 2, n) if model in CLASSIFIERS else random.normal(size=n))


@pytest.mark.parametrize("model", MODELS)
def test_what_is_counted_is_what_the_layout_says(make_task, model):
    task = make_task(columns=COLUMNS, model=model)
    found = own_statistics(task, some_rows(model))
    manifest = layout(task, "statistics")
    assert {n: a.shape for n, a in found.items()} == {s.name: s.shape for s in manifest.tensors}
    assert (float(found["rows"]), float(found["starter"])) == (40.0, 0.0)
    back = decode(manifest, encode(manifest, found, "f64", None), "f64")
    assert all(np.array_equal(found[n], back[n]) for n in found)
    validate(task, "statistics", found)


def test_the_shapes_are_those_that_the_module_promises(make_task):
    shapes = {m: {s.name: s.shape for s in layout(make_task(columns=COLUMNS, model=m), "statistics").tensors} for m in MODELS}
    scalars = {"rows": (), "starter": ()}
    assert shapes["lda"] == scalars | {"counts": (2,), "sums": (2, 6), "second": (21,)}
    assert shapes["gaussian-nb"] == scalars | {"counts": (2,), "sums": (2, 6), "squares": (2, 4)}
    assert shapes["ridge"] == scalars | {"sums": (7,), "second": (28,)}
    assert shapes["logistic"] == scalars | {"counts": (2,), "sums": (6,), "squares": (4,)}
    weights = layout(make_task(columns=COLUMNS, model="logistic"), "weights")
    assert [(s.name, s.shape) for s in weights.tensors] == [("coef", (4, 2)), ("intercept", (2,))]


@pytest.mark.parametrize("model", MODELS)
def test_moments_of_parts_add_up_to_those_of_the_whole(make_task, model):
    task, rows = make_task(columns=COLUMNS, model=model), some_rows(model, 90)
    whole = own_statistics(task, rows)
    parts = [own_statistics(task, rows.take(i)) for i in np.array_split(np.arange(90), [5, 5, 40])]
    for name in whole:
        np.testing.assert_allclose(sum(p[name] for p in parts), whole[name], rtol=1e-12, atol=1e-9)


def test_many_rows_are_counted_in_blocks_to_the_same_sums(make_task, monkeypatch):
    task, rows = make_task(columns=COLUMNS), some_rows("lda", 50)
    whole = own_statistics(task, rows)
    monkeypatch.setattr("peer.learning.moments.BLOCK_ROWS", 7)
    for name, value in own_statistics(task, rows).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-12)


def test_a_triangle_keeps_a_symmetric_matrix():
    square = np.arange(25.0).reshape(5, 5)
    square = square + square.T
    assert np.array_equal(unpacked(packed(square)), square)
    assert packed(square)[:5].tolist() == square[0].tolist()


def test_the_starters_mark_says_how_many_peers_there_are(make_task):
    statistics = {"rows": np.array(25.0), "starter": np.array(0.25)}
    assert participants(statistics) == 4.0
    assert pooled_rows(statistics) == 100.0
    for unknown in (0.0, -0.1):
        assert participants({"rows": np.array(25.0), "starter": np.array(unknown)}) is None
        assert pooled_rows({"rows": np.array(25.0), "starter": np.array(unknown)}) is None
    assert participants({"rows": np.array(25.0), "starter": np.array(1.5)}) == 1.0


@pytest.mark.parametrize("model", MODELS)
def test_an_average_in_transit_is_accepted_whatever_its_signs(make_task, model):
    """A peer that was in doubt, or whose owner removed rows, holds its average less what it gave."""
    task = make_task(columns=COLUMNS, model=model)
    a, b = (own_statistics(task, some_rows(model, n, seed)) for n, seed in ((80, 1), (10, 2)))
    validate(task, "statistics", {n: 0.3 * b[n] - 0.6 * a[n] for n in a})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("evil", [np.nan, np.inf, 1e300])
def test_values_that_no_rows_can_have_are_refused(make_task, model, evil):
    task = make_task(columns=COLUMNS, model=model)
    good = own_statistics(task, some_rows(model))
    for name in good:
        bad = {n: a.copy() for n, a in good.items()}
        bad[name].flat[0] = evil
        with pytest.raises(StateRefused):
            validate(task, "statistics", bad)


@pytest.mark.parametrize("model", [m for m in MODELS if m in CLASSIFIERS])
def test_rows_of_no_class_are_refused(make_task, model):
    task = make_task(columns=COLUMNS, model=model)
    with pytest.raises(StateRefused, match="rows of all classes"):
        validate(task, "statistics", {**own_statistics(task, some_rows(model)), "rows": np.array(41.0)})


@pytest.mark.parametrize("model", [m for m in STATISTICS_MODELS if m != "gaussian-nb"])
def test_sums_that_contradict_themselves_are_refused(make_task, model):
    task = make_task(columns=COLUMNS, model=model)
    good = own_statistics(task, some_rows(model))
    for i in (4, 5):
        bad = {**good, "sums": good["sums"].copy()}
        bad["sums"][..., i] += 3.0
        with pytest.raises(StateRefused, match="presence"):
            validate(task, "statistics", bad)


def test_a_starter_that_is_no_mark_and_arrays_of_another_task_are_refused(make_task):
    task = make_task(columns=COLUMNS)
    good = own_statistics(task, some_rows("lda"))
    with pytest.raises(StateRefused, match="starter"):
        validate(task, "statistics", {**good, "starter": np.array(MAX_STARTER + 1)})
    with pytest.raises(StateRefused, match="not the arrays"):
        validate(task, "statistics", {n: a for n, a in good.items() if n != "second"})
    with pytest.raises(StateRefused, match="not the arrays"):
        validate(task, "statistics", {**good, "counts": np.zeros(3)})


def test_weights_have_a_norm(make_task):
    task = make_task(model="logistic")
    weights = {"coef": np.zeros((2, 2)), "intercept": np.zeros(2)}
    validate(task, "weights", weights)
    with pytest.raises(StateRefused, match="norm"):
        validate(task, "weights", {**weights, "coef": np.full((2, 2), MAX_WEIGHT)})
    with pytest.raises(StateRefused, match="finite"):
        validate(task, "weights", {**weights, "intercept": np.array([0.0, np.nan])})
