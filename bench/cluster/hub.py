"""The rival: JupyterHub with KubeSpawner on the same cluster, used by a program with a token, as ours is.

Hub and configurable-http-proxy are processes of their own, as its chart for Kubernetes runs them, in the network where
our server stands too; the hub is the cluster's administrator. Its Pods are ours as far as KubeSpawner lets them be: the
same image, resources, security and NetworkPolicy, no volume. The image asks for no hub and answers every path, also the
one by which the hub looks whether a server is up; that it tells no version of JupyterHub's is a line in the hub's log.

What a launch costs the hub is the least that its API allows: one request, which is answered when the server is up and
the proxy knows of it (`slow_spawn_timeout`). To poll for that, or to read the stream of its progress, costs it more.
"""

import asyncio
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bench.cluster.asking import ask, until_200
from bench.cluster.floor import AROUND, AS_OURS, CONTAINER_SECURITY, GRACE_SECONDS, IMAGE, PORT, RESOURCES, policy
from bench.cluster.hub_environment import installed
from bench.gateway import chp_command, process
from bench.server import cpu_seconds
from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.informer import Informer, Key
from neuropod.kube.kinds import PODS
from neuropod.runtimes.kubernetes.shapes import PodShape
from support.cluster_account import admin_kubeconfig
from support.ports import free_port

NAMESPACE = "hub"
HERE = "127.0.0.1"
_SCOPES = ["admin:users", "admin:servers"]
_LAUNCH_SECONDS = 600  # so long a launch may take, and the one request that waits for it
_START_SECONDS = 60
_LOG_SHOWN = 8000
# What KubeSpawner sets in a Pod by itself, or by a setting: it would log of each launch that it is overridden.
_ITS_OWN = {"restartPolicy", "automountServiceAccountToken", "securityContext"}


