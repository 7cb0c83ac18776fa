"""The one place with the rule for the host name of a pod's port. Used by service, gateway and api."""

import re

from neuropod.kit.identifiers import is_pod_name

_LABEL = re.compile(r"(?P<pod>[a-z][a-z0-9-]*)-(?P<hash>[a-z2-7]{8})-(?P<port>[1-9][0-9]{0,4})")


def pod_host(pod_name: str, user_hash: str, port: int, pods_domain: str) -> str:
    """Return `<pod>-<user hash>-<port>.<pods domain>`, the same after every stop and start.

    Its first label has at most 40 + 1 + 8 + 1 + 5 = 55 of the 63 characters that DNS allows.
    """
    return f"{pod_name}-{user_hash}-{port}.{pods_domain}"


def split_host(host: str, pods_domain: str) -> tuple[str, str, int] | None:
    """Return pod name, user hash and port of a host of ours, None for any other."""
    label, dot, parent = host.partition(".")
    match = _LABEL.fullmatch(label)
    if not dot or parent != pods_domain or match is None:
        return None
    port = int(match["port"])
    if port > 65535 or not is_pod_name(match["pod"]):
        return None
    return match["pod"], match["hash"], port
