"""What a scenario file may say: every table and every setting, its default, its bounds and its sentence, declared once.

The file's reader, its error messages and `docs/scenarios.md` go by this. Any setting here may be a list in the file: an axis of a sweep.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from peer.toml import Table

Share = Annotated[float, Meta(ge=0, le=1)]


class Data(Table, frozen=True):
    """[data]: which rows, and who holds them. `alpha` counts for dirichlet and quantity, `shards` for shards."""

    source: Annotated[str, Meta(description="digits, breast_cancer, wine, iris, diabetes, synthetic, or CSV files")] = "digits"
    target: Annotated[str | None, Meta(description="the column that is predicted, in CSV files")] = None
    partition: Annotated[
        Literal["iid", "dirichlet", "shards", "quantity", "features", "files"], Meta(description="how rows are dealt to peers")
    ] = "iid"
    alpha: Annotated[float, Meta(gt=0, le=1e6, description="concentration: 0.1 is severe skew, 100 hardly any")] = 0.1
    shards: Annotated[int, Meta(ge=1, le=100, description="pieces of sorted rows for each peer")] = 2
    least: Annotated[int, Meta(ge=1, description="rows that every peer gets at least")] = 2
    test: Annotated[float, Meta(gt=0, lt=1, description="share of the rows that nobody trains on")] = 0.25
    rows: Annotated[Annotated[int, Meta(ge=2)] | None, Meta(description="rows to use of each file or set; all if not set")] = None


class Peers(Table, frozen=True):
    """[peers]: how many, who can reach whom, and which of them are not like the rest.

    `late`, `slow` and `relays` are shares of the peers, the last ones of the list; who begins with what is dealt is chance already.
    """

    count: Annotated[Annotated[int, Meta(ge=1, le=100_000)] | None, Meta(description="number of peers; with files, one for each")] = None
    topology: Annotated[Literal["full", "ring", "regular", "cities"], Meta(description="who can reach whom")] = "full"
    degree: Annotated[int, Meta(ge=2, le=1000, description="neighbours of each peer, or of each city, in regular and cities")] = 4
    cities: Annotated[int, Meta(ge=2, le=10_000, description="groups in which all reach each other, in cities")] = 10
    late: Annotated[Share, Meta(description="share of the peers that join late")] = 0.0
    late_at_s: Annotated[float, Meta(ge=0, description="when they do, in seconds")] = 60.0
    slow: Annotated[Share, Meta(description="share of the peers that are slow")] = 0.0
    slow_cpu: Annotated[float, Meta(gt=0, le=1, description="their speed, as a share of the others'")] = 0.1
    relays: Annotated[Share, Meta(description="share of the peers that hold no rows")] = 0.0


class Network(Table, frozen=True):
    """[network]: the same for every pair of peers, but for `latency_across`."""

    latency_ms: Annotated[float, Meta(ge=0, le=60_000, description="one-way delay, the median")] = 5.0
    latency_spread: Annotated[float, Meta(ge=0, le=3, description="log-normal spread of the delay from packet to packet")] = 0.3
    latency_across: Annotated[float, Meta(ge=0, le=3, description="log-normal spread of the delay from pair to pair")] = 0.0
    bytes_per_s: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="bandwidth of a link; no limit if not set")] = None
    loss: Annotated[float, Meta(ge=0, lt=1, description="share of packets that are lost")] = 0.0


class Churn(Table, frozen=True):
    """[churn]: who is there when. A peer that is off has been shut down and comes back with what is on its disk."""

    kind: Annotated[Literal["none", "phones", "trace"], Meta(description="phones: a synthetic day; trace: a CSV file")] = "none"
    online: Annotated[float, Meta(gt=0, lt=1, description="share of the phones that are on, over the day")] = 0.5
    day_s: Annotated[float, Meta(ge=1, description="length of a day")] = 600.0
    session_s: Annotated[float, Meta(gt=0, description="mean time for which a phone is on")] = 60.0
    trace: Annotated[str | None, Meta(description="CSV file with the columns peer, on_s, off_s")] = None
    until_s: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="when it ends and everybody is there; the whole run if not set")
    ] = None


class Attack(Table, frozen=True):
    """[attack]: peers that lie; the first ones of the list, so that whoever is late or slow is honest."""

    kind: Annotated[
        Literal["none", "sign_flip", "noise", "label_flip", "stale_replay", "silence", "garbage_bytes", "false_sizes"],
        Meta(description="what they do"),
    ] = "none"
    share: Annotated[Share, Meta(description="share of the peers that lie")] = 0.1


class Protocol(Table, frozen=True):
    """[protocol]: what is learned, and how often peers exchange."""

    model: Annotated[Literal["lda", "ridge", "gaussian-nb", "logistic"], Meta(description="the model")] = "lda"
    alpha: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="penalty per row; that of a new task if not set")] = None
    encoding: Annotated[Literal["int8", "f32"], Meta(description="how weights travel")] = "int8"
    min_rows: Annotated[int, Meta(ge=1, description="rows below which a peer contributes nothing")] = 1
    min_peers: Annotated[int, Meta(ge=1, description="peers below which nobody contributes")] = 1
    period_s: Annotated[float, Meta(ge=0.01, le=3600, description="seconds from one exchange to the next")] = 0.25
    lost_after_s: Annotated[float, Meta(ge=1, description="silence after which a neighbour counts as gone")] = 60.0


class Stop(Table, frozen=True):
    """[stop]: after so many seconds, or when every peer has finished so many exchanges."""

    seconds: Annotated[float, Meta(gt=0, description="virtual seconds")] = 60.0
    exchanges: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="exchanges that every peer is to finish")] = None
    sample_every_s: Annotated[float, Meta(gt=0, description="seconds between two looks at every peer")] = 1.0


class FaultAt(Table, frozen=True):
    """[[fault]]: something that goes wrong at a time. `peers` are numbers of peers, or `share` says how many, drawn by the seed."""

    kind: Literal[
        "crash", "restart", "cut", "partition", "one_way", "clog", "slow_cpu", "clock_jump", "clock_drift", "full_disk", "leave",
        "rows_change", "stop",
    ]  # fmt: skip
    at_s: Annotated[float, Meta(ge=0, description="when")]
    until_s: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="when it is over; never if not set")] = None
    peers: Annotated[tuple[int, ...] | None, Meta(description="numbers of the peers, from 0")] = None
    share: Annotated[Annotated[float, Meta(gt=0, le=1)] | None, Meta(description="share of the peers")] = None
    value: Annotated[float | None, Meta(description="how much, where the kind wants a number")] = None

    def __post_init__(self) -> None:
        if (self.peers is None) == (self.share is None):
            raise ValueError("needs either peers or share")
        if self.until_s is not None and self.until_s < self.at_s:
            raise ValueError("is over before it begins")


MEASURES: Final = ("mean", "worst", "median", "pooled", "alone", "fedavg", "scaffold", "exchanges", "kilobytes", "spread", "agreeing")


class Finding(Table, frozen=True):
    """[[finding]]: what is expected to come out, checked in every run. See `findings.py`."""

    says: Annotated[str, Meta(description="the finding as a sentence")]
    measure: Literal["mean", "worst", "median", "pooled", "alone", "fedavg", "scaffold", "exchanges", "kilobytes", "spread", "agreeing"]
    minus: Annotated[
        Literal["mean", "worst", "median", "pooled", "alone", "fedavg", "scaffold"] | None, Meta(description="what is taken off it")
    ] = None
    at_least: float | None = None
    at_most: float | None = None
    after_exchanges: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="look when a peer has finished so many; at the end if not set")
    ] = None
    at_s: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="look at this time")] = None
    peers: Annotated[Literal["all", "late", "slow", "others"], Meta(description="of whom")] = "all"
    when: Annotated[dict[str, Any], Meta(description="only in cells with these settings")] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs at_least or at_most")


TABLES: Final[dict[str, type[Table]]] = {
    "data": Data,
    "peers": Peers,
    "network": Network,
    "churn": Churn,
    "attack": Attack,
    "protocol": Protocol,
    "stop": Stop,
}
"""Tables whose settings may be swept."""


class Head(Table, frozen=True):
    """[scenario]"""

    name: Annotated[str | None, Meta(description="that of the file, if not set")] = None
    about: Annotated[str, Meta(description="what it shows, in a sentence or two")] = ""
    seeds: Annotated[tuple[int, ...], Meta(min_length=1, description="every cell is run once with each")] = (1, 2, 3)