class Hub:
    """The API's user, the owner of nothing; and what the cluster shows of the servers."""

    def __init__(
        self, hub: subprocess.Popen, proxy: subprocess.Popen, port: int, token: str, client: KubeClient
    ) -> None:
        self._hub, self._proxy = hub, proxy
        self._port = port
        self._host = {"Host": f"{HERE}:{port}"}
        self._headers = self._host | {"Authorization": f"token {token}"}
        self._there: set[str] = set()  # names of Pods that the cluster has
        self.pods = Informer(
            client, PODS, PodShape, clock=SystemClock(), namespace=NAMESPACE, on_change=self._pod_changed
        )

    def _pod_changed(self, key: Key, before: PodShape | None, now: PodShape | None) -> None:
        (self._there.discard if now is None else self._there.add)(key[1])

    async def api(self, method: str, path: str, body: Any = None) -> None:
        """Ask by the proxy, where the hub is reached. RuntimeError: it did not do so, or not at once."""
        status, content = await ask(
            HERE, self._port, f"/hub/api{path}", method=method, headers=self._headers, body=body,
            longest_seconds=_LAUNCH_SECONDS,
        )  # fmt: skip
        if status not in {200, 201, 204}:
            raise RuntimeError(f"{method} {path}: {status} {content!r}")

    def cpu_seconds(self) -> tuple[float, float]:
        """What the hub alone has used so far, and its proxy."""
        return cpu_seconds(self._hub.pid), cpu_seconds(self._proxy.pid)

    async def until_answers(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                if self._hub.poll() is not None:
                    raise RuntimeError("the hub has ended")
                with suppress(OSError, RuntimeError):
                    return await self.api("GET", "/")
                await asyncio.sleep(0.2)

    # ---- what is measured

    async def welcome(self, names: list[str]) -> None:
        """Make the users, each of whom has one server."""
        await self.api("POST", "/users", {"usernames": names})

    async def launch(self, name: str) -> None:
        """Start a user's server, and return with its first 200 through the proxy."""
        await self.api("POST", f"/users/{name}/server")
        await until_200(HERE, self._port, self._host, f"/user/{name}/")

    async def burst(self, names: list[str]) -> float:
        """Launch all at once; return the seconds to the last 200."""
        began = time.perf_counter()
        await asyncio.gather(*(self.launch(name) for name in names))
        return time.perf_counter() - began

    async def delete_all(self, names: list[str]) -> None:
        """Stop all servers, delete their users, and return when nothing of them is left in the cluster."""
        await asyncio.gather(*(self.api("DELETE", f"/users/{name}/server") for name in names))
        await self.until_there(lambda there: not there)
        await asyncio.gather(*(self.api("DELETE", f"/users/{name}") for name in names))

    async def until_there(self, holds: Callable[[set[str]], bool]) -> None:
        while not holds(self._there):
            await asyncio.sleep(0.01)


def config(folder: Path, *, port: int, proxy_api: int, hub_port: int, token: str) -> dict[str, Any]:
    """Return JupyterHub's settings: what is not here is as it comes."""
    return {
        "JupyterHub": {
            "authenticator_class": "dummy",
            "spawner_class": "kubespawner.KubeSpawner",
            "bind_url": f"http://{HERE}:{port}",
            "hub_bind_url": f"http://{HERE}:{hub_port}",
            "db_url": f"sqlite:///{folder / 'jupyterhub.sqlite'}",
            "cookie_secret_file": str(folder / "cookie_secret"),
            "concurrent_spawn_limit": 0,
            "active_server_limit": 0,
            "tornado_settings": {"slow_spawn_timeout": _LAUNCH_SECONDS, "slow_stop_timeout": _LAUNCH_SECONDS},
            "services": [{"name": "bench", "api_token": token}],
            "load_roles": [{"name": "bench", "scopes": _SCOPES, "services": ["bench"]}],
        },
        "ConfigurableHTTPProxy": {"should_start": False, "api_url": f"http://{HERE}:{proxy_api}"},
        "Authenticator": {"allow_all": True},
        "KubeSpawner": {
            "namespace": NAMESPACE,
            "image": IMAGE,
            "port": PORT,
            "storage_pvc_ensure": False,
            "delete_pvc": False,
            "start_timeout": _LAUNCH_SECONDS,
            "http_timeout": _LAUNCH_SECONDS,
            # With its 3 s it deletes and makes again what a busy API server made late, at the cost of its own CPU.
            "k8s_api_request_timeout": _LAUNCH_SECONDS,
            "k8s_api_request_retry_timeout": _LAUNCH_SECONDS,
            "delete_grace_period": GRACE_SECONDS,
            "extra_resource_guarantees": RESOURCES["requests"],
            "extra_resource_limits": RESOURCES["limits"],
            "container_security_context": CONTAINER_SECURITY,
            "pod_security_context": AROUND["securityContext"],
            "extra_pod_config": {name: value for name, value in (AROUND | AS_OURS).items() if name not in _ITS_OWN},
        },
    }


@asynccontextmanager
async def hub(client: KubeClient) -> AsyncIterator[Hub]:
    """Run hub and proxy, and end them; the namespace goes with the cluster."""
    python = await asyncio.to_thread(installed)
    await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    await client.apply(policy(NAMESPACE))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        log = stack.enter_context((folder / "log").open("wb"))
        port, proxy_api, hub_port = (free_port() for _ in range(3))
        token = secrets.token_hex(32)
        environment = os.environ | {"CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32)}
        told = config(folder, port=port, proxy_api=proxy_api, hub_port=hub_port, token=token)
        (folder / "config.json").write_text(json.dumps(told))
        around = {"cwd": folder, "stdout": log, "stderr": log, "start_new_session": True}
        proxy = stack.enter_context(
            process(
                *chp_command(), "--ip", HERE, "--port", str(port), "--api-ip", HERE, "--api-port", str(proxy_api),
                "--default-target", f"http://{HERE}:{hub_port}",
                "--error-target", f"http://{HERE}:{hub_port}/hub/error",
                env=environment, **around,
            )
        )  # fmt: skip
        running = stack.enter_context(
            process(
                str(python), "-m", "jupyterhub", "--config", str(folder / "config.json"),
                env=environment | {"KUBECONFIG": str(admin_kubeconfig())}, **around,
            )
        )  # fmt: skip
        made = Hub(running, proxy, port, token, client)
        watching = asyncio.create_task(made.pods.run())
        try:
            await made.until_answers()
            await made.pods.synced(10)
            yield made
        except Exception:  # whosever fault it is: the log is gone with the folder
            print((folder / "log").read_text(errors="replace")[-_LOG_SHOWN:], flush=True)
            raise
        finally:
            watching.cancel()
