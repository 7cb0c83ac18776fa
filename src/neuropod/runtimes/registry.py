"""Which runtimes this server has: the one place that names concrete ones.

Called by `server`, which opens them; one that cannot be opened is left out there, and its pods are `unreachable`.
"""

from neuropod.ids import InstallationId
from neuropod.kit.clock import Clock
from neuropod.runtimes.contract import Runtime
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.settings import Settings


def open_local(settings: Settings, installation: InstallationId) -> LocalRuntime:
    """Return the `local` runtime on the data directory of `settings`, not opened yet."""
    return LocalRuntime(installation, settings.local, settings.limits, settings.data_dir)


def build_runtimes(settings: Settings, installation: InstallationId, clock: Clock) -> list[Runtime]:  # noqa: ARG001 - the fake takes it
    """Return the runtimes that settings ask for, none of them opened yet."""
    runtimes: list[Runtime] = []
    if settings.local.enabled:
        runtimes.append(open_local(settings, installation))
    return runtimes
