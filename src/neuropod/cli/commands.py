"""What the user's commands share: the call with its server, `--profile`, and values as they are typed."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from neuropod.client.connection import Connection
from neuropod.client.profile import ProfileFile, Target
from neuropod.kit.clock import Clock, SystemClock
from neuropod.kit.terminal.commands import Call, Command, Group, call_of
from neuropod.wire.shapes import Answer


@dataclass(slots=True)
class UserCall(Call):
    """One run of a user's command. What reaches outside is a field, so that tests can put their own there."""

    environ: Mapping[str, str] = field(default_factory=dict)
    connect: Callable[[str, str | None], Connection] = Connection
    clock: Clock = field(default_factory=SystemClock)
    sleep: Callable[[float], None] = time.sleep
    profile: str | None = None  # --profile
    _connection: Connection | None = None
    _key: str | None = None

    @property
    def profiles(self) -> ProfileFile:
        """The profile file of whoever runs this."""
        return ProfileFile.of_user(self.environ)

    def target(self) -> Target:
        """Return the server that is meant."""
        return self.profiles.target(self.profile, self.environ)

    def connection(self) -> Connection:
        """Return the connection to it; made once."""
        if self._connection is None:
            target = self.target()
            self._connection, self._key = self.connect(target.url, target.key), target.key
        return self._connection

    def renew_key(self) -> bool:
        """Read the profile again: a server that restarted has given its machine a new key. Tell whether it is one."""
        before, after = self._key, self.target().key
        if self._connection is None or after is None or after == before:
            return False
        self._connection.use_key(after)
        self._key = after
        return True

    def show_json(self, value: Answer | Iterable[Answer]) -> bool:
        """With `--json`, print one thing or a list of things, and tell that it was done."""
        if self.screen.json:
            one = isinstance(value, Answer)
            self.screen.data(_plain(value) if one else [_plain(item) for item in value])
        return self.screen.json


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json")


def _set_profile(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    call = call_of(context)
    if value is not None and isinstance(call, UserCall):
        call.profile = value


class UserCommand(Command):
    """A command that talks to a server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        option = click.Option(
            ["--profile"],
            metavar="NAME",
            expose_value=False,
            is_eager=True,
            callback=_set_profile,
            help="Which server, by its name in `neuropod profile ls`.",
        )
        self.params.append(option)


class UserGroup(Group):
    """A group of them."""

    command_class = UserCommand
