"""Models of averaged moments are scikit-learn's models of the pooled rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.naive_bayes import GaussianNB

from peer.learning.dataset import Rows
from peer.learning.models import Classifier, Linear, fit
from peer.learning.moments import own_statistics
from peer.learning.pooled import NothingLearned
from protocol.tasks import Column


@dataclass(frozen=True)
class Case:
    X: Any
    y: Any
    gappy: tuple[int, ...] = ()
    ranges: tuple[float, float] | None = None

    def columns(self) -> list[Column]:
        low, high = self.ranges or (None, None)
        return [Column(f"x{j}", j in self.gappy, None, low, high) for j in range(self.X.shape[1])]

    def filled(self) -> Any:
        return SimpleImputer(keep_empty_features=True).fit_transform(self.X)


def holes(X: Any, columns: tuple[int, ...], share: float = 0.3, seed: int = 0) -> Any:
    X, random = X.astype(float), np.random.default_rng(seed)
    for j in columns:
        X[random.random(len(X)) < share, j] = np.nan
    return X


def classes() -> dict[str, Case]:
    digits, iris, wine, cancer = (getattr(datasets, f"load_{n}")(return_X_y=True) for n in ("digits", "iris", "wine", "breast_cancer"))
    random = np.random.default_rng(3)
    few = np.flatnonzero((iris[1] != 2) | (np.arange(150) % 17 == 0))
    collinear = np.column_stack([iris[0], iris[0] @ [1.0, 2.0, -1.0, 0.5], iris[0][:, 0] * 3, np.full(150, 8.0)])
    near = (
        np.concatenate([iris[0][:50], iris[0][50:100], np.repeat(iris[0][50:100] + 1e-6, 2, axis=0)]),
        np.repeat([0, 1, 2], [50, 50, 100]),
    )
    wide = random.normal(size=(30, 80)), random.integers(0, 3, 30)
    return {
        "digits": Case(*digits, ranges=(0.0, 16.0)),
        "digits without ranges": Case(*digits),
        "wine": Case(*wine),
        "cancer": Case(*cancer),
        "unbalanced": Case(iris[0][few], iris[1][few]),
        "gaps": Case(holes(iris[0], (0, 2)), iris[1], (0, 2)),
        "gaps everywhere": Case(holes(wine[0], tuple(range(13))), wine[1], tuple(range(13))),
        "a column nobody has": Case(holes(iris[0], (1,), 1.1), iris[1], (1,)),
        "gaps in one class only": Case(np.where((iris[1] == 2)[:, None] & [True, False, False, False], np.nan, iris[0]), iris[1], (0,)),
        "collinear and constant": Case(collinear, iris[1]),
        "classes that hardly differ": Case(*near),
        "more columns than rows": Case(*wide),
    }


CLASSES = classes()
SPLITS = {"one": [[]], "three": [0.2, 0.5], "a peer without rows": [0.4, 0.4]}


def averaged(task: Any, case: Case, cuts: Any) -> dict[str, Any]:
    """The mean of the moments of several peers, each holding a part of the rows in order: skewed, for rows sorted by class."""
    order = np.argsort(case.y, kind="stable")
    at = [int(c * len(order)) for c in cuts] if cuts != [[]] else []
    parts = [own_statistics(task, Rows(case.X[i], case.y[i])) for i in np.split(order, at)]
    parts[-1]["starter"] = np.array(1.0)
    return {n: sum(p[n] for p in parts) / len(parts) for n in parts[0]}


def class_task(make_task: Any, case: Case, model: str) -> Any:
    return make_task(columns=case.columns(), classes=[str(k) for k in range(int(case.y.max()) + 1)], model=model)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", CLASSES)
def test_lda_is_that_of_the_pooled_rows(make_task, name, split):
    case = CLASSES[name]
    model = fit(class_task(make_task, case, "lda"), averaged(class_task(make_task, case, "lda"), case, SPLITS[split]))
    reference = LinearDiscriminantAnalysis().fit(case.filled(), case.y)
    assert isinstance(model, Classifier)
    assert np.array_equal(model.predict(case.X), reference.predict(case.filled()))
    decision, expected = model.decision(case.X), reference.decision_function(case.filled())
    if expected.ndim == 1:
        decision = decision[:, 1] - decision[:, 0]
    np.testing.assert_allclose(decision, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(model.predict_proba(case.X), reference.predict_proba(case.filled()), atol=1e-6)
    assert model.about["rows"] == pytest.approx(len(case.y))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", CLASSES)
def test_gaussian_naive_bayes_is_that_of_the_pooled_rows(make_task, name, split):
    case = CLASSES[name]
    task = class_task(make_task, case, "gaussian-nb")
    model = fit(task, averaged(task, case, SPLITS[split]))
    reference = GaussianNB().fit(case.filled(), case.y)
    assert isinstance(model, Classifier)
    assert np.array_equal(model.predict(case.X), reference.predict(case.filled()))
    np.testing.assert_allclose(model.predict_proba(case.X), reference.predict_proba(case.filled()), atol=1e-6)


def numbers() -> dict[str, Case]:
    X, y = datasets.load_diabetes(return_X_y=True)
    random = np.random.default_rng(4)
    return {
        "diabetes": Case(X, y),
        "diabetes in ranges": Case(X, y, ranges=(-0.2, 0.2)),
        "gaps": Case(holes(X, (2, 8)), y, (2, 8)),
        "off centre": Case(X * 30 + 200, y - 4000),
        "collinear and constant": Case(np.column_stack([X, X[:, 0] * 2 - X[:, 3], np.full(len(X), 4.0)]), y),
        "more columns than rows": Case(random.normal(size=(25, 60)), random.normal(size=25)),
        "columns of unlike size": Case(X * 10.0 ** np.arange(-5, 5), y),
    }


NUMBERS = numbers()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("alpha", [1e-4, 0.3])
@pytest.mark.parametrize("name", NUMBERS)
def test_ridge_is_that_of_the_pooled_rows(make_task, name, alpha, split):
    case = NUMBERS[name]
    task = make_task(columns=case.columns(), model="ridge", alpha=alpha)
    model = fit(task, averaged(task, case, SPLITS[split]))
    reference = Ridge(alpha=alpha * len(case.y)).fit(case.filled(), case.y)
    np.testing.assert_allclose(model.predict(case.X), reference.predict(case.filled()), rtol=1e-7, atol=1e-7 * case.y.std())
    assert model.score(Rows(case.X, case.y)) == pytest.approx(r2_score(case.y, reference.predict(case.filled())), abs=1e-9)


def test_without_a_penalty_collinear_columns_predict_as_least_squares_does(make_task):
    case = NUMBERS["collinear and constant"]
    task = make_task(columns=case.columns(), model="ridge", alpha=0.0)
    model = fit(task, averaged(task, case, SPLITS["three"]))
    A = np.column_stack([case.X, np.ones(len(case.X))])
    np.testing.assert_allclose(model.predict(case.X), A @ np.linalg.lstsq(A, case.y)[0], rtol=1e-8)


@pytest.mark.parametrize("model", ["lda", "gaussian-nb", "ridge"])
def test_splitting_the_rows_among_peers_changes_nothing(make_task, model):
    case = NUMBERS["gaps"] if model == "ridge" else CLASSES["gaps everywhere"]
    task = make_task(columns=case.columns(), model=model, alpha=1e-3) if model == "ridge" else class_task(make_task, case, model)
    together = fit(task, averaged(task, case, [[]]))
    for cuts in ([0.5], [0.1, 0.2, 0.9], np.linspace(0, 1, 40)[1:-1]):
        apart = fit(task, averaged(task, case, list(cuts)))
        for name, values in together.arrays().items():
            np.testing.assert_allclose(apart.arrays()[name], values, rtol=1e-9, atol=1e-9 * np.abs(values).max())


@pytest.mark.parametrize("model", ["lda", "gaussian-nb"])
def test_a_class_without_rows_is_never_predicted(make_task, model):
    X, y = datasets.load_iris(return_X_y=True)
    task = make_task(columns=[f"x{j}" for j in range(4)], classes=("a", "none", "b", "c"), model=model)
    y = np.array([0, 2, 3])[y]
    found = fit(task, own_statistics(task, Rows(X, y)))
    assert isinstance(found, Classifier)
    anywhere = np.random.default_rng(1).uniform(-50, 50, (500, 4))
    assert 1 not in found.predict(anywhere)
    assert (found.predict_proba(anywhere)[:, 1] == 0).all()
    assert found.describe()["classes_without_rows"] == ["none"]
    reference = {"lda": LinearDiscriminantAnalysis(), "gaussian-nb": GaussianNB()}[model].fit(X, y)
    assert np.array_equal(found.predict(anywhere), reference.predict(anywhere))


@pytest.mark.parametrize("model", ["lda", "gaussian-nb"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_very_few_rows_make_some_model(make_task, model, rows):
    X, y = datasets.load_iris(return_X_y=True)
    task = make_task(columns=[f"x{j}" for j in range(4)], classes=("0", "1", "2"), model=model)
    found = fit(task, own_statistics(task, Rows(X[::49][:rows], y[::49][:rows])))
    assert found.predict(X).shape == (150,)
    assert isinstance(found, Classifier)
    assert np.isfinite(found.predict_proba(X)).all()


def test_rows_that_are_all_alike_make_a_model_that_says_their_mean(make_task):
    task = make_task(columns=("a", "b"), model="ridge", alpha=0.0)
    found = fit(task, own_statistics(task, Rows(np.full((9, 2), 7.3), np.full(9, 2.5))))
    assert found.predict(np.array([[7.3, 7.3], [1e3, -1e3]])).tolist() == pytest.approx([2.5, 2.5])


@pytest.mark.parametrize("model", ["lda", "gaussian-nb", "ridge"])
def test_an_average_without_rows_is_no_model(make_task, model):
    task = make_task(model=model)
    empty = own_statistics(task, Rows(np.zeros((0, 2)), np.zeros(0, dtype=int)))
    for statistics in (empty, {n: -np.ones_like(a) for n, a in empty.items()}):
        with pytest.raises(NothingLearned):
            fit(task, statistics)


def test_a_gap_in_a_row_to_predict_for_is_filled_with_the_mean(make_task):
    X, y = datasets.load_iris(return_X_y=True)
    task = make_task(columns=[f"x{j}" for j in range(4)], classes=("0", "1", "2"))
    model = fit(task, own_statistics(task, Rows(X, y)))
    row = X[:1].copy()
    row[0, 2] = np.nan
    full = X[:1].copy()
    full[0, 2] = X[:, 2].mean()
    assert isinstance(model, Linear)
    np.testing.assert_allclose(model.decision(row), model.decision(full))


@pytest.mark.parametrize("model", ["lda", "gaussian-nb", "ridge"])
def test_a_model_describes_itself_in_json_and_in_arrays_that_predict(make_task, model):
    case = NUMBERS["diabetes"] if model == "ridge" else CLASSES["gaps"]
    task = make_task(columns=case.columns(), model=model) if model == "ridge" else class_task(make_task, case, model)
    found = fit(task, averaged(task, case, SPLITS["three"]))
    card = json.loads(json.dumps(found.describe(), allow_nan=False))
    assert card["peers"] == pytest.approx(3)
    assert [c["name"] for c in card["columns"]] == [c.name for c in task.columns]
    arrays = found.arrays()
    assert all(np.isfinite(a).all() for a in arrays.values())
    X = np.where(np.isnan(case.X), arrays["fill"], case.X)
    if model == "ridge":
        np.testing.assert_allclose(X @ arrays["coef"] + arrays["intercept"], found.predict(case.X))
    elif model == "lda":
        assert np.array_equal((X @ arrays["coef"].T + arrays["intercept"]).argmax(1), found.predict(case.X))


def test_scores_are_accuracy_and_r2(make_task):
    X, y = datasets.load_iris(return_X_y=True)
    task = make_task(columns=[f"x{j}" for j in range(4)], classes=("0", "1", "2"))
    assert fit(task, own_statistics(task, Rows(X, y))).score(Rows(X, y)) == pytest.approx(0.98)
    task = make_task(columns=("a",), model="ridge")
    line = fit(task, own_statistics(task, Rows(np.arange(5.0)[:, None], np.arange(5.0))))
    assert line.score(Rows(np.arange(5.0)[:, None], np.arange(5.0))) == pytest.approx(1.0)
    assert line.score(Rows(np.zeros((2, 1)), np.ones(2))) == 0.0
