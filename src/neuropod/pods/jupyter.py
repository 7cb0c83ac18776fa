"""Jupyter's token: the platform's own, and the one that an image makes itself and tells in its log. Pure.

Called by sealing (making), service (links) and reconcile (reading a log). Tokens are secrets: sealed in the rows, shown
to the pod's owner alone.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

from neuropod.kit.identifiers import new_token
from neuropod.kit.secrets import Secret

# The line that Jupyter prints: http://127.0.0.1:8888/lab?token=<48 hex digits>; older versions and notebooks alike.
_IN_LOG = re.compile(r"https?://[^\s?]+\?(?:[^\s#]*&)?token=([A-Za-z0-9_\-]{16,128})(?![A-Za-z0-9_\-])")


def new_jupyter_token() -> Secret:
    """Return a new token, safe in a URL."""
    return Secret(new_token(24))


def token_from_log(lines: Iterable[str]) -> Secret | None:
    """Return the first token that a Jupyter tells in its log, None while it has not."""
    for line in lines:
        found = _IN_LOG.search(line)
        if found is not None:
            return Secret(found[1])
    return None


def signed_in_path(token: Secret) -> str:
    """Return the path and query that open Jupyter Lab signed in."""
    return f"/lab?token={quote(token.reveal(), safe='')}"
