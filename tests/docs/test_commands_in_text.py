"""A command that stands in the text for people is one that there is, with options that it has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from neuropod.cli.main import root as users_root
from neuropod.operate.main import root as machine_root

ROOT = Path(__file__).resolve().parents[2]
TEXTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if path != ROOT / "docs/reference/cli.md"  # made from the commands
)
# `neuropod on <host name>` is what a key is called.
_COMMAND = re.compile(r"(?:^ {4,}|`)(?:\./)?neuropod (?!on <)([^`\n]+)", re.MULTILINE)
# A group's commands beside each other, `user ls|show`, are looked at one by one.
_BESIDE = re.compile(r"[a-z-]+(?:\|[a-z-]+)+")


def _commands(text: str) -> Iterator[list[str]]:
    for found in _COMMAND.finditer(re.sub(r"\\\n\s*", "", text)):  # a command may go on in the next line
        words = shlex.split(found[1].replace("…", ""), comments=True)
        words = words[: words.index("--")] if "--" in words else words
        beside = next((word for word in words if _BESIDE.fullmatch(word)), None)
        for one in beside.split("|") if beside else [None]:
            yield [one if word == beside and one else word for word in words]


def _resolved(words: list[str]) -> tuple[click.Command | None, list[str]]:
    """Return the command that the words name, and what is left of them."""
    for root in (users_root, machine_root):
        command: click.Command | None = root
        left = list(words)
        while isinstance(command, click.Group) and left and not left[0].startswith("-"):
            command = command.get_command(click.Context(command), left.pop(0))
        if command is not None:
            return command, left
    return None, words


def _wrong(words: list[str]) -> str | None:
    command, left = _resolved(words)
    if command is None:
        return "no such command"
    known = {"--help", "-h"} | {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    unknown = [word for word in left if word.startswith("-") and word.partition("=")[0] not in known and len(word) > 1]
    return f"no option {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_text_are_there(path: Path):
    wrong = {" ".join(words): why for words in _commands(path.read_text()) if (why := _wrong(words)) is not None}

    assert wrong == {}


def test_wrong_commands_would_be_found():
    assert [_wrong(words) for words in _commands("`./neuropod pod lss` `neuropod pod ls|rm --al`")] == [
        "no such command",
        "no option --al",
        "no option --al",
    ]
    assert sum(len(list(_commands(path.read_text()))) for path in TEXTS) > 80
