"""Where the commands find their server and key: the environment first, then the profile file.

`NEUROPOD_URL` and `NEUROPOD_API_KEY`, else `$XDG_CONFIG_HOME/neuropod/profile.toml` (`~/.config/…`), mode 0600, which
`neuropod up` and `neuropod login` write. Several servers have a name each; `NEUROPOD_PROFILE` or `--profile` chooses.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuropod.client.errors import ClientError, NotSignedInError

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Profile:
    """One server and the key for it."""

    url: str
    key: str


def profile_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the profile file is, or would be."""
    config = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config"
    return Path(config) / "neuropod" / "profile.toml"


def load_profile(name: str | None = None, environ: Mapping[str, str] = os.environ) -> Profile:
    """Return the profile in force. Raises NotSignedInError when there is none, ClientError for a damaged file."""
    url, key = environ.get("NEUROPOD_URL"), environ.get("NEUROPOD_API_KEY")
    if url and key:
        return Profile(url.rstrip("/"), key)
    name = name or environ.get("NEUROPOD_PROFILE") or DEFAULT
    found = _read(profile_path(environ)).get(name)
    if found is None:
        raise NotSignedInError(
            f"there is no profile {name!r} in {profile_path(environ)}: start a server here with `make up`, "
            "or sign in to one with `neuropod login URL`"
        )
    return Profile(url.rstrip("/") if url else found.url, key or found.key)


def save_profile(profile: Profile, name: str = DEFAULT, environ: Mapping[str, str] = os.environ) -> Path:
    """Write the profile, whole or not at all, readable by this user alone; others in the file stay."""
    profiles = _read(profile_path(environ)) | {name: profile}
    return _write(profiles, environ)


def drop_profile(name: str = DEFAULT, environ: Mapping[str, str] = os.environ) -> bool:
    """Take a profile out; tell whether there was one."""
    profiles = _read(profile_path(environ))
    found = profiles.pop(name, None) is not None
    if found:
        _write(profiles, environ)
    return found


def _read(path: Path) -> dict[str, Profile]:
    try:
        content = tomllib.loads(path.read_text())
        return {name: Profile(str(table["url"]), str(table["key"])) for name, table in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ClientError(f"the profile file {path} cannot be read: {error}") from error


def _write(profiles: Mapping[str, Profile], environ: Mapping[str, str]) -> Path:
    path = profile_path(environ)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = "".join(
        f"[{_quoted(name)}]\nurl = {_quoted(profile.url)}\nkey = {_quoted(profile.key)}\n\n"
        for name, profile in profiles.items()
    )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.rename(path)
    return path


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
