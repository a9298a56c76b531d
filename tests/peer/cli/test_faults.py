from __future__ import annotations

from pathlib import Path

import pytest

from peer.cli.faults import foreseen
from peer.config import ConfigError, NoPeerHere
from peer.control import ControlError, Exit
from peer.learning.columns import ColumnMismatch
from peer.learning.pooled import NothingLearned
from peer.learning.tables import DataError
from peer.store import StoreBusy, StoreTooNew
from protocol.identity import BadCertificate
from protocol.joining import BadLink


@pytest.mark.parametrize(
    ("error", "exit"),
    [
        (DataError("rows.csv is empty."), Exit.SCHEMA),
        (ConfigError("config.toml is not valid."), Exit.USAGE),
        (NoPeerHere("There is no peer here."), Exit.USAGE),
        (StoreBusy(Path("home"), 7), Exit.FAILED),
        (StoreTooNew("A newer Chinwag has written this."), Exit.VERSION),
        (BadLink("the link is incomplete"), Exit.USAGE),
        (BadCertificate("a certificate of another issuer"), Exit.REFUSED),
        (NothingLearned("No row has come in."), Exit.FAILED),
        (PermissionError(13, "Permission denied", "/x"), Exit.FAILED),
        (ControlError("No.", None, Exit.TIMEOUT), Exit.TIMEOUT),
    ],
)
def test_every_error_of_the_rooms_has_its_exit_code(error: Exception, exit: Exit) -> None:
    fault = foreseen(error)
    assert fault is not None
    assert fault.exit == exit
    assert fault.sentence.endswith(".")


def test_the_error_of_a_room_keeps_its_own_remedy() -> None:
    fault = foreseen(DataError("It is empty.", "chinwag data check other.csv"))
    assert fault is not None
    assert fault.next == "chinwag data check other.csv"


def test_a_file_that_may_not_be_read_is_named() -> None:
    fault = foreseen(PermissionError(13, "Permission denied", "/x"))
    assert fault is not None
    assert fault.sentence == "/x: Permission denied."


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError(), RecursionError()])
def test_a_defect_of_ours_is_not_dressed_up(error: Exception) -> None:
    assert foreseen(error) is None


def test_the_mismatch_of_columns_is_a_fault_of_the_data() -> None:
    assert issubclass(ColumnMismatch, DataError)
