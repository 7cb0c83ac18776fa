"""What to build: the locked list, the interpreter, the index, and the key under which the result is kept.

Made by the shim from its own plan (`environment_plan`); everything in it is plain data. The grammar of requirements
stands here: a name, extras and an exact version, nothing else (SECURITY 2).
"""

import configparser
import hashlib
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from neuropod.runtimes.local.plan import Plan

ENVIRONMENT_PATH = "/opt/neuropod/env"
"""Where a recipe's environment is mounted, read-only, in every sandboxed pod: shebangs and byte code name it."""

PYPI = "https://pypi.org/simple"
PIP = "pip==26.3"  # in every environment whose list has none: a notebook's `pip install` runs it in the pod's venv

_LAYOUT = 1  # raise it when an environment built by an earlier version must not be used
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
_REQUIREMENT = re.compile(rf"({_NAME})(\[{_NAME}(?:,{_NAME})*\])?==([0-9A-Za-z][0-9A-Za-z.!+]{{0,62}})")
_SCOPE = re.compile(r"[A-Za-z0-9_-]{1,80}")
_MAX_PACKAGES = 500
_CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

Mode = Literal["root", "user", "none"]


class PrepareFailedError(Exception):
    """The environment cannot be had; the message is for the pod's owner (reason `prepare_failed`)."""


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is; the fields of `contract.Progress`, which the shim does not import."""

    step: str
    done: int = 0
    total: int | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentPlan:
    """All that a build needs; `to_json` and `from_json` carry it between processes."""

    packages: tuple[str, ...]
    scope: str  # `shared`, or the author's user id: two scopes share neither environments nor downloads
    cache_dir: str  # absolute, ours alone
    mode: Mode
    uv: str  # absolute path of the binary
    interpreter: str  # absolute path of a system Python
    interpreter_tag: str  # its version and build: another one makes another environment
    index_url: str
    bwrap: tuple[str, ...] = ()  # argv prefix; empty in mode `none`
    ca_bundle: str | None = None
    timeout_seconds: float = 1800
    reserve_bytes: int = 0  # a build that leaves less of the disk free is ended

    @property
    def key(self) -> str:
        """32 hex digits over everything that decides what the environment is."""
        facts = [
            _LAYOUT, self.scope, sorted(self.packages), self.index_url, self.interpreter, self.interpreter_tag,
            self.mode == "none",  # built for another path there
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as what `json` can write."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "EnvironmentPlan":
        """Return the plan that `to_json` wrote."""
        return EnvironmentPlan(**{**value, "packages": tuple(value["packages"]), "bwrap": tuple(value["bwrap"])})


def environment_plan(plan: Plan) -> EnvironmentPlan:
    """Return what to build for the pod of `plan`. Raises PrepareFailedError for a list or a machine that cannot do."""
    interpreter = system_interpreter()
    author = plan.cache_author
    if author is not None and (author == "shared" or _SCOPE.fullmatch(author) is None):
        raise PrepareFailedError(f"{author!r} cannot name a cache")
    return EnvironmentPlan(
        packages=locked_list(plan.packages),
        scope=author or "shared",
        cache_dir=str(plan.data / "cache"),
        mode=plan.mode,
        uv=str(uv_binary()),
        interpreter=str(interpreter),
        interpreter_tag=interpreter_tag(interpreter),
        index_url=plan.package_index_url or host_index_url(),
        bwrap=() if plan.mode == "none" else tuple(plan.tools.get("bwrap", ())),
        ca_bundle=plan.ca_bundle or host_ca_bundle(),
        timeout_seconds=plan.prepare_timeout_seconds,
        reserve_bytes=plan.disk_reserve_bytes,
    )


def locked_list(packages: Iterable[str]) -> tuple[str, ...]:
    """Return the list as it is built: checked, sorted, each name once, pip in it.

    Raises PrepareFailedError for whatever is not `name==version` or `name[extra]==version`: URLs, paths, git, options,
    environment markers, wildcards, ranges, white space.
    """
    by_name: dict[str, str] = {}
    for requirement in (*packages, PIP):
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise PrepareFailedError(
                f"{requirement[:100]!r} is not a package with its exact version, such as numpy==2.4.6"
            )
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        if name in by_name and requirement is not PIP:
            raise PrepareFailedError(f"{name} is in the list twice")
        by_name.setdefault(name, requirement)
    if len(by_name) > _MAX_PACKAGES:
        raise PrepareFailedError(f"the list has {len(by_name)} packages; at most {_MAX_PACKAGES} are built")
    return tuple(by_name[name] for name in sorted(by_name))


def system_interpreter(candidates: Iterable[str] | None = None) -> Path:
    """Return /usr/bin/python3, or the first system Python from 3.11 on; never one below somebody's home."""
    names = candidates or ("/usr/bin/python3", *(f"/usr/bin/python3.{minor}" for minor in range(20, 10, -1)))
    for name in names:
        real = Path(name).resolve()
        match = re.fullmatch(r"python3\.(\d+)", real.name)
        if match and int(match[1]) >= 11 and real.is_relative_to("/usr") and os.access(real, os.X_OK):
            return Path(name)
    raise PrepareFailedError("this machine has no /usr/bin/python3 of version 3.11 or newer")


def interpreter_tag(interpreter: Path) -> str:
    """Return what tells this interpreter from another one at the same path, without starting it."""
    real = interpreter.resolve()
    facts = real.stat()
    return f"{real.name}-{facts.st_size}-{facts.st_mtime_ns}"


def uv_binary() -> Path:
    """Return the uv that was installed with this program."""
    for folder in (sysconfig.get_path("scripts"), Path(sys.executable).parent):
        candidate = Path(folder, "uv")
        if os.access(candidate, os.X_OK):
            return candidate
    raise PrepareFailedError("uv is missing beside this program's own interpreter; install neuropod again")


def host_ca_bundle(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the host's bundle of certificate authorities: SSL_CERT_FILE, else where distributions put it."""
    for candidate in (environ.get("SSL_CERT_FILE", ""), *_CA_BUNDLES):
        if candidate.startswith("/") and Path(candidate).is_file():
            return candidate
    return None


def host_index_url(environ: Mapping[str, str] = os.environ, files: Iterable[Path] | None = None) -> str:
    """Return the package index of the host's own pip configuration, PyPI where it names none.

    As pip reads it, strongest first: PIP_INDEX_URL, the file PIP_CONFIG_FILE names, the user's file, the system's.
    """
    if environ.get("PIP_INDEX_URL"):
        return environ["PIP_INDEX_URL"]
    if files is None:
        home = Path(environ.get("HOME", "/nonexistent"))
        named = environ.get("PIP_CONFIG_FILE")
        files = (
            *((Path(named),) if named else ()),
            Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip/pip.conf"),
            home / ".pip/pip.conf",
            Path("/etc/pip.conf"),
        )
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError):
            continue
        url = parser.get("global", "index-url", fallback="") or parser.get("install", "index-url", fallback="")
        if url:
            return url.strip()
    return PYPI


def without_credentials(url: str) -> str:
    """Return the URL as a pod or an error message may see it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
