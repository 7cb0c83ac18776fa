"""Who we are to an API server: nobody, a token, a token in a file, a client certificate, what a program hands out.

Made by access and kubeconfig; asked by connections before each request, so the answers are remembered. A value that is
renewed by others (a ServiceAccount's token, a certificate's file, a plugin's token) is read again before it ends, and
at once when the server refused it.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from neuropod.kit.clock import Clock
from neuropod.kit.secrets import Secret
from neuropod.kube.errors import AccessError

_REREAD_SECONDS = 60.0  # as client-go: tokens that rotate stay valid for minutes after the next one is there
_BEFORE_END_SECONDS = 30.0
_ASKED_SECONDS = 10.0  # so long what ends soon is good enough: a plugin may keep its token up to the end
_PLUGIN_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_LONGEST_COMPLAINT = 300


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate with its key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What is shown to the server: a bearer token, a client certificate, both, or nothing."""

    token: Secret | None = None
    certificate: Certificate | None = None


class Credentials(Protocol):
    """Tells who we are now."""

    async def identity(self, clock: Clock) -> Identity:
        """Return it; quick when nothing changed, and then the very same object. Raises AccessError."""
        ...

    def refused(self) -> bool:
        """Forget what is remembered, since the server refused it; whether a new look may find another."""
        ...


class Fixed:
    """What never changes: nobody, a token or certificate that stands in the kubeconfig itself."""

    def __init__(self, token: Secret | None = None, certificate: Certificate | None = None) -> None:
        self._identity = Identity(token, certificate)

    async def identity(self, clock: Clock) -> Identity:  # noqa: ARG002 - nothing here has an end
        return self._identity

    def refused(self) -> bool:
        return False


class Files:
    """A token, or a certificate and its key, in files that others renew."""

    def __init__(
        self, *, token: Path | None = None, certificate: Path | bytes | None = None, key: Path | bytes | None = None
    ) -> None:
        self._token, self._certificate, self._key = token, certificate, key
        self._identity: Identity | None = None
        self._read_at = 0.0

    async def identity(self, clock: Clock) -> Identity:
        if self._identity is None or clock.monotonic() - self._read_at >= _REREAD_SECONDS:
            self._read_at = clock.monotonic()
            found = self._read()
            if found != self._identity:  # the same object as long as it says the same: connections are kept by it
                self._identity = found
        return self._identity

    def refused(self) -> bool:
        self._read_at = float("-inf")
        return True

    def _read(self) -> Identity:
        token = None if self._token is None else Secret(_content(self._token).decode(errors="replace").strip())
        if self._certificate is None or self._key is None:
            return Identity(token)
        return Identity(token, Certificate(_content(self._certificate), _content(self._key)))


def _content(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        content = source.read_bytes()
    except OSError as error:
        raise AccessError(f"{source} cannot be read: {error.strerror}") from error
    if not content.strip():
        raise AccessError(f"{source} is empty")
    return content


@dataclass(frozen=True, slots=True)
class Plugin:
    """A program that hands out credentials (`users[].user.exec` of a kubeconfig)."""

    command: str
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    api_version: str = _PLUGIN_VERSIONS[0]
    install_hint: str = ""
    cluster: Mapping[str, Any] | None = (
        None  # what it is told of the cluster, when it wants to know (`provideClusterInfo`)
    )


class PluginCredentials:
    """Asks the program when the last answer has ended; its words are kept out of every message but its complaint.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """

    def __init__(self, plugin: Plugin) -> None:
        if plugin.api_version not in _PLUGIN_VERSIONS:
            raise AccessError(f"the credential plugin {plugin.command} wants {plugin.api_version}, which is not known")
        self._plugin = plugin
        self._identity: Identity | None = None
        self._until: datetime | None = None
        self._asked_at = 0.0
        self._lock = asyncio.Lock()

    async def identity(self, clock: Clock) -> Identity:
        if (known := self._known(clock)) is not None:
            return known
        async with self._lock:
            if (known := self._known(clock)) is None:
                known, self._until = read_credential(await self._ask(), self._plugin.command)
                self._asked_at = clock.monotonic()
                self._identity = known
            return known

    def refused(self) -> bool:
        self._identity = None
        return True

    def _known(self, clock: Clock) -> Identity | None:
        if self._until is not None:
            left = (self._until - clock.now()).total_seconds()
            asked_seconds = clock.monotonic() - self._asked_at
            if left <= 0 or (left < _BEFORE_END_SECONDS and asked_seconds > _ASKED_SECONDS):
                return None
        return self._identity

    async def _ask(self) -> bytes:
        plugin = self._plugin
        info: dict[str, Any] = {
            "apiVersion": plugin.api_version,
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        if plugin.cluster is not None:
            info["spec"]["cluster"] = dict(plugin.cluster)
        env = {**os.environ, **plugin.env, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *plugin.arguments,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = f"; {plugin.install_hint.strip()}" if plugin.install_hint else ""
            raise AccessError(
                f"the credential plugin {plugin.command} cannot be run: {error.strerror}{hint}"
            ) from error
        try:
            output, complaint = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            words = " ".join(complaint.decode(errors="replace").split())[-_LONGEST_COMPLAINT:]
            raise AccessError(f"the credential plugin {plugin.command} ended with {process.returncode}: {words}")
        return output


def read_credential(output: bytes, command: str) -> tuple[Identity, datetime | None]:
    """Return what a plugin's ExecCredential says, and until when (None: for good). Raises AccessError."""
    try:
        status = json.loads(output)["status"]
        token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
        ends = status.get("expirationTimestamp")
        until = None if ends is None else datetime.fromisoformat(ends)
        identity = Identity(
            None if token is None else Secret(token),
            None if certificate is None else Certificate(certificate.encode(), key.encode()),
        )
    except (ValueError, KeyError, AttributeError, TypeError):
        # Without the cause: it may quote what the plugin said, and that is a credential.
        raise AccessError(f"the credential plugin {command} answered no ExecCredential with a status") from None
    if identity == Identity():
        raise AccessError(f"the credential plugin {command} answered neither a token nor a certificate")
    return identity, until
