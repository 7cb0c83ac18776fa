"""Commands as Neuropod has them: `--json` and examples on each, groups that load their commands when they are needed.

`run` is what `main` of cli and operate call: it gives a command its `Call`, and turns what it raises into a sentence
on standard error and an exit code (`exits`).
"""

import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import click

from neuropod.kit.collector import undisturbed
from neuropod.kit.errors import NeuropodError
from neuropod.kit.terminal.exits import CommandError, Exit, exit_of
from neuropod.kit.terminal.screen import Screen
from neuropod.kit.terminal.text import clean_line

PROGRAM = "neuropod"
COMPLETE_VARIABLE = "_NEUROPOD_COMPLETE"  # set by a shell that completes
ROOT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_NAME = re.compile(r"(?<![\w./-])neuropod(?= [a-z-])")  # the program in a hint


@dataclass(slots=True)
class Call:
    """One run of a command: where it speaks, and as what it was called."""

    screen: Screen
    program: str = PROGRAM


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about errors of the API: lines, given the call; and which option fills a field of a request."""

    hints: Callable[[NeuropodError, Call], Sequence[str]]
    options: Mapping[str, str]


def choice_of(words: type[StrEnum]) -> click.Choice[str]:
    """Return the type of an option that takes one of those words, as they are."""
    return click.Choice([word.value for word in words])


def call_of(context: click.Context) -> Call:
    """Return the run that a click context belongs to."""
    call = context.find_object(Call)
    assert call is not None
    return call


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        call_of(context).screen.json = True


def _json_option() -> click.Option:
    return click.Option(
        ["--json"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_json,
        help="Print JSON, for programs; errors too, on standard error.",
    )


class Command(click.Command):
    """A command with examples and `--json`."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.append(_json_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples, as they are typed here."""
        program = ctx.find_root().info_name or PROGRAM
        with formatter.section("Examples"):
            for example in self.examples:
                words = program + example.removeprefix(PROGRAM) if example.startswith(PROGRAM + " ") else example
                formatter.write(f"{'':>{formatter.current_indent}}{words}\n")
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of commands. `modules` maps a name to `module:attribute`, loaded when that command is asked for.

    So one command does not pay for what the others import.
    """

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, modules: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules = dict(modules or {})

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return names in the order in which they were written down."""
        return [*self._modules, *(name for name in self.commands if name not in self._modules)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, its module loaded now."""
        if cmd_name in self._modules and cmd_name not in self.commands:
            module, _, attribute = self._modules[cmd_name].partition(":")
            with undisturbed():
                self.commands[cmd_name] = getattr(importlib.import_module(module), attribute)
        return super().get_command(ctx, cmd_name)


def program_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return how the program was called; the launcher in a checkout says `./neuropod`."""
    return clean_line(environ.get("NEUROPOD_PROGRAM", "")) or PROGRAM


def standard_screen() -> Screen:
    """Return the process's own streams; on a terminal without Unicode `?` is shown, and nothing fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return Screen(sys.stdout, sys.stderr)


def run(root: click.Group, call: Call, words: Sequence[str], *, advice: Advice) -> int:
    """Run a command line and return its exit code."""
    try:
        code = root.main(
            list(words),
            prog_name=call.program,
            complete_var=COMPLETE_VARIABLE,
            standalone_mode=False,
            obj=call,
        )
        call.screen.flush()
    except BrokenPipeError:
        _drop_output()
        return Exit.FAILED
    except (click.ClickException, click.Abort, CommandError, NeuropodError) as error:
        # Options are read only when the whole line is right, and what is wrong with it should be JSON as well.
        return _told(error, call, advice, asked_json="--json" in words)
    return code if isinstance(code, int) else Exit.OK


def _told(error: Exception, call: Call, advice: Advice, *, asked_json: bool) -> int:
    """Say what an exception means; re-raise one that is a defect."""
    screen = call.screen
    match error:
        case click.exceptions.NoArgsIsHelpError():
            screen.note(error.format_message())
            return Exit.USAGE
        case click.UsageError():
            screen.json = screen.json or asked_json
            path = error.ctx.command_path if error.ctx is not None else call.program
            hint = f"see: {path} --help"
            screen.error(error.format_message(), hints=[hint], data={"code": "usage", "exit_code": Exit.USAGE})
            return Exit.USAGE
        case click.Abort():  # what click makes of Ctrl-C, of the end of input, and of a "no"
            interrupted = error.__cause__ is not None
            screen.note("\nInterrupted." if interrupted else "Nothing was done.")
            return Exit.INTERRUPTED if interrupted else Exit.FAILED
        case CommandError():
            data = {"code": error.exit_code.name.lower(), "exit_code": error.exit_code}
            own = [_as_called(hint, call) for hint in error.hints]
            screen.error(error.message, hints=own, data=data)
            return error.exit_code
        case NeuropodError():
            exit_code = exit_of(error)
            fields = [{"field": one.field, "code": one.code, "message": one.message} for one in error.fields]
            data = {"code": error.code, "exit_code": exit_code, "fields": fields}
            own = [_as_called(hint, call) for hint in advice.hints(error, call)]
            screen.error(_with_fields(error, advice.options), hints=own, data=data)
            return exit_code
        case _:
            raise error


def _with_fields(error: NeuropodError, options: Mapping[str, str]) -> str:
    """Return the sentence; where several fields are wrong, a line for each, by the name of its option."""
    if len(error.fields) < 2:
        return error.message
    lines = []
    for wrong in error.fields:
        first, dot, rest = wrong.field.partition(".")
        lines.append(f"  {options.get(first, first)}{dot}{rest}: {wrong.message}")
    return "\n".join(["the server refused this:", *lines])


def _as_called(hint: str, call: Call) -> str:
    """Let a hint name the program as it was called, so that it can be copied."""
    return _NAME.sub(lambda _: call.program, hint)


def _drop_output() -> None:
    """Whoever read our output has gone; let Python's own flush at exit not complain about it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
