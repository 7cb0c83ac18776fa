"""`neuropod pod quote`: what a launch would meet and cost, with the options of `pod create`; nothing is made."""

import secrets
from typing import Any

import click

from neuropod.cli.commands import UserCall, UserCommand
from neuropod.cli.connecting import pods_of
from neuropod.cli.creating import asked_of, create_options
from neuropod.cli.showing import holders
from neuropod.wire.quotes import Quote
from neuropod.wire.shapes import Price


@click.command(
    "quote",
    cls=UserCommand,
    examples=[
        "neuropod pod quote --template jupyterlab",
        "neuropod pod quote -t jupyterlab-scientific --gpu-type rtx-4090 --gpu-count 2 --volume data:100",
        "neuropod pod quote lab -t jupyterlab --json",
    ],
)
@click.argument("name", required=False)
@create_options
@click.pass_obj
def quote(call: UserCall, /, name: str | None, **given: Any) -> None:
    """Tell what such a pod would cost, and whether it would start at once; nothing is made or reserved.

    With NAME it also tells whether that name is free.
    """
    asked = asked_of(name or f"quote-{secrets.token_hex(6)}", given, call.environ)
    found = pods_of(call).quote_pod(asked)
    if call.show_json(found):
        return
    call.screen.fields([(title, value) for title, value in _fields(found) if value])


def _fields(found: Quote) -> list[tuple[str, str]]:
    prices = found.prices
    size = found.gpu_type if found.gpu_count == 1 else f"{found.gpu_count} x {found.gpu_type}"
    volume = ""
    if found.volume is not None:
        new = "made by the launch" if found.volume_is_new else "there already, and paid for already"
        volume = f"{_amount(prices.volume)} volume {found.volume}, {found.volume_gb} GB, while it exists ({new})"
    most = "as many as you like" if found.limits.pods_most is None else str(found.limits.pods_most)
    return [
        ("Starts", "at once" if found.fits else f"later: {found.message}"),
        ("Held by", holders(found.holders)),
        *(("Refused", one.message) for one in found.obstacles),
        ("Per hour", f"{_amount(prices.gpu_type)} {size}: {found.cpu_cores} cores, {found.memory_gb} GB memory"),
        ("", f"{_amount(prices.container_disk)} container disk, {found.container_disk_gb} GB"),
        ("", f"{_amount(prices.pod)} the pod, while it runs"),
        ("", volume),
        ("", f"{_amount(prices.total)} in all" if volume else ""),
        ("Pods", f"{found.limits.pods} of {most}"),
    ]


def _amount(price: Price) -> str:
    return f"{price.per_hour} {price.currency}"
