"""What the reference of an image says: its registry, its full name, whether a list allows it. Pure.

Called by drafts and registries; a reference was checked by `rules.wrong_image` before.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

DOCKER_HUB = "docker.io"
_OTHER_NAMES_OF_HUB = frozenset({"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::[0-9]{1,5})?", re.ASCII)
MAX_HOST = 253


def normal_host(host: str) -> str | None:
    """Return a registry's host as references have it, Docker Hub by its one name; None: it is no host.

    Only what can stand in a reference as a host is one: it has a dot or a port, or is `localhost`.
    """
    name = host.lower()
    if len(name) > MAX_HOST or not _HOST.fullmatch(name) or not _is_host(name):
        return None
    return DOCKER_HUB if name in _OTHER_NAMES_OF_HUB else name


def registry_of(image: str) -> str:
    """Return the host from which an image is pulled, with its port; Docker Hub for one without."""
    first, slash, _ = image.partition("/")
    return (normal_host(first) or first.lower()) if slash and _is_host(first) else DOCKER_HUB


def full_name(image: str) -> str:
    """Return an image's name with its registry, without tag and digest.

    `ubuntu:24.04` is `docker.io/library/ubuntu`.
    """
    name, _, _ = image.partition("@")
    place, slash, last = name.rpartition("/")
    name = place + slash + last.partition(":")[0]
    first, slash, rest = name.partition("/")
    path = rest if slash and _is_host(first) else name
    host = registry_of(image)
    return f"{host}/library/{path}" if host == DOCKER_HUB and "/" not in path else f"{host}/{path}"


def is_allowed(image: str, patterns: Sequence[str]) -> bool:
    """Tell whether one of the patterns (with *) is for the image's full name; without patterns all are allowed."""
    return not patterns or any(fnmatchcase(full_name(image), pattern) for pattern in patterns)


def _is_host(first: str) -> bool:
    """Tell whether the first part of a reference is a host, by the rule that all clients have."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()
