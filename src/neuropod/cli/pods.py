"""`neuropod pod …`: the pods."""

import sys
import webbrowser
from typing import Any

import click

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.cli.connecting import complete_pod, pods_of
from neuropod.cli.creating import create, edit, waiting_options
from neuropod.cli.logs import logs
from neuropod.cli.quoting import quote
from neuropod.cli.showing import show_pod, show_pods
from neuropod.cli.top import top
from neuropod.cli.waiting import Goal, Waiting
from neuropod.kit.terminal.commands import choice_of
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import local_time
from neuropod.wire.pods import Pod
from neuropod.words import Status

_NO_PODS = "No pods yet. Launch one: {program} pod create lab --template jupyterlab --wait"
_EVENT_COLUMNS = (Column("AT"), Column("WHAT"), Column("", shrinks=True))
# Loaded when they are asked for: no other command has to pay for WebSockets.
_LATER = {"exec": "neuropod.cli.execs:exec_", "shell": "neuropod.cli.execs:shell"}


class _PodGroup(UserGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*(name for name in super().list_commands(ctx) if name not in _LATER), *_LATER]


@click.group("pod", cls=_PodGroup, modules=_LATER)
def pod() -> None:
    """Launch pods, look at them, open, stop and delete them."""


pod.add_command(create)
pod.add_command(quote)


@pod.command(
    "ls",
    examples=[
        "neuropod pod ls",
        "neuropod pod ls --all --status waiting --json",
        "neuropod pod ls --user ada@example.org",
    ],
)
@click.option("--all", "everybody", is_flag=True, help="All people's pods; for administrators.")
@click.option("--user", metavar="USER", help="Somebody else's, by address or id; for administrators.")
@click.option("--status", type=choice_of(Status), help="Only those.")
@click.option("--gpu-type", metavar="TYPE", help="Only those on this type.")
@click.pass_obj
def list_(call: UserCall, everybody: bool, user: str | None, status: str | None, gpu_type: str | None) -> None:
    """List your pods, newest first."""
    wanted = None if status is None else Status(status)
    pods = list(pods_of(call).list_pods(everybody=everybody, owner=user, gpu_type=gpu_type, status=wanted))
    if call.show_json(pods):
        return
    if not pods and (everybody or user or status or gpu_type):
        call.screen.note("No pods are like that.")
        return
    if not pods:
        call.screen.note(_NO_PODS.format(program=call.program))
        return
    show_pods(call.screen, pods, call.clock.now(), owners=everybody or user is not None)


@pod.command("show", examples=["neuropod pod show lab", "neuropod pod show lab --json"])
@click.argument("name", shell_complete=complete_pod)
@click.pass_obj
def show(call: UserCall, name: str) -> None:
    """Show all about a pod: its status and why, its size and price, its addresses."""
    found = pods_of(call).show_pod(name)
    if not call.show_json(found):
        show_pod(call.screen, found, call.clock.now())


pod.add_command(logs)
pod.add_command(top)


@pod.command("open", examples=["neuropod pod open lab 8888", "neuropod pod open lab --browser"])
@click.argument("name", shell_complete=complete_pod)
@click.argument("port", type=int, required=False)
@click.option("--browser", is_flag=True, help="Open it in a browser too.")
@click.pass_obj
def open_(call: UserCall, name: str, port: int | None, browser: bool) -> None:
    """Print the link that opens a port; for Jupyter it signs you in, so keep it to yourself.

    Without PORT: the pod's first one.
    """
    pods = pods_of(call)
    found = pods.show_pod(name)
    number = found.ports[0].port if port is None and found.ports else port
    if number is None or number not in {one.port for one in found.ports}:
        raise _no_such_port(found, number)
    link = pods.make_link(name, number)
    if not call.show_json(link):
        call.screen.say(link.url)
    if found.status is not Status.RUNNING:
        call.screen.note(f"{found.name} is {found.status}: {found.message}")
    if browser and not webbrowser.open(link.url):
        call.screen.note("No browser could be opened here; open the link yourself.")


