"""The command's root: which commands there are, the options all of them take, and how every fault becomes a sentence and an exit code."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from ..control import ControlError, Exit
from .faults import foreseen, usage
from .screen import Settings, visible

COMMANDS: Final[dict[str, str]] = {
    "demo": "demo",
    "init": "init",
    "data": "rows:data",
    "task": "task",
    "start": "start:start",
    "stop": "start:stop",
    "status": "status:status",
    "peers": "status:peers",
    "watch": "watch",
    "invite": "membership:invite",
    "join": "membership:join",
    "revoke": "membership:revoke",
    "predict": "predict:predict",
    "evaluate": "predict:evaluate",
    "model": "model",
    "leave": "leave",
    "doctor": "doctor",
}
"""Each command's module here, and its name in it where that differs, in the order in which one needs them: that of the help page."""

START_HERE: Final = """\
start here:
  chinwag demo                               three peers here teach each other
  chinwag init --data FILE --target COLUMN   make this device a peer
  chinwag start, then chinwag invite         run it, let another device in"""


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep a global option where all commands find it, wherever on the line it stood."""
    if parameter.name and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE:
        setattr(context.ensure_object(Settings), parameter.name, value)


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from protocol.messages import VERSION

    settings = context.ensure_object(Settings)
    is_json = settings.is_json or "--json" in settings.words
    found = {"version": version(), "protocol": VERSION, "python": sys.version.split()[0]}
    click.echo(json.dumps(found) if is_json else "chinwag {version} (protocol {protocol}, Python {python})".format(**found))
    context.exit()


def version() -> str:
    """The version of the installed distribution."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("chinwag")
    except PackageNotFoundError:
        return "0+checkout"


def _global_options(is_root: bool) -> list[click.Parameter]:
    def option(*names: str, help: str, **more: Any) -> click.Option:
        return click.Option(names, help=help, expose_value=False, callback=_remember, hidden=not is_root, **more)

    return [
        option(
            "--home",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of this peer (default: $CHINWAG_HOME, or the user's data folder).",
        ),
        option("--json", "is_json", is_flag=True, help="Print JSON, one object a line."),
        option("--quiet", "-q", "is_quiet", is_flag=True, help="Print the answer only."),
        option("--verbose", "-v", "verbosity", count=True, help="Say more; twice: everything."),
        option("--no-color", "is_plain", is_flag=True, help="No colours (also: NO_COLOR=1)."),
        click.Option(
            ("--version",),
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            hidden=not is_root,
            help="Print the version.",
        ),
    ]


class Command(click.Command):
    """A command that takes the global options as well as its own."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params = [*self.params, *_global_options(is_root=False)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("\nGlobal options (--home, --json, --quiet, …): chinwag --help\n")


class Group(click.Group):
    """A command with commands of its own, which takes the global options too."""

    command_class = Command
    group_class = type

    def __init__(self, *arguments: Any, is_root: bool = False, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params = [*self.params, *_global_options(is_root)]


class Root(Group):
    """Loads each command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_added(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        added = _added(ctx)
        if cmd_name not in COMMANDS and cmd_name not in added:
            return None
        module, _, name = (COMMANDS.get(cmd_name) or added[cmd_name]).partition(":")
        found = getattr(import_module(module if cmd_name in added else f".{module}", __package__), name or module)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], known, n=1)
            raise UnknownCommand(args[0], near[0] if near else None)
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("\n" + START_HERE + "\n")


def _added(context: click.Context) -> Mapping[str, str]:
    """The commands of the rooms above this one."""
    return context.ensure_object(Settings).more


class UnknownCommand(click.UsageError):
    """There is no such command; maybe another was meant."""

    def __init__(self, given: str, meant: str | None) -> None:
        super().__init__(f"There is no command '{given}'" + (f"; did you mean '{meant}'?" if meant else "."))
        self.next = f"chinwag {meant}" if meant else None


@click.group(
    cls=Root, is_root=True, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.pass_context
def chinwag(context: click.Context) -> None:
    """Devices on one network learn one model together; every device keeps its rows. No server, no account."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str] | None = None, more: Mapping[str, str] | None = None) -> int:
    """Run the command with these arguments; the exit code. Never raises for a fault that can be foreseen."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    settings = Settings(words=tuple(words), more=more or {})
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without ▁▂▃ shows ? instead of failing
    try:
        outcome = chinwag.main(words, prog_name="chinwag", standalone_mode=False, obj=settings)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return _without_reader()
    except click.UsageError as error:
        return _report(usage(error), settings)
    except click.ClickException as error:
        return _report(ControlError(error.format_message(), None, Exit.USAGE), settings)
    except Exception as error:
        fault = foreseen(error)
        if fault is None:
            raise
        return _report(fault, settings)
    return outcome if isinstance(outcome, int) else Exit.OK


def _report(fault: ControlError, settings: Settings) -> int:
    next = settings.at_home(fault.next) if fault.next else None
    try:
        if "--json" in settings.words:  # the words, as a line that cannot be parsed has set nothing
            print(json.dumps({"error": fault.sentence, "next": next, "exit": fault.exit}), flush=True)
        else:
            print(visible(fault.sentence) + (f"\nnext: {visible(next)}" if next else ""), file=sys.stderr, flush=True)
    except BrokenPipeError:
        return _without_reader()
    return fault.exit


def _without_reader() -> int:
    """Whoever read our output has seen enough (`chinwag peers | head -1`). Python must not complain at exit that the rest has no reader."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.OK
