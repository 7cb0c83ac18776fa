"""`neuropod events`: what happens, as it happens."""

import click

from neuropod.cli.commands import UserCall, UserCommand
from neuropod.cli.connecting import complete_pod
from neuropod.client.events import Events
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.kit.terminal.text import local_time
from neuropod.wire.events import Reset


@click.command(
    "events",
    cls=UserCommand,
    examples=[
        "neuropod events -f",
        "neuropod events -f --pod lab --json",
        "neuropod events -f --all",
        "neuropod events -f --after 0.1204",
    ],
)
@click.option("--follow", "-f", is_flag=True, required=True, help="Go on with what comes.")
@click.option("--all", "everybody", is_flag=True, help="All people's; for administrators.")
@click.option("--user", metavar="USER", help="Somebody else's, by address or id; for administrators.")
@click.option("--pod", metavar="NAME", shell_complete=complete_pod, help="Only this pod's.")
@click.option("--after", metavar="POSITION", help="Go on after that position, as `--json` tells it.")
@click.pass_obj
def events(call: UserCall, follow: bool, everybody: bool, user: str | None, pod: str | None, after: str | None) -> None:
    """Follow what happens to your things: each line as it happens, over restarts of the server, none twice.

    What happened to one pod earlier is told by `neuropod pod events`.
    """
    screen = call.screen
    if not follow:
        raise click.UsageError("events are followed: give -f")
    if not screen.json:
        screen.note("Following what happens. Ctrl-C ends it.")
    try:
        for one in Events(call.connection(), sleep=call.sleep).follow_events(
            everybody=everybody, user=user, pod=pod, after=after, renew_key=call.renew_key
        ):
            if screen.json:
                screen.data_line(one.model_dump(mode="json"))
            elif isinstance(one, Reset):
                screen.note("Some events are missing: they are not kept any more.")
            else:
                name = one.pod.name if one.pod is not None else one.pod_id or "-"
                screen.line(f"{local_time(one.at)}  {one.kind}  {name}  {one.message}")
            screen.flush()
    except KeyboardInterrupt:
        screen.flush()
        raise CommandError("not following any longer", exit_code=Exit.INTERRUPTED) from None
