"""SECURITY 15. Root in a pod, fork bombs, private images of another user in a node's store.

Which images clients may name at all is decided before a cluster is asked: tests/services/pods/test_launch.py.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.ids import InstallationId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.kit.secrets import Secret
from neuropod.runtimes.contract import Guarantee, Phase, RegistryCredential, Workload
from neuropod.runtimes.kubernetes import pids
from neuropod.runtimes.kubernetes.objects import CAPABILITIES
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.words import Reason
from support.cluster_orders import needs_throwaway, order
from support.cluster_pods import SLEEP, on, opened, shell
from support.cluster_waits import text_of, until, until_reason

BITS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
        "NET_BIND_SERVICE": 10}  # fmt: skip
PUSHED = "private-fifteen"
# Of the throwaway cluster's registry (tools/cluster/registry.py).
USER, PASSWORD = "puller", "correct-horse"
# More processes than any node allows a pod; whoever could start them all says so.
BOMB = "i=0; while [ $i -lt 40000 ]; do sleep 30 & i=$((i+1)); done; echo made all of them"


def owner() -> UserId:
    return UserId(new_id("usr"))


async def said(runtime: KubernetesRuntime, workload: Workload) -> list[str]:
    await runtime.ensure(workload)
    await until(runtime, workload, Phase.EXITED)
    return await text_of(runtime, workload)


async def test_root_in_a_pod_has_little_of_it(tmp_path: Path, installation: InstallationId):
    async with opened(tmp_path, installation) as runtime:
        script = "id -u; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls /var/run/secrets 2>&1; env"
        lines = await said(runtime, shell(script, installation=installation, owner=owner()))

    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    allowed = sum(1 << BITS[name] for name in CAPABILITIES)
    assert lines[0] == "0"
    assert {name: int(value, 16) for name, value in status.items() if name.startswith("Cap")} == {
        "CapInh": 0, "CapPrm": allowed, "CapEff": allowed, "CapBnd": allowed, "CapAmb": 0,
    }  # fmt: skip
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert any("No such file" in line for line in lines)
    assert not [line for line in lines if "serviceaccount" in line]
    assert "NVIDIA_VISIBLE_DEVICES=void" in lines


async def test_a_fork_bomb_ends_at_the_pods_limit_while_a_neighbour_works(tmp_path: Path, installation: InstallationId):
    async with opened(tmp_path, installation) as runtime:
        bomb = on(shell(BOMB, installation=installation, owner=owner()), memory_bytes=2 << 30)
        await runtime.ensure(bomb)
        await until(runtime, bomb, Phase.READY, Phase.EXITED)
        neighbour = shell("echo still here", installation=installation, owner=owner())
        told = await said(runtime, neighbour)
        await until(runtime, bomb, Phase.EXITED)
        lines = await text_of(runtime, bomb)

    assert told == ["still here"]
    assert "made all of them" not in lines
    assert any("can't fork" in line for line in lines), lines[-5:]


@needs_throwaway
async def test_it_is_told_that_nodes_limit_processes(
    tmp_path: Path, installation: InstallationId, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pids, "_AGAIN_SECONDS", 2.0)  # should a kubelet be too busy to answer at once
    async with opened(tmp_path, installation) as runtime, asyncio.timeout(60):
        while "found out" in (told := await _pids(runtime)).message or "is not known" in told.message:
            await asyncio.sleep(0.1)

    assert told.holds, told
    assert "1024" in told.message  # tools/cluster/node.py


async def _pids(runtime: KubernetesRuntime) -> Guarantee:
    (told,) = [one for one in (await runtime.report()).guarantees if one.name == "pids"]
    return told


@needs_throwaway
async def test_another_cannot_start_a_private_image_that_the_node_has(tmp_path: Path, installation: InstallationId):
    """As clients' workloads are made once somebody keeps a credential for a registry: see pods.workload."""
    _, private, _ = (await asyncio.to_thread(order, "registry")).split()
    await asyncio.to_thread(order, "push", PUSHED, "1")
    image = f"{private}/{PUSHED}:1"
    async with opened(tmp_path, installation) as runtime:
        first = replace(
            shell(SLEEP, installation=installation, owner=owner(), image=image),
            command=None,
            pull_credential=RegistryCredential(private, USER, Secret(PASSWORD)),
            always_pull=True,
        )
        await runtime.ensure(first)
        await until(runtime, first, Phase.READY)

        second = replace(
            shell(SLEEP, installation=installation, owner=owner(), image=image), command=None, always_pull=True
        )
        await runtime.ensure(second)
        seen = await until_reason(runtime, second, Reason.PULL_DENIED)

        assert seen.phase is Phase.PENDING
        assert seen.started_at is None
