"""Reads a kubeconfig: the server and the identity that one of its contexts names.

Called by whoever opens a cluster. Certificates and keys may stand in it or in files beside it; what is in files, and
what a program hands out, is read again when it ends (credentials). What is not understood is refused, never ignored:
https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

import base64
import binascii
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuropod.kit.secrets import Secret
from neuropod.kube.access import Access
from neuropod.kube.credentials import Certificate, Credentials, Files, Fixed, Plugin, PluginCredentials
from neuropod.kube.errors import AccessError

_REFUSED = {
    "auth-provider": "Kubernetes itself gave it up; use an exec plugin",
    "username": "API servers take no passwords any more",
    "as": "impersonation is not supported",
}


def from_kubeconfig(path: Path, context: str | None = None) -> Access:
    """Return the access of a context (None: the current one). Files are read now. Raises AccessError."""
    config = _read(path)
    name = context or config.get("current-context") or ""
    if not name:
        raise AccessError(f"{path} has no current context; name one")
    entry = _named(config, "contexts", name, "context", path)
    cluster = _named(config, "clusters", str(entry.get("cluster") or ""), "cluster", path)
    user = _named(config, "users", str(entry["user"]), "user", path) if entry.get("user") else {}
    server = str(cluster.get("server") or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise AccessError(f"{path}: the cluster of context {name!r} has no server with http or https")
    if cluster.get("proxy-url"):
        raise AccessError(f"{path}: proxy-url is not supported")
    authority = _inline_or_file(cluster, "certificate-authority", path)
    if isinstance(authority, Path):
        authority = _file_content(authority, path)
    return Access(
        server=server,
        namespace=str(entry.get("namespace") or "default"),
        ca_data=authority,
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name") or None,
        credentials=_credentials(user, cluster, authority, path),
        name=name,
    )


def _read(path: Path) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - a server without a cluster needs it not

    try:
        config = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise AccessError(f"the kubeconfig {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        # Its text quotes the lines around the place, which may be a token's.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}"
        raise AccessError(f"the kubeconfig {path} is no YAML{where}") from None
    if not isinstance(config, Mapping) or config.get("kind") != "Config":
        raise AccessError(f"{path} is no kubeconfig (kind: Config)")
    return config


def _named(config: Mapping[str, Any], plural: str, name: str, word: str, path: Path) -> Mapping[str, Any]:
    for entry in config.get(plural) or ():
        if isinstance(entry, Mapping) and entry.get("name") == name and isinstance(entry.get(word), Mapping):
            found: Mapping[str, Any] = entry[word]
            return found
    raise AccessError(f"{path} has no {word} {name!r}")


def _credentials(
    user: Mapping[str, Any], cluster: Mapping[str, Any], authority: bytes | None, path: Path
) -> Credentials:
    for word, why in _REFUSED.items():
        if user.get(word):
            raise AccessError(f"{path}: the user's {word} cannot be used: {why}")
    if user.get("exec"):
        return PluginCredentials(_plugin(user["exec"], cluster, authority, path))
    certificate = _inline_or_file(user, "client-certificate", path)
    key = _inline_or_file(user, "client-key", path)
    if (certificate is None) != (key is None):
        raise AccessError(f"{path}: a client certificate needs its key, and a key its certificate")
    if user.get("tokenFile"):
        return Files(token=_beside(path, str(user["tokenFile"])), certificate=certificate, key=key)
    token = Secret(str(user["token"])) if user.get("token") else None
    if isinstance(certificate, bytes) and isinstance(key, bytes):
        return Fixed(token, Certificate(certificate, key))
    if certificate is None:
        return Fixed(token)
    if token is not None:
        raise AccessError(f"{path}: a token beside a certificate in files is not supported")
    return Files(certificate=certificate, key=key)


def _plugin(entry: Mapping[str, Any], cluster: Mapping[str, Any], authority: bytes | None, path: Path) -> Plugin:
    command = str(entry.get("command") or "")
    if not command:
        raise AccessError(f"{path}: the user's exec has no command")
    if entry.get("interactiveMode") == "Always":
        raise AccessError(f"{path}: the credential plugin {command} wants a terminal, and a server has none")
    if "/" in command:
        command = str(_beside(path, command))
    told: dict[str, Any] | None = None
    if entry.get("provideClusterInfo"):
        told = {"server": cluster.get("server")}
        if authority is not None:
            told["certificate-authority-data"] = base64.b64encode(authority).decode()
        for word in ("tls-server-name", "insecure-skip-tls-verify"):
            if cluster.get(word):
                told[word] = cluster[word]
    return Plugin(
        command=shutil.which(command) or command,
        arguments=tuple(str(word) for word in entry.get("args") or ()),
        env={str(pair["name"]): str(pair.get("value") or "") for pair in entry.get("env") or ()},
        api_version=str(entry.get("apiVersion") or ""),
        install_hint=str(entry.get("installHint") or ""),
        cluster=told,
    )


def _inline_or_file(entry: Mapping[str, Any], word: str, path: Path) -> bytes | Path | None:
    """Return `<word>-data`, decoded, or else the path that `<word>` names."""
    if data := entry.get(f"{word}-data"):
        try:
            return base64.b64decode("".join(str(data).split()), validate=True)
        except binascii.Error:
            raise AccessError(f"{path}: {word}-data is not base64") from None
    return _beside(path, str(entry[word])) if entry.get(word) else None


def _beside(path: Path, name: str) -> Path:
    """Return the path that a kubeconfig names: relative ones start at its own folder."""
    return path.parent / name


def _file_content(file: Path, path: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise AccessError(f"{path} names {file}, which cannot be read: {error.strerror}") from error
