"""Logistic regression by SGD between exchanges, with a control variate: the learner of the `weights` part.

    a turn     STEPS times w -= g (gradient of a batch - h), rate g = RATE / sqrt(1 + turn / 20)
    exchange   d = n_j / (n_i + n_j) (w_j - w_i), and w += d, h += GAIN d / (RATE STEPS), at both ends or at neither

Plain averaging of differently skewed devices never reaches the pooled model; h learns how a device's own gradient differs from everybody's,
and takes that out. As both ends move by opposite amounts, the sum of n h over the network stays 0: nothing is added in sum. The gain on h
is that of the first rate for ever: with one that grows as the rate falls, two rows beside two hundred diverge after a hundred exchanges.

Loss: mean log loss + alpha/2 |coef|², the intercept free, over columns in the scale that the task's statistics agree on (`pooled.Scaling`):
the model of LogisticRegression(C = 1 / (alpha rows)) on all rows so scaled (C = 2 / (alpha rows) for two classes, where scikit-learn has
one column of weights and not two). Deterministic: the seed is an argument.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol.tasks import Task
from protocol.tensors import Arrays

from .dataset import Rows
from .moments import Floats
from .pooled import Scaling, scaling

STEPS: Final = 60
"""Steps of a turn. With the control variate more steps help up to about here; without one they hurt."""

BATCH: Final = 16
"""Rows drawn for a step, with replacement."""

RATE: Final = 0.3
"""The first rate. The gain on h is tied to it."""

DECAY_TURNS: Final = 20.0
"""After this many turns the rate is down to 71 %, after 300 to 25 %."""

GAIN: Final = 0.5
"""Share of what an exchange moved that h takes up. 1 diverges."""

SMOOTHING: Final = 0.8
"""Share of the running average that stays at each turn: prediction is with the average, training with the last weights."""


def initial(task: Task) -> dict[str, Floats]:
    """Weights that say nothing, and equally a control variate that takes out nothing."""
    return {"coef": np.zeros((len(task.columns), len(task.target.classes))), "intercept": np.zeros(len(task.target.classes))}


def train(task: Task, rows: Rows, statistics: Arrays, weights: Arrays, control: Arrays, seed: int, round: int) -> dict[str, Floats]:
    """One turn over this device's own rows. Returns the new weights."""
    x = scaled(scaling(task, statistics), rows.X)
    target = np.eye(len(task.target.classes))[rows.y]
    coef, intercept = weights["coef"].copy(), weights["intercept"].copy()
    h_coef, h_intercept = control["coef"], control["intercept"]
    batches = np.random.Generator(np.random.PCG64(seed)).integers(0, len(rows), (STEPS, BATCH))
    rate = RATE / np.sqrt(1.0 + round / DECAY_TURNS)
    for batch in batches:
        xb = x[batch]
        error = (softmax(xb @ coef + intercept) - target[batch]) / BATCH
        coef -= rate * (xb.T @ error + task.alpha * coef - h_coef)
        intercept -= rate * (error.sum(0) - h_intercept)
    return {"coef": coef, "intercept": intercept}


def committed(weights: Arrays, control: Arrays, delta: Arrays) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Weights and control variate after an exchange that both ends applied. Also right while a turn is under way: all of it is added."""
    gain = GAIN / (RATE * STEPS)
    return (
        {name: weights[name] + delta[name] for name in weights},
        {name: control[name] + gain * delta[name] for name in control},
    )


def averaged(average: Arrays, weights: Arrays) -> dict[str, Floats]:
    """The running average after another turn."""
    return {name: SMOOTHING * average[name] + (1.0 - SMOOTHING) * weights[name] for name in average}


def restate(task: Task, weights: Arrays, old: Arrays, new: Arrays) -> dict[str, Floats]:
    """The same predictions under the scale of new statistics, for weights that were made under the old."""
    ratio, shift = _change(scaling(task, old), scaling(task, new))
    return {"coef": weights["coef"] * ratio[:, None], "intercept": weights["intercept"] + shift @ weights["coef"]}


def restate_control(task: Task, control: Arrays, old: Arrays, new: Arrays) -> dict[str, Floats]:
    """The same correction under the scale of new statistics. Gradients change the other way round; linear, so a sum of 0 stays 0."""
    ratio, shift = _change(scaling(task, old), scaling(task, new))
    inverse = np.divide(1.0, ratio, out=np.zeros(len(ratio)), where=ratio > 0.0)
    coef = (control["coef"] - shift[:, None] * control["intercept"]) * inverse[:, None]
    return {"coef": coef, "intercept": np.array(control["intercept"])}


def scaled(scale: Scaling, X: Floats) -> Floats:
    """Rows (n, d) as the learner sees them: gaps filled with the mean, which is 0 here."""
    return np.where(np.isnan(X), 0.0, (X - scale.mean) * scale.factor)


def softmax(logits: Floats) -> Floats:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _change(old: Scaling, new: Scaling) -> tuple[Floats, Floats]:
    """(d,) each: x under the old scale = ratio * x under the new + shift."""
    was, becomes = old.factor, new.factor
    ratio = np.divide(was, becomes, out=np.zeros(len(was)), where=becomes > 0.0)
    return ratio, (new.mean - old.mean) * was
