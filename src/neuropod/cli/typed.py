"""Values as typed at a command, made into requests: `8000:web:public`, `data:50`, `KEY=VALUE`, `8h`, commands."""

import re
import shlex
from collections.abc import Iterable, Mapping

import click
from pydantic import SecretStr

from neuropod.wire.pods import PortCreate, SecretRef, VolumeAsk
from neuropod.words import Access


def port_of(text: str) -> PortCreate:
    """Read `PORT[:NAME[:ACCESS]]`. A name may hold colons when the access stands behind it."""
    number, _, rest = text.partition(":")
    if not number.isdecimal():
        raise click.BadParameter(f"{text!r} is not PORT[:NAME[:ACCESS]], as in 8000:web:public")
    name, colon, last = rest.rpartition(":")
    if not colon:
        name, last = rest, ""
    values: dict[str, object] = {"port": int(number)}
    if name:
        values["name"] = name
    if last:
        values["access"] = access_of(last)
    return PortCreate.model_validate(values)


def access_of(text: str) -> Access:
    """Read an access level."""
    try:
        return Access(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no access level; there are {', '.join(Access)}") from None


def volume_of(text: str) -> VolumeAsk:
    """Read `NAME[:GB]`."""
    name, colon, size = text.partition(":")
    if not name or (colon and not size.isdecimal()):
        raise click.BadParameter(f"{text!r} is not NAME[:GB], as in data:50")
    return VolumeAsk(name=name, size_gb=int(size)) if colon else VolumeAsk(name=name)


def env_of(words: Iterable[str], environ: Mapping[str, str]) -> dict[str, SecretStr]:
    """Read `KEY=VALUE`s; a `KEY` alone takes its value from here, so that it stands in no list of processes."""
    env = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            if key not in environ:
                raise click.BadParameter(f"{key} is not set here; give it as {key}=VALUE")
            value = environ[key]
        env[key] = SecretStr(value)
    return env


def secret_env_of(words: Iterable[str]) -> dict[str, SecretRef]:
    """Read `VARIABLE=SECRET`s; a `SECRET` alone is given in the variable of its name."""
    named = {}
    for word in words:
        variable, equals, secret = word.partition("=")
        if not variable or (equals and not secret):
            raise click.BadParameter(f"{word!r} is not VARIABLE=SECRET, as in TOKEN=HF_TOKEN")
        named[variable] = SecretRef(secret=secret or variable)
    return named


_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


def limit_of(text: str) -> int | None:
    """Read a span of time, `8h`, `1d12h`, `90m`, as seconds; `never` is none."""
    if text == "never":
        return None
    found = _SPAN.fullmatch(text)
    if found is None or not text:
        raise click.BadParameter(f"{text!r} is no span of time; write 8h, 1d12h, 90m, or never")
    return sum(int(number) * size for number, size in zip(found.groups(), _UNITS.values(), strict=True) if number)


def command_of(text: str) -> list[str]:
    """Split a command as a shell would; no shell runs it."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"cannot be split into words: {error}") from None
