"""Writes docs/reference/cli.md from the commands themselves: `python tools/cli_reference.py`. A test compares them."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from neuropod.cli.main import root as users_root
from neuropod.kit.terminal.commands import Command
from neuropod.kit.terminal.exits import MEANINGS
from neuropod.operate.main import root as machine_root

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"

_EVERYWHERE = {"--json", "--profile"}  # told once, at the top

_HEAD = """\
# The command line

<!-- Made by tools/cli_reference.py; a test fails when it is not up to date. -->

In a checkout the program is `./neuropod`; it needs no activated environment. Results go to standard output, all else to
standard error. Every command has `--help`, with examples, and `--json`: the result as JSON on standard output, an error
as `{"error": {"code", "message", "hints", "exit_code", "fields"}}` on standard error. Terminal escapes and other
control characters in what pods or servers say are never shown.

Which server the commands talk to, first wins: `--profile NAME`; `NEUROPOD_URL` and `NEUROPOD_API_KEY`;
`NEUROPOD_PROFILE`; the profile in force. Profiles stand in `$XDG_CONFIG_HOME/neuropod/profile.toml` (default
`~/.config`), mode 0600. `neuropod up` writes the one named `machine`, `neuropod login` others. A key is sent to the
address that it belongs to and to no other. Names below `localhost` are this machine, whatever its resolver says.

## Exit codes

| code | meaning |
|---|---|
"""


def page() -> str:
    """Return the page."""
    rows = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    parts = [_HEAD + rows]
    for title, root in (("Your commands", users_root), ("Commands of the machine that runs the server", machine_root)):
        parts.append(f"## {title}\n")
        parts += [_section(path, command) for path, command in leaves(root)]
    return "\n".join(parts)


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Yield every command that does something, with its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from leaves(child, (*path, name))
    else:
        assert isinstance(command, Command)
        yield path, command


def _section(path: tuple[str, ...], command: Command) -> str:
    words = " ".join(("neuropod", *path))
    context = click.Context(command, info_name=words)
    usage = " ".join((words, *command.collect_usage_pieces(context)))
    text = inspect.cleandoc(command.help or "")
    own = [one for one in command.params if isinstance(one, click.Option) and not _EVERYWHERE & set(one.opts)]
    rows = [record for option in own if (record := option.get_help_record(context)) is not None]
    options = "".join(f"| `{_cell(names)}` | {_cell(told)} |\n" for names, told in rows)
    table = f"| option | meaning |\n|---|---|\n{options}\n" if options else ""
    examples = "".join(f"    {example}\n" for example in command.examples)
    return f"### {words}\n\n    {usage}\n\n{text}\n\n{table}Examples:\n\n{examples}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
