"""Where a program finds its server and key: the environment first, then the profile file.

`$XDG_CONFIG_HOME/neuropod/profile.toml` (default `~/.config/…`), mode 0600, holds servers by name and which of them is
in force. `neuropod up` writes the one named `machine`, `neuropod login` others. `NEUROPOD_URL` and `NEUROPOD_API_KEY`
come before the file, `NEUROPOD_PROFILE` before what it says is in force. A key is sent to the address it belongs to and
nowhere else: NEUROPOD_URL alone takes no key from a profile of another address.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from neuropod.client.localhost import is_loopback
from neuropod.kit.errors import InvalidInputError, NeuropodError, NotFoundError, UnauthenticatedError

MACHINE = "machine"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ProfileError(NeuropodError):
    """The profile file cannot be used; the sentence says what to do."""

    code = "profile"


@dataclass(frozen=True, slots=True)
class Profile:
    """One server and the key for it."""

    url: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Profiles:
    """The file's content."""

    by_name: Mapping[str, Profile]
    current: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """The server that a command talks to; `profile` None when the environment named it all."""

    url: str
    key: str | None
    profile: str | None


def normal_url(text: str) -> str:
    """Return scheme, host and port of an address as people type it. Raises InvalidInputError.

    Without a scheme: http on this machine, https elsewhere. What stands after the host is dropped (`/api/v1`).
    """
    text = text.strip()
    if "://" not in text:
        host = urlsplit(f"//{text}").hostname or ""
        text = f"{'http' if is_loopback(host) else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidInputError(f"{text} is not an address") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise InvalidInputError(f"{text} is not an address of a server, as in https://app.example.org")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


class ProfileFile:
    """The file, read and written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_user(cls, environ: Mapping[str, str] = os.environ) -> "ProfileFile":
        """Return the file of whoever runs this."""
        config = environ.get("XDG_CONFIG_HOME", "")
        if not config.startswith("/"):  # the specification: relative ones are ignored
            home = environ.get("HOME")
            if not home:
                raise ProfileError("neither HOME nor XDG_CONFIG_HOME is set, so there is no place for profiles")
            config = f"{home}/.config"
        return cls(Path(config, "neuropod", "profile.toml"))

    def read(self) -> Profiles:
        """Return what it holds; nothing when it is not there. Raises ProfileError."""
        try:
            status = self.path.stat()
            text = self.path.read_text()
        except FileNotFoundError:
            return Profiles({}, None)
        except (OSError, UnicodeDecodeError) as error:
            raise ProfileError(f"{self.path} cannot be read: {error}") from error
        if status.st_mode & 0o077:
            raise ProfileError(f"{self.path} holds keys and can be read by others; run: chmod 600 {self.path}")
        try:
            content = tomllib.loads(text)
            tables = content.get("profiles", {})
            by_name = {name: Profile(str(table["url"]), str(table["key"])) for name, table in tables.items()}
        except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ProfileError(f"{self.path} is damaged ({error}); remove it, then sign in again") from error
        current = content.get("current")
        return Profiles(by_name, current if isinstance(current, str) and current in by_name else None)

    def write(self, profiles: Profiles) -> None:
        """Replace the file, whole or not at all; readable by its owner alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(_toml(profiles))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def save(self, name: str, profile: Profile, *, use: bool = True) -> None:
        """Add or replace a profile, and put it in force. Others stay."""
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"{name!r} cannot name a profile; use letters, digits, '.', '_' and '-'")
        found = self.read()
        self.write(Profiles({**found.by_name, name: profile}, name if use else found.current))

    def save_machine(self, profile: Profile) -> bool:
        """Save the profile of this machine's own server; tell whether it is the one in force.

        It does not push a profile aside that the person chose.
        """
        found = self.read()
        use = found.current in {None, MACHINE}
        self.write(Profiles({**found.by_name, MACHINE: profile}, MACHINE if use else found.current))
        return use

    def use(self, name: str) -> None:
        """Put a profile in force. Raises NotFoundError."""
        found = self.read()
        self._require(found, name)
        self.write(Profiles(found.by_name, name))

    def drop(self, name: str) -> Profile:
        """Take a profile out and return it. Raises NotFoundError."""
        found = self.read()
        dropped = self._require(found, name)
        rest = {other: profile for other, profile in found.by_name.items() if other != name}
        current = found.current if found.current != name else next(iter(rest), None)
        self.write(Profiles(rest, current))
        return dropped

    def _require(self, profiles: Profiles, name: str) -> Profile:
        if name not in profiles.by_name:
            known = ", ".join(profiles.by_name) or "none"
            raise NotFoundError(f"there is no profile {name!r} in {self.path} (there: {known})", code="no_profile")
        return profiles.by_name[name]

    def target(self, name: str | None = None, environ: Mapping[str, str] = os.environ) -> Target:
        """Return the server to talk to, and the key for it. Raises UnauthenticatedError where nothing names one."""
        url, key = environ.get("NEUROPOD_URL"), environ.get("NEUROPOD_API_KEY")
        if url and key and name is None:
            return Target(normal_url(url), key, None)
        found = self.read()
        chosen = name or environ.get("NEUROPOD_PROFILE") or found.current
        if chosen is None:
            if url:
                return Target(normal_url(url), None, None)
            raise UnauthenticatedError("no server is known here yet", code="no_profile")
        profile = self._require(found, chosen)
        if url and name is None:
            same = normal_url(url) == profile.url
            return Target(normal_url(url), profile.key if same else None, chosen if same else None)
        return Target(profile.url, key if key and name is None else profile.key, chosen)


def _toml(profiles: Profiles) -> str:
    lines = ["# Servers that the command line knows, with their keys. Written by `neuropod login` and `neuropod up`."]
    if profiles.current is not None:
        lines.append(f"current = {_quoted(profiles.current)}")
    for name, profile in profiles.by_name.items():
        lines += ["", f"[profiles.{_quoted(name)}]", f"url = {_quoted(profile.url)}", f"key = {_quoted(profile.key)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a basic string of TOML; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
