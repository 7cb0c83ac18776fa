"""The cluster of the tests is what the other tests take it for: names are answered, policies enforced, and it ends whole.

A node that is ready and pods that run are what every other test here shows.
"""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

BUSYBOX = "neuropod.test/busybox:1"
OUTSIDE = "http://outside.test/"  # stands for the internet; only the cluster's DNS knows the name

TOOL = str(Path(__file__).parents[2] / "tools/cluster/cluster")

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
    async with asyncio.timeout(60):  # a controller makes the account without which no pod is taken
        while (await kubectl("-n", name, "get", "serviceaccount", "default"))[0] != 0:
            await asyncio.sleep(0.1)
    yield name
    await kubectl("delete", "namespace", name, "--wait=false")


class Running:
    """`tools/cluster/cluster run` in a session of its own, as in a terminal, with a program that does not end."""

    def __init__(self) -> None:
        self.name = f"ctrl-c-{os.urandom(3).hex()}"
        cache = Path(os.environ.get("NEUROPOD_CLUSTER_CACHE", Path.home() / ".cache/neuropod-cluster"))
        self.folder = cache / "clusters" / self.name
        named = {"KUBECONFIG", "NEUROPOD_CLUSTER_SOCKET"}
        # As from a terminal: a job in the background, as the tests may be, ignores Ctrl-C, and so does what it starts.
        program = ["sh", "-c", "kubectl get nodes && exec sleep 600"]
        command = ["env", "--default-signal=INT", TOOL, "--name", self.name, "run", "--", *program]
        self.process = subprocess.Popen(
            command, env={key: value for key, value in os.environ.items() if key not in named},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def until_begun(self) -> None:
        """Wait until the cluster's own program runs."""
        end = time.monotonic() + 120
        while not (self.folder / "logs/supervisor.log").exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)

    def until_entered(self) -> str:
        """Wait until the program in it has asked its API server."""
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if "node-1" in line)

    def left(self) -> list[str]:
        """Return what there still is of it: processes, files, control groups."""
        found = [str(self.folder)] if self.folder.exists() else []
        for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = cmdline.read_text(errors="replace")
            except OSError:  # it ended meanwhile
                continue
            if self.name in words:
                found.append(words.replace("\0", " "))
        # Those of other clusters' pods may vanish under this walk.
        return found + [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if self.name in Path(folder).name]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("moment", ["while it comes up", "while its program runs"])
def test_after_ctrl_c_nothing_of_a_cluster_is_left(moment: str):
    running = Running()
    try:
        if moment == "while it comes up":
            running.until_begun()
        else:
            assert " Ready " in running.until_entered()
        os.killpg(running.process.pid, signal.SIGINT)
        running.process.communicate(timeout=180)
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.communicate()

    assert running.process.returncode != 0
    assert running.left() == []


async def test_a_pod_finds_the_outside_by_name_until_a_policy_forbids_it(namespace):
    inside = ("-n", namespace)
    made = await kubectl(*inside, "run", "pod", f"--image={BUSYBOX}", "--command", "--", "sleep", "600")
    assert made[0] == 0, made
    ready = await kubectl(*inside, "wait", "--for=condition=Ready", "pod/pod", "--timeout=60s")
    assert ready[0] == 0, ready
    ask = (*inside, "exec", "pod", "--", "timeout", "3", "wget", "-qO-", OUTSIDE)

    async with asyncio.timeout(60):  # its first question may take longer than it waits
        while (found := await kubectl(*ask))[0] != 0:
            await asyncio.sleep(0.2)
    assert found == (0, "ok\n")

    assert (await kubectl(*inside, "apply", "-f", "-", given=DENY_ALL_BUT_DNS))[0] == 0
    async with asyncio.timeout(30):
        while (await kubectl(*ask))[0] == 0:
            await asyncio.sleep(0.2)
    async with asyncio.timeout(60):
        while (told := await kubectl(*inside, "exec", "pod", "--", "nslookup", "outside.test"))[0] != 0:
            await asyncio.sleep(0.2)
    code, answer = told
    assert (code, "203.0.113.10" in answer) == (0, True), answer
