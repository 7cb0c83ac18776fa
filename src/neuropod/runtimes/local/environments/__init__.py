"""Recipe environments: built once, kept, mounted read-only, and a pod's own venv laid over each.

Called by the shim (`environment_plan`, `ensure`, `host_index_url` by the runtime when it writes the plan) and by the
launcher (`podvenv`, after the drop of privileges). Standard library only; synchronous.

    plan      what to build and where: the key, the grammar of requirements, the interpreter, the index
    cache     which is there, who builds, who waits: locks, atomic renames, eviction
    build     one build: uv and the byte-compiler in their sandbox, progress, time and space limits
    podvenv   the pod's venv over an environment, written in a few milliseconds without a subprocess

No code of a package ever runs during a build: sources are refused, wheels are only unpacked, and the byte-compiler runs
without `site` (so no .pth line is executed) and without network.
"""

from neuropod.runtimes.local.environments.cache import ensure
from neuropod.runtimes.local.environments.plan import (
    ENVIRONMENT_PATH,
    BuildProgress,
    EnvironmentPlan,
    PrepareFailedError,
    environment_plan,
    host_ca_bundle,
    host_index_url,
    without_credentials,
)
from neuropod.runtimes.local.environments.podvenv import VENV_PATH, lay_out_pod_venv, pod_environment

__all__ = [
    "ENVIRONMENT_PATH",
    "VENV_PATH",
    "BuildProgress",
    "EnvironmentPlan",
    "PrepareFailedError",
    "ensure",
    "environment_plan",
    "host_ca_bundle",
    "host_index_url",
    "lay_out_pod_venv",
    "pod_environment",
    "without_credentials",
]
