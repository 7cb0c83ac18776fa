"""Which runtimes this server has: the one place that names concrete ones.

Called by `server`, which opens them; one that cannot be opened is left out there, and its pods are `unreachable`.
"""

from neuropod.ids import InstallationId
from neuropod.kit.clock import Clock
from neuropod.runtimes.contract import Runtime
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import FakeWorld
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.settings import Settings


def build_runtimes(settings: Settings, installation: InstallationId, clock: Clock) -> list[Runtime]:
    """Return the runtimes that settings ask for, none of them opened yet."""
    if settings.fake_runtime:
        return [FakeRuntime(installation, FakeWorld(clock))]
    if settings.local.enabled:
        return [LocalRuntime(installation, settings.local, settings.limits, settings.data_dir)]
    return []
