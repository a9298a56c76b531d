"""The trainer's process, started for real: jobs, refusals, crashes, limits, and an end without remains."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peer import trainer as module
from peer.events import TaskId, Train, Trained
from peer.learning import cvgossip
from peer.trainer import JOB_LIMIT_S, LENGTHS, MAX_BODY_BYTES, MAX_HEADER_BYTES, PipeError, Trainer, lengths, pack, unpack, work
from protocol.cards import card_id, sign_card
from protocol.tasks import Column, Target, Task, Thresholds

TASK = Task(
    name="pumps",
    about="",
    columns=(Column("temp", True), Column("rpm", False)),
    target=Target("fault", ("no", "yes", "unseen")),
    model="logistic",
    alpha=1e-3,
    protocol="gossip",
    encoding="int8",
    privacy="open",
    thresholds=Thresholds(1, 1),
    network=bytes(32),
    author=bytes(32),
    created=0,
)
CARD = sign_card("task", TASK.encode(), Ed25519PrivateKey.from_private_bytes(bytes(32)))
ID = TaskId(card_id(CARD))


@pytest.fixture
def rows(tmp_path: Path) -> str:
    random = np.random.default_rng(1)
    lines = ["fault,rpm,temp"]
    for i in range(100):
        is_fault = i % 2
        temp = "" if i % 10 == 0 else f"{random.normal(50 + 20 * is_fault, 5):.2f}"
        lines.append(f"{'yes' if is_fault else 'no'},{random.normal(1000 + 300 * is_fault, 100):.1f},{temp}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    return str(path)


def opening(source: str | None, **more: Any) -> Train:
    settings = {"card": CARD, "source": source, "map": {}, "test": None, "holdout": 0.2, "seed": 7}
    return Train(ID, "open", {}, settings | more)


def under(prefix: str, arrays: Any) -> dict[str, Any]:
    return {prefix + name: value for name, value in arrays.items()}


def scoring(opened: Trained) -> Train:
    return Train(ID, "score", under("statistics/", opened.arrays) | under("weights/", cvgossip.initial(TASK)))


def with_trainer(use: Callable[[Trainer], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        trainer = Trainer(**options)
        try:
            await use(trainer)
        finally:
            await trainer.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_rows_are_opened_trained_on_and_scored(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        assert opened.error is None
        assert (opened.task, opened.job) == (ID, "open")
        facts = dict(opened.facts)
        assert facts.pop("alone") >= 0.9
        assert facts == {
            "rows": 100,
            "train_rows": 80,
            "test_rows": 20,
            "missing": 10,
            "classes": {"no": 50, "yes": 50, "unseen": 0},
            "metric": "accuracy",
            "notes": [],
        }
        assert float(opened.arrays["rows"]) == 80
        assert opened.arrays["rows"].shape == ()
        statistics, weights = under("statistics/", opened.arrays), under("weights/", cvgossip.initial(TASK))
        for number in range(5):
            job = Train(ID, "train", statistics | weights | under("control/", cvgossip.initial(TASK)), {"seed": number})
            trained = await trainer.run(job, {"round": number})
            assert trained.error is None
            weights = dict(trained.arrays)
        assert set(weights) == {"weights/coef", "weights/intercept"}
        scored = await trainer.run(Train(ID, "score", statistics | weights))
        assert scored.facts["now"] >= 0.9

    with_trainer(use)


def test_rows_of_a_test_file_are_scored_on_and_all_others_trained_on(rows, tmp_path):
    extra = tmp_path / "test.csv"
    extra.write_text("temp,rpm,fault\n50,1000,no\n70,1300,yes\n")

    async def use(trainer: Trainer) -> None:
        facts = (await trainer.run(opening(rows, test=str(extra)))).facts
        assert (facts["train_rows"], facts["test_rows"], facts["alone"]) == (100, 2, 1.0)

    with_trainer(use)


def test_without_any_row_held_out_the_score_says_so(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows, holdout=0.0))
        assert opened.facts["test_rows"] == 0
        assert "held out" in opened.facts["notes"][0]
        assert (await trainer.run(scoring(opened))).facts["now"] == pytest.approx(0.5)

    with_trainer(use)


def test_a_bundled_set_is_opened_in_the_worker():
    columns = tuple(Column(n, False) for n in ("sepal length (cm)", "petal width (cm)"))
    target = Target("target", ("setosa", "versicolor", "virginica"))
    task = Task(
        "iris", "", columns, target, "lda", 0.0, "gossip", "int8", "open", Thresholds(1, 1), bytes(32), bytes(32), 0
    )  # fmt: skip
    card = sign_card("task", task.encode(), Ed25519PrivateKey.from_private_bytes(bytes(32)))

    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening("sklearn:iris", card=card))
        assert opened.error is None
        assert opened.facts["alone"] > 0.8

    with_trainer(use)


def test_rows_that_cannot_be_used_are_a_sentence_and_a_remedy(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("Temp_C,rpm,fault\n1,2,no\n")

    async def use(trainer: Trainer) -> None:
        refused = await trainer.run(opening(str(path)))
        assert refused.error is not None
        assert "no column temp" in refused.error
        assert refused.facts == {"next": "chinwag data map pumps temp=Temp_C", "exit": 6}
        assert refused.arrays == {}
        nothing = await trainer.run(opening(None))
        assert nothing.facts["next"] == "chinwag task accept pumps --data FILE"
        unopened = await trainer.run(Train(ID, "train", {}, {"seed": 1, "round": 0}))
        assert "not been opened" in (unopened.error or "")

    with_trainer(use)


def test_an_average_without_rows_and_a_fault_of_ours_are_sentences_too(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        empty = {n: np.zeros_like(a) for n, a in opened.arrays.items()}
        assert (await trainer.run(Train(ID, "score", under("statistics/", empty) | under("weights/", cvgossip.initial(TASK))))).error == (
            "No row has come into the average yet."
        )
        fault = await trainer.run(Train(ID, "score", under("statistics/", opened.arrays)))
        assert "fault of Chinwag" in (fault.error or "")
        assert fault.facts["exit"] == 1
        assert (await trainer.run(scoring(opened))).error is None

    with_trainer(use)


def test_a_failed_attempt_to_open_other_rows_leaves_the_first_ones_open(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        assert (await trainer.run(opening(rows + ".absent"))).error
        assert (await trainer.run(scoring(opened))).error is None

    with_trainer(use)


def test_a_worker_that_was_killed_is_started_again_with_its_rows(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        first = trainer._process
        assert first is not None
        os.kill(first.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        assert (await trainer.run(scoring(opened))).error is None
        assert trainer._process is not None
        assert trainer._process.pid != first.pid

    with_trainer(use)


def test_rows_that_have_gone_when_the_worker_starts_again_are_told_as_such(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        assert trainer._process is not None
        os.kill(trainer._process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        Path(rows).unlink()
        scored = await trainer.run(scoring(opened))
        assert scored.job == "score"
        assert "no file" in (scored.error or "")

    with_trainer(use)


@pytest.mark.skipif(os.name == "nt", reason="needs a script as the interpreter")
def test_a_worker_that_keeps_dying_is_given_up_with_its_last_words(tmp_path, monkeypatch, rows):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho started >> " + str(tmp_path / "starts") + "\necho 'no memory left' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))

    async def use(trainer: Trainer) -> None:
        failed = await trainer.run(opening(rows))
        assert failed.error == "The trainer ended in the middle of the job 'open', twice (exit 3: no memory left)."
        assert (tmp_path / "starts").read_text().count("started") == 2

    with_trainer(use)


def test_an_interpreter_that_is_not_there_is_a_sentence(monkeypatch, rows):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def use(trainer: Trainer) -> None:
        assert "cannot be started" in ((await trainer.run(opening(rows))).error or "")

    with_trainer(use)


def test_a_job_that_takes_too_long_is_stopped_and_the_next_one_goes_on(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        stopped = await trainer.run(scoring(opened))
        assert stopped.error == "The job 'score' took more than 0 s and was stopped."
        zero = {f"{part}/{n}": a for part in ("weights", "control") for n, a in cvgossip.initial(TASK).items()}
        trained = await trainer.run(Train(ID, "train", under("statistics/", opened.arrays) | zero, {"seed": 1, "round": 0}))
        assert trained.error is None

    with_trainer(use, limit_s={**JOB_LIMIT_S, "score": 0.0})


def test_a_job_whose_asker_is_gone_does_not_answer_the_next(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        asking = asyncio.create_task(trainer.run(scoring(opened)))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()
        assert (await trainer.run(opening(rows))).facts["rows"] == 100

    with_trainer(use)


def test_jobs_asked_for_at_once_are_answered_each_with_its_own(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        jobs = [opening(rows), scoring(opened), opening(rows + ".absent"), scoring(opened)]
        answers = await asyncio.gather(*(trainer.run(j) for j in jobs))
        assert [a.job for a in answers] == ["open", "score", "open", "score"]
        assert [a.error is None for a in answers] == [True, True, False, True]

    with_trainer(use)


def test_closing_ends_the_worker_and_answers_whoever_waits(rows):
    async def use(trainer: Trainer) -> None:
        opened = await trainer.run(opening(rows))
        process = trainer._process
        waiting = [asyncio.create_task(trainer.run(scoring(opened))) for _ in range(2)]
        await asyncio.sleep(0)
        await trainer.close()
        assert process is not None
        assert process.returncode is not None
        for answer in await asyncio.gather(*waiting):
            assert answer.error in (None, "The trainer has been stopped.")
        assert (await trainer.run(scoring(opened))).error == "The trainer has been stopped."

    with_trainer(use)


def test_no_worker_is_started_before_there_is_a_job():
    async def use(trainer: Trainer) -> None:
        assert trainer._process is None

    with_trainer(use)


def started() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "peer.trainer"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def ask(worker: subprocess.Popen[bytes], job: Train) -> dict[str, Any]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(pack({"job": job.job, "task": job.task, "settings": dict(job.settings)}, job.arrays))
    worker.stdin.flush()
    head, body = lengths(worker.stdout.read(LENGTHS.size))
    header, _ = unpack(worker.stdout.read(head), worker.stdout.read(body))
    return header


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is told otherwise on Windows")
def test_the_worker_ignores_ctrl_c_and_ends_with_its_input(rows):
    worker = started()
    assert ask(worker, opening(rows))["error"] is None
    worker.send_signal(signal.SIGINT)
    assert ask(worker, opening(rows))["error"] is None
    assert worker.communicate(timeout=20) == (b"", b"")
    assert worker.returncode == 0


def test_what_is_printed_in_the_worker_does_not_get_into_the_pipe(rows):
    code = (
        "import peer.learning.jobs as jobs, peer.trainer, sys\n"
        "run = jobs.Bench.run\n"
        "jobs.Bench.run = lambda *a: (print('chatter', flush=True), run(*a))[1]\n"
        "peer.trainer.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    job = opening(rows)
    message = pack({"job": job.job, "task": job.task, "settings": dict(job.settings)}, {})
    done = subprocess.run([sys.executable, "-c", code], input=message, capture_output=True, env=environment, check=True)
    head, _ = lengths(done.stdout[: LENGTHS.size])
    assert unpack(done.stdout[LENGTHS.size : LENGTHS.size + head], done.stdout[LENGTHS.size + head :])[0]["error"] is None
    assert done.stderr.strip() == b"chatter"


def test_a_file_is_opened_and_trained_on_without_scikit_learn(rows):
    code = (
        "import io, sys, peer.trainer\n"
        "sink = io.BytesIO()\n"
        "peer.trainer.work(sys.stdin.buffer, sink)\n"
        "print('sklearn' in sys.modules, 'scipy' in sys.modules, len(sink.getvalue()) > 100)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    job = opening(rows)
    message = pack({"job": job.job, "task": job.task, "settings": dict(job.settings)}, {})
    done = subprocess.run([sys.executable, "-c", code], input=message, capture_output=True, env=environment, check=True)
    assert done.stdout.split() == [b"False", b"False", b"True"]


def test_arrays_of_every_shape_go_through_the_pipe_unchanged():
    arrays = {"number": np.array(2.5), "table": np.arange(6.0).reshape(2, 3).T, "scalar": np.float64(1.5)}
    message = pack({"job": "x"}, arrays)
    head, body = lengths(message[: LENGTHS.size])
    header, back = unpack(message[LENGTHS.size : LENGTHS.size + head], message[LENGTHS.size + head :])
    assert header == {"job": "x"}
    assert len(message) == LENGTHS.size + head + body
    for name, value in arrays.items():
        assert back[name].shape == np.shape(value)
        assert np.array_equal(back[name], value)
        back[name][...] = 0.0


@pytest.mark.parametrize("sizes", [(MAX_HEADER_BYTES + 1, 0), (10, MAX_BODY_BYTES + 1)])
def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(sizes):
    with pytest.raises(PipeError):
        lengths(LENGTHS.pack(*sizes))
    with pytest.raises(PipeError):
        work(io.BytesIO(LENGTHS.pack(*sizes) + b"rest"), io.BytesIO())


def test_a_body_that_does_not_fit_its_header_is_refused():
    message = pack({}, {"a": np.zeros(4)})
    head, _ = lengths(message[: LENGTHS.size])
    header, body = message[LENGTHS.size : LENGTHS.size + head], message[LENGTHS.size + head :]
    for wrong in (body[:-8], body + bytes(8)):
        with pytest.raises(PipeError):
            unpack(header, wrong)


def test_what_is_too_large_to_send_is_not_sent(monkeypatch):
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 100)
    with pytest.raises(PipeError):
        pack({}, {"a": np.zeros(20)})


def test_a_daemon_that_dies_in_the_middle_of_a_message_ends_the_worker_in_silence():
    for arrays in ({}, {"a": np.zeros(4)}):
        message = pack({"job": "open", "task": ID, "settings": {}}, arrays)
        for cut in (0, 5, LENGTHS.size, LENGTHS.size + 3, len(message) - 1):
            sink = io.BytesIO()
            work(io.BytesIO(message[:cut]), sink)
            assert sink.getvalue() == b""
