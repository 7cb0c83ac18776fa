"""Who we are to an API server: nobody, a token, a token in a file, a client certificate, an exec plugin."""

from dataclasses import dataclass
from pathlib import Path


class Credentials:
    """Tells the header of each request."""


class Anonymous(Credentials):
    """Nobody, or who the client certificate says."""


@dataclass(frozen=True, slots=True)
class FileToken(Credentials):
    """A token in a file, which others renew."""

    path: Path
