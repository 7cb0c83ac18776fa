"""Chooses the commands by the first word: the machine's (`operate`) or the user's (`cli`), and imports only those.

So `neuropod pod ls` loads neither a web framework nor the database.
"""

import sys
from importlib import import_module

MACHINE_COMMANDS = frozenset({"up", "down", "gateway", "doctor", "admin"})


def main() -> None:
    """Run the command of the argument list."""
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    ring = "operate" if first in MACHINE_COMMANDS else "cli"
    import_module(f"neuropod.{ring}.main").main(prog_name="neuropod")


if __name__ == "__main__":
    main()
