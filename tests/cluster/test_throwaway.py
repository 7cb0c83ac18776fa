"""The cluster of the tests is what the other tests take it for: names are answered, and policies are enforced.

A node that is ready and pods that run are what every other test here shows.
"""

import asyncio
import os

import pytest

BUSYBOX = "neuropod.test/busybox:1"
OUTSIDE = "http://outside.test/"  # stands for the internet; only the cluster's DNS knows the name

pytestmark = pytest.mark.skipif(
    "NEUROPOD_CLUSTER_SOCKET" not in os.environ, reason="another cluster than tools/cluster's"
)

DENY_ALL_BUT_DNS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns-alone}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}]
"""


async def kubectl(*arguments: str, given: str | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "kubectl", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate(None if given is None else given.encode())
    return process.returncode or 0, output.decode()


@pytest.fixture
async def namespace():
    name = f"throwaway-{os.urandom(4).hex()}"
    assert (await kubectl("create", "namespace", name))[0] == 0
    yield name
    await kubectl("delete", "namespace", name, "--wait=false")


async def test_a_pod_finds_the_outside_by_name_until_a_policy_forbids_it(namespace):
    inside = ("-n", namespace)
    made = await kubectl(*inside, "run", "pod", f"--image={BUSYBOX}", "--command", "--", "sleep", "600")
    assert made[0] == 0, made
    ready = await kubectl(*inside, "wait", "--for=condition=Ready", "pod/pod", "--timeout=60s")
    assert ready[0] == 0, ready
    ask = (*inside, "exec", "pod", "--", "timeout", "3", "wget", "-qO-", OUTSIDE)

    assert await kubectl(*ask) == (0, "ok\n")

    assert (await kubectl(*inside, "apply", "-f", "-", given=DENY_ALL_BUT_DNS))[0] == 0
    async with asyncio.timeout(30):
        while (await kubectl(*ask))[0] == 0:
            await asyncio.sleep(0.2)
    code, answer = await kubectl(*inside, "exec", "pod", "--", "nslookup", "outside.test")
    assert (code, "203.0.113.10" in answer) == (0, True), answer
