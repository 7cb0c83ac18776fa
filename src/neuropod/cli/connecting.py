"""From a call to the client's nouns."""

import click

from neuropod.cli.commands import UserCall
from neuropod.client.pods import Pods
from neuropod.kit.errors import NeuropodError
from neuropod.kit.terminal.commands import call_of


def pods_of(call: UserCall) -> Pods:
    """Return the pods of the server that is meant."""
    return Pods(call.connection(), sleep=call.sleep)


def complete_pod(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of one's pods that begin so, for the shell; nothing where no server answers."""
    call = call_of(context)
    if not isinstance(call, UserCall):
        return []
    try:
        return [pod.name for pod in pods_of(call).list_pods() if pod.name.startswith(incomplete)]
    except NeuropodError:
        return []
