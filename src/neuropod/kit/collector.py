"""How often Python's collector of cyclic garbage runs. Set by the machine's commands, before they import a server."""

import gc


def collect_rarely() -> None:
    """Look for cycles every 20,000 objects; by default Python does every 700. May be repeated.

    Nearly all garbage here goes by its reference counts. Importing a server makes half a million objects that stay,
    which took a tenth of its start to walk over again and again; a burst of launches paid as much.
    """
    gc.set_threshold(20_000, 20, 20)
