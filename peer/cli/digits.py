"""The rows of the demo: scikit-learn's handwritten digits, dealt out so that nobody holds them all. Run as a process of its own.

Why a process: importing scikit-learn takes 2 s and 126 MB, and the demo has daemons to start meanwhile.

    python -m peer.cli.digits rows FOLDER NAME...      writes NAME.csv for each peer and test.csv, prints who knows what
    python -m peer.cli.digits pooled FOLDER MODEL ALPHA NAME...   prints scikit-learn's own score with all training rows in one place
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any, Final

TARGET: Final = "digit"
COLUMNS: Final = tuple(f"p{row}{column}" for row in range(8) for column in range(8))
"""The ink, 0 to 16, of each pixel of an 8 × 8 picture."""

CLASSES: Final = tuple(str(digit) for digit in range(10))

DIGITS_EACH: Final = 4
"""Digits that one peer of the demo knows: enough to learn something alone, too few to be right more than two times in five."""

TEST_SHARE: Final = 0.3
"""Share of every digit's rows that nobody trains on; some 540 rows, so that a score is good to two points."""


def known_digits(peers: int) -> list[list[int]]:
    """Which digits each peer knows: spans next to each other that overlap, and together all ten."""
    each = max(DIGITS_EACH, -(-(10 + peers - 1) // peers))
    each = min(each, 10)
    starts = [round(i * (10 - each) / max(peers - 1, 1)) for i in range(peers)]
    return [list(range(start, start + each)) for start in starts]


def deal(folder: Path, names: list[str]) -> dict[str, Any]:
    """Write the files. No row is in two of them."""
    import numpy as np
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(1797).permutation(len(y))
    known = known_digits(len(names))
    shares: list[list[int]] = [[] for _ in names]
    test: list[int] = []
    for digit in range(10):
        rows = [int(i) for i in order if y[i] == digit]
        tested = round(len(rows) * TEST_SHARE)
        test += rows[:tested]
        holders = [share for share, digits in zip(shares, known, strict=True) if digit in digits]
        for position, row in enumerate(rows[tested:]):
            holders[position % len(holders)].append(row)
    for name, rows in [*zip(names, shares, strict=True), ("test", test)]:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, TARGET])
            writer.writerows([*(f"{v:g}" for v in X[i]), int(y[i])] for i in rows)
    people = [{"name": n, "knows": k, "rows": len(s)} for n, k, s in zip(names, known, shares, strict=True)]
    return {"peers": people, "test_rows": len(test), "rows": len(y)}


def pooled(folder: Path, model: str, alpha: float, names: list[str]) -> float:
    """Accuracy on test.csv of scikit-learn's own model, fitted on the training rows of all peers together."""
    import numpy as np

    def read(name: str) -> tuple[Any, Any]:
        rows = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)
        return rows[:, :-1], rows[:, -1].astype(int)

    parts = [read(name) for name in names]
    X, y = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    test, truth = read("test")
    return float(_estimator(model, alpha, len(y)).fit(X, y).score(test, truth))


def _estimator(model: str, alpha: float, rows: int) -> Any:
    if model == "lda":
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis()
    if model == "gaussian-nb":
        from sklearn.naive_bayes import GaussianNB

        return GaussianNB()
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Ours minimises mean loss + alpha/2 |w|²; scikit-learn's C weighs the sum of the losses against |w|²/2.
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / (rows * alpha), max_iter=2000))


def _main(words: list[str]) -> None:
    import warnings

    warnings.simplefilter("ignore")  # pixels that are always white are no news here
    if words[0] == "rows":
        print(json.dumps(deal(Path(words[1]), words[2:])))
    else:
        print(json.dumps({"pooled": pooled(Path(words[1]), words[2], float(words[3]), words[4:])}))


if __name__ == "__main__":
    _main(sys.argv[1:])