def _no_such_port(found: Pod, number: int | None) -> CommandError:
    ports = ", ".join(str(one.port) for one in found.ports) or "none"
    what = "exposes no port" if number is None else f"does not expose port {number} (it exposes: {ports})"
    hint = f"expose one: neuropod port add {found.name} {number or 8000}"
    return CommandError(f"{found.name} {what}", exit_code=Exit.NOT_FOUND, hints=(hint,))


@pod.command("start", examples=["neuropod pod start lab --wait"])
@click.argument("name", shell_complete=complete_pod)
@waiting_options
@click.pass_obj
def start(call: UserCall, name: str, wait: bool, timeout: int) -> None:
    """Start a pod. Its addresses and its volume are the same as before; one that runs already stays as it is."""
    pods = pods_of(call)
    _wish(call, pods.start_pod(name), Goal.RUNNING, wait=wait, timeout=timeout)


@pod.command("stop", examples=["neuropod pod stop lab", "neuropod pod stop lab --wait"])
@click.argument("name", shell_complete=complete_pod)
@waiting_options
@click.pass_obj
def stop(call: UserCall, name: str, wait: bool, timeout: int) -> None:
    """Stop a pod. Its volume and addresses stay; what it wrote outside its volume is lost."""
    pods = pods_of(call)
    _wish(call, pods.stop_pod(name), Goal.STOPPED, wait=wait, timeout=timeout)


@pod.command("restart", examples=["neuropod pod restart lab --wait"])
@click.argument("name", shell_complete=complete_pod)
@waiting_options
@click.pass_obj
def restart(call: UserCall, name: str, wait: bool, timeout: int) -> None:
    """Stop a pod and start it anew; what it wrote outside its volume is lost."""
    pods = pods_of(call)
    _wish(call, pods.restart_pod(name), Goal.RUNNING, wait=wait, timeout=timeout)


def _wish(call: UserCall, found: Pod, goal: Goal, *, wait: bool, timeout: int) -> None:
    if wait:
        found = Waiting(call, pods_of(call), timeout_seconds=timeout).wait(found, goal) or found
    if call.show_json(found):
        return
    call.screen.say(f"{found.name}: {found.message}")
    if found.status is Status.RUNNING and found.ports:
        call.screen.note(f"Open it: {call.program} pod open {found.name} {found.ports[0].port}")


pod.add_command(edit)


@pod.command("rm", examples=["neuropod pod rm lab", "neuropod pod rm lab old-lab --yes --wait"])
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_pod)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@waiting_options
@click.pass_obj
def rm(call: UserCall, /, names: tuple[str, ...], yes: bool, **given: Any) -> None:
    """Delete pods. Their volumes stay; all else of them is lost.

    Asks first where somebody can answer: on a terminal.
    """
    pods = pods_of(call)
    found = [pods.show_pod(name) for name in names]
    if not yes and not call.screen.json and sys.stdin.isatty() and call.screen.is_terminal:
        kept = "".join(f" Its volume {one.volume.name} stays." for one in found[:1] if one.volume and len(found) == 1)
        click.confirm(f"Delete {', '.join(one.name for one in found)}?{kept}", abort=True)
    answers = []
    for one in found:
        deleted = pods.delete_pod(one.id)
        answers.append(deleted)
        kept = f" Its volume {one.volume.name} stays." if one.volume is not None else ""
        call.screen.say(f"{one.name} is being deleted.{kept}")
    if given["wait"]:
        for one in answers:
            Waiting(call, pods, timeout_seconds=given["timeout"]).wait(one, Goal.GONE)
    call.show_json(answers)


@pod.command("events", examples=["neuropod pod events lab", "neuropod pod events lab -n 100"])
@click.argument("name", shell_complete=complete_pod)
@click.option("-n", "--number", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.pass_obj
def events(call: UserCall, name: str, number: int) -> None:
    """Show what happened to a pod, the newest last."""
    found = list(pods_of(call).list_events(name, limit=number))[::-1]
    if call.show_json(found):
        return
    if not found:
        call.screen.note(f"Nothing happened to {name} yet.")
        return
    call.screen.table(_EVENT_COLUMNS, [[local_time(one.at), one.kind, one.message] for one in found])
