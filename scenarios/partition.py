"""Who holds which rows: the ways in which published work deals a data set out, and the files as they lie.

Every row goes to one peer and no row is lost; the same generator gives the same shares on every machine.

    iid        shares of one size, drawn at random
    dirichlet  of each class, shares drawn from a Dirichlet distribution: the smaller `alpha`, the fewer classes a peer knows (Hsu 2019)
    shards     rows sorted by class, cut into `shards` pieces a peer, pieces dealt at random (McMahan 2017)
    quantity   every peer sees all classes, but sizes are drawn from a Dirichlet distribution (Li 2022)
    features   rows sorted along the direction in which they differ most, cut into one piece a peer: other conditions, same classes
    files      one file a peer
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.learning.dataset import Rows

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]

KINDS: Final = ("iid", "dirichlet", "shards", "quantity", "features", "files")

LEAST: Final = 2
"""Rows that everybody gets, taken from whoever has most: a peer without any is another subject."""


class TooFewRows(ValueError):
    """There are not enough rows for so many peers."""


def deal(rows: Rows, peers: int, kind: str, *, alpha: float, shards: int, least: int, chance: np.random.Generator) -> list[Indices]:
    """The rows of every peer, each list sorted. Raises TooFewRows."""
    if peers * least > len(rows):
        raise TooFewRows(f"{len(rows)} rows are too few for {peers} peers of {least} rows or more")
    match kind:
        case "iid":
            shares = _cut(chance.permutation(len(rows)), np.full(peers, 1.0 / peers))
        case "dirichlet":
            shares = _dirichlet(labels(rows), peers, alpha, chance)
        case "shards":
            shares = _shards(labels(rows), peers, shards, chance)
        case "quantity":
            shares = _cut(chance.permutation(len(rows)), chance.dirichlet(np.full(peers, alpha)))
        case "features":
            shares = _cut(np.argsort(_along(rows.X), kind="stable"), np.full(peers, 1.0 / peers))
        case _:
            raise ValueError(f"rows cannot be dealt {kind!r}")
    return _levelled(shares, least)


def labels(rows: Rows) -> NDArray[np.int64]:
    """What a skew goes by: the class, or the tenth that a number falls into."""
    if np.issubdtype(rows.y.dtype, np.integer):
        return np.asarray(rows.y, dtype=np.int64)
    ranks = np.argsort(np.argsort(rows.y, kind="stable"), kind="stable")
    return np.asarray(ranks * 10 // max(len(rows), 1), dtype=np.int64)


def _dirichlet(y: NDArray[np.int64], peers: int, alpha: float, chance: np.random.Generator) -> list[Indices]:
    pieces: list[list[Indices]] = [[] for _ in range(peers)]
    for label in np.unique(y):
        of_class = chance.permutation(np.flatnonzero(y == label))
        for mine, piece in zip(pieces, _cut(of_class, chance.dirichlet(np.full(peers, alpha))), strict=True):
            mine.append(piece)
    return [np.concatenate(mine) for mine in pieces]


def _shards(y: NDArray[np.int64], peers: int, shards: int, chance: np.random.Generator) -> list[Indices]:
    # Rows of a class in random order, so that which of them share a shard is chance and not the order of the file.
    order = chance.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    pieces = np.array_split(order, peers * shards)
    dealt = chance.permutation(peers * shards).reshape(peers, shards)
    return [np.concatenate([pieces[k] for k in mine]) for mine in dealt]


def _along(X: Floats) -> Floats:
    """Where each row lies on the first principal axis of the columns, scaled alike; a gap counts as the mean."""
    mean = np.nanmean(X, axis=0)
    centred = np.where(np.isnan(X), mean, X) - mean
    deviation = centred.std(axis=0)
    centred = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0.0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    # An eigenvector has two signs; rounding makes the last digits differ between machines. Neither may decide who gets what.
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    return np.asarray(np.round(centred @ axis, 6))


def _cut(order: NDArray[np.intp], shares: Floats) -> list[Indices]:
    ends = np.round(np.cumsum(shares)[:-1] * len(order)).astype(np.intp)
    return list(np.split(order.astype(np.intp), ends))


def _levelled(shares: list[Indices], least: int) -> list[Indices]:
    """Whoever has too few rows gets them from whoever has most."""
    held = [share.tolist() for share in shares]
    for mine in held:
        while len(mine) < least:
            most = max(range(len(held)), key=lambda k: (len(held[k]), -k))
            mine.append(held[most].pop())
    return [np.sort(np.array(mine, dtype=np.intp)) for mine in held]
