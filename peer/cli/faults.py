"""Every fault that a command foresees, as one sentence, what to type next, and an exit code.

The rooms below raise errors of their own, which know the sentence and mostly the remedy; here, and only here, those that know
no exit code get theirs. A fault that is not foreseen is a defect of ours and shows its traceback.
"""

from __future__ import annotations

from typing import Final

import click

from ..control import ControlError, Exit

AGAIN: Final = "correct the file, then type the same again"

EXITS: Final[dict[str, tuple[Exit, str | None]]] = {
    "DataError": (Exit.SCHEMA, AGAIN),
    "StateRefused": (Exit.SCHEMA, None),
    "NothingLearned": (Exit.FAILED, "chinwag status"),
    "ConfigError": (Exit.USAGE, None),
    "StoreError": (Exit.FAILED, None),
    "BadLink": (Exit.USAGE, "copy the whole link and type: chinwag join LINK"),
    "JoinRefused": (Exit.REFUSED, "chinwag invite, on a device that is a member already"),
    "BadCertificate": (Exit.REFUSED, "chinwag doctor"),
    "MayNotRevoke": (Exit.REFUSED, None),
    "OSError": (Exit.FAILED, None),
}
"""Exit code, and what to type if the error does not say; by the class's name, so that no room is imported only for its errors' names."""


def foreseen(error: BaseException) -> ControlError | None:
    """This error as a command reports it; None if nobody has foreseen it."""
    if isinstance(error, ControlError):
        return error
    if hasattr(error, "sentence") and hasattr(error, "exit"):
        return ControlError(error.sentence, getattr(error, "next", None), error.exit)
    for kind in type(error).__mro__:
        if found := EXITS.get(kind.__name__):
            exit, remedy = found
            return ControlError(_says(error), getattr(error, "next", None) or remedy, getattr(error, "exit", None) or exit)
    return None


def usage(error: click.UsageError) -> ControlError:
    """A command that was typed wrongly."""
    where = error.ctx.command_path if error.ctx else "chinwag"
    return ControlError(_sentence(error.format_message()), getattr(error, "next", None) or f"{where} --help", Exit.USAGE)


def _says(error: BaseException) -> str:
    if sentence := getattr(error, "sentence", None):
        return str(sentence)  # begins as it means to: maybe with the name of a file
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}." if error.filename and error.strerror else _sentence(error.strerror or str(error))
    return _sentence(str(error))


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."
