"""The small data sets that come with scikit-learn, as a source of rows: `sklearn:digits`.

Only here is scikit-learn imported, and only when such a source is opened: it costs 2 s and 126 MB.

Columns bear scikit-learn's names; the target's column is `target` and holds the name of the class ("setosa", "7") or the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from .tables import DataError

SETS: Final = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
"""What scikit-learn carries inside itself; its other sets would be downloaded."""


def names(source: str) -> tuple[str, ...]:
    """The columns of `sklearn:NAME`, the target last."""
    return _load(source)[0]


def rows(source: str) -> Iterator[list[str]]:
    """Its rows as text, each number in its shortest exact form."""
    _, values, classes = _load(source)
    for row in values.tolist():
        cells = [repr(v) for v in row]
        if classes is not None:
            cells[-1] = classes[int(row[-1])]
        yield cells


@lru_cache(maxsize=1)
def _load(source: str) -> tuple[tuple[str, ...], Any, tuple[str, ...] | None]:
    name = source.removeprefix("sklearn:")
    if name not in SETS:
        raise DataError(f"There is no bundled set {name!r}; there are {', '.join(SETS)}.")
    import numpy as np

    try:
        from sklearn import datasets
    except ImportError:
        raise DataError(f"{source} comes with scikit-learn, which is not installed.", "pip install scikit-learn") from None
    found = getattr(datasets, f"load_{name}")()
    values = np.column_stack([found.data, found.target])
    features = tuple(str(n) for n in found.feature_names)
    if name == "linnerud":  # three targets; each is a column that a task may choose
        return (*features, *(str(n) for n in found.target_names)), values, None
    classes = tuple(str(n) for n in found.target_names) if "target_names" in found else None
    return (*features, "target"), values, classes
