"""`neuropod audit`: who did what."""

import json
from datetime import datetime

import click

from neuropod.cli.commands import UserCall, UserCommand
from neuropod.client.users import Users
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import local_time
from neuropod.wire.audit import AuditEntry

_COLUMNS = (
    Column("AT"),
    Column("WHO", shrinks=True),
    Column("DID"),
    Column("TO"),
    Column("OF", shrinks=True),
    Column("", shrinks=True),
)


@click.command(
    "audit",
    cls=UserCommand,
    examples=[
        "neuropod audit",
        "neuropod audit --user ada@example.org -n 100",
        "neuropod audit --did suspend_user --since 2026-01-01",
    ],
)
@click.option("--user", metavar="USER", help="Only what concerns them; for administrators.")
@click.option("--by", "actor", metavar="USER", help="Only what they did; for administrators.")
@click.option("--did", "verb", metavar="VERB", help="Only this act, as in launch_pod.")
@click.option("--to", "subject", metavar="KIND/ID", help="Only this thing, as in pod/pod_01j8….")
@click.option("--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), metavar="TIME",
              help="Not before this day or time of here, as in 2026-01-31.")  # fmt: skip
@click.option("-n", "--number", type=click.IntRange(1), default=30, show_default=True, help="How many.")
@click.pass_obj
def audit(call: UserCall, /, number: int, since: datetime | None, **given: str | None) -> None:
    """Show who did what, the newest last. Administrators see all, others what concerns them."""
    found = list(
        Users(call.connection()).list_audit(since=None if since is None else since.astimezone(), limit=number, **given)
    )[::-1]
    if call.show_json(found):
        return
    if found:
        call.screen.table(_COLUMNS, [_row(one) for one in found])
    else:
        call.screen.note("Nothing like that was done.")


def _row(one: AuditEntry) -> list[str]:
    who = one.actor.email if one.actor is not None else f"({one.via})"
    owner = one.owner.email if one.owner is not None else "-"
    data = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in one.data.items()
    )
    return [local_time(one.at), who, one.verb, one.subject, owner, data]
