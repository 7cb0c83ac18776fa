"""Commands in pods count in the limits of their pod, as root, who always has control groups."""

import pytest

from neuropod.runtimes.contract import Phase
from neuropod.runtimes.local.runtime import LocalRuntime
from runtimes.local.commands import output_of
from runtimes.local.pods import MIB, python

pytestmark = pytest.mark.root


async def test_a_command_that_takes_more_memory_than_its_pod_has_is_killed_and_the_pod_goes_on(runtime: LocalRuntime):
    pod = python("import time; time.sleep(600)", memory_bytes=64 * MIB)

    modest = await output_of(runtime, pod, "python3", "-c", "print(len(bytearray(16 << 20)))")
    greedy = await output_of(runtime, pod, "python3", "-c", "print(len(bytearray(256 << 20)))")
    seen = await runtime.observe(pod.id)

    assert modest == f"{16 << 20}\n"
    assert greedy == ""  # killed before it could say anything
    assert seen is not None
    assert seen.phase is Phase.READY
