"""Chooses the commands by the first word: the machine's (`operate`) or the user's (`cli`), and imports only those.

So `neuropod pod ls` loads neither a web framework nor the database. Run by `./neuropod`, by the console script, and as
`python -m neuropod`.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

MACHINE_COMMANDS = frozenset({"up", "down", "gateway", "doctor", "admin", "backup", "restore"})


def ring_of(words: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return which package has the command; a shell that completes one gives its words in COMP_WORDS."""
    if "_NEUROPOD_COMPLETE" in environ:
        words = environ.get("COMP_WORDS", "").split()[1:]
    return "operate" if words and words[0] in MACHINE_COMMANDS else "cli"


def main() -> None:
    """Run the command of the argument list."""
    import_module(f"neuropod.{ring_of(sys.argv[1:], os.environ)}.main").main()


if __name__ == "__main__":
    main()
