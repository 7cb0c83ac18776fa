"""Words of a command read into requests: `8000:web:public`, `data:50`, `KEY=VALUE`."""

from collections.abc import Sequence

import click

from neuropod.wire.pods import PortCreate, VolumeAsk
from neuropod.words import Access


def port_of(text: str) -> PortCreate:
    """Read `PORT[:NAME[:ACCESS]]`; the name may be empty."""
    number, _, rest = text.partition(":")
    name, _, access = rest.rpartition(":") if rest.count(":") else (rest, "", "")
    if not number.isdigit():
        raise click.BadParameter(f"{text!r}: a port is PORT, PORT:NAME or PORT:NAME:ACCESS, as in 8000:web:public")
    values: dict[str, object] = {"port": int(number)}
    if name:
        values["name"] = name
    if access:
        values["access"] = access_of(access)
    return PortCreate.model_validate(values)


def access_of(text: str) -> Access:
    """Read an access level."""
    try:
        return Access(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}: access is one of {', '.join(Access)}") from None


def volume_of(text: str) -> VolumeAsk:
    """Read `NAME[:GB]`."""
    name, _, size = text.partition(":")
    if size and not size.isdigit():
        raise click.BadParameter(f"{text!r}: a volume is NAME or NAME:GB, as in workspace:50")
    return VolumeAsk(name=name, size_gb=int(size)) if size else VolumeAsk(name=name)


def env_of(words: Sequence[str]) -> dict[str, str]:
    """Read `KEY=VALUE`s."""
    env = {}
    for word in words:
        key, found, value = word.partition("=")
        if not found:
            raise click.BadParameter(f"{key!r}: an environment variable is KEY=VALUE")
        env[key] = value
    return env
