"""What every command shares: the connection of the chosen profile, `--json`, and how things are printed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from pydantic import BaseModel

from neuropod.cli.text import table
from neuropod.client.api import Api
from neuropod.client.http import Http, json_text
from neuropod.client.profile import load_profile

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Shared:
    """Made once per run of a command."""

    profile: str | None
    _api: Api | None = None

    @property
    def api(self) -> Api:
        """The API of the chosen profile."""
        if self._api is None:
            self._api = Api(Http.of(load_profile(self.profile)))
        return self._api


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hand the command what is shared as its first argument."""
    return click.make_pass_decorator(Shared)(command)


def as_json(command: F) -> F:
    """Add `--json`."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON, for programs.")(command)


def show_json(value: BaseModel | Iterable[BaseModel]) -> None:
    """Print one thing, or a list of things, as JSON."""
    if isinstance(value, BaseModel):
        click.echo(json_text(value.model_dump(mode="json")))
    else:
        click.echo(json_text([one.model_dump(mode="json") for one in value]))


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print a table, or what to do where there is nothing."""
    click.echo(table(head, rows) if rows else empty)
