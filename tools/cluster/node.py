"""One machine of the cluster: containerd, kubelet, kube-proxy and the firewall, in namespaces of its own.

Started by the supervisor; `main` runs as the node's first program, below tini. It binds the folders that these programs
have hard-coded to folders of the node's own, and then keeps its programs running, as systemd would. It ends when it is
killed, and all with it.
"""

import json
import shutil
import sys
import time
from pathlib import Path

from .images import copy_store
from .places import CONTROL, DNS_SERVICE, NODES, POD_NETWORK, REGISTRY_PORT, SERVICE_NETWORK, Cluster, Node
from .processes import Process, run, wait_until
from .programs import program

_SOCKET = Path("/run/containerd/containerd.sock")
_BOUND = {  # folder of the node: the place that is hard-coded
    "kubelet": "/var/lib/kubelet",
    "cni": "/var/lib/cni",
    "pod-logs": "/var/log/pods",
    "container-logs": "/var/log/containers",
}
# The kubelet sets these for the whole kernel; it gets copies of its own instead.
_KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_NETWORK_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",  # so that policies see what goes between pods of one bridge
    "net/ipv4/conf/all/send_redirects": "0",
}


def prepare_folders(cluster: Cluster, node: Node) -> None:
    """Make the node's folders and configuration at its first start; later it finds them as it left them."""
    folder = cluster.node(node)
    if not folder.exists():
        folder.mkdir(mode=0o700)
        for name in _BOUND:
            (folder / name).mkdir()
        copy_store(folder / "containerd")
    for place in _BOUND.values():
        Path(place).mkdir(parents=True, exist_ok=True)
    (folder / "containerd.toml").write_text(_containerd_config(folder))
    (folder / "cni.d").mkdir(exist_ok=True)
    (folder / "cni.d/10-bridge.conflist").write_text(json.dumps(_network_config(node)))
    (folder / "kubelet.json").write_text(json.dumps(_kubelet_config(cluster, node)))
    for port in (REGISTRY_PORT, REGISTRY_PORT + 1, REGISTRY_PORT + 2):
        hosts = folder / "registries" / f"{CONTROL}:{port}"
        hosts.mkdir(parents=True, exist_ok=True)
        # containerd 1.6 reads no file without a table of hosts.
        url = f"http://{CONTROL}:{port}"  # and nowhere else: what is missing there is missing
        (hosts / "hosts.toml").write_text(f'server = "{url}"\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n')


def _containerd_config(folder: Path) -> str:
    return f"""version = 2
root = "{folder}/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "neuropod.test/pause:1"
  restrict_oom_score_adj = true  # CAP_SYS_RESOURCE may be missing; sandboxes fail then
  max_concurrent_downloads = 3
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/registries"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _network_config(node: Node) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipMasq": False,  # a pod keeps its address towards the other node, so that policies can tell it
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pod_cidr}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _kubelet_config(cluster: Cluster, node: Node) -> dict[str, object]:
    folder = cluster.node(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cluster.cgroup}/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(cluster.keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(cluster.keys / f"kubelet-{node.name}.crt"),
        "tlsPrivateKeyFile": str(cluster.keys / f"kubelet-{node.name}.key"),
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 8,  # renewed four times as often; see control.py
        "maxPods": 220,
        "podPidsLimit": 1024,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "kubeAPIQPS": 300,
        "kubeAPIBurst": 600,
        "eventRecordQPS": 0,
        # The disk is the host's, and rarely empty: only a pod's own limit evicts here.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "volumePluginDir": str(folder / "volume-plugins"),
    }


def _programs(cluster: Cluster, node: Node, *, policies: bool) -> list[Process]:
    folder, keys = cluster.node(node), cluster.keys
    logs = cluster.logs / node.name
    kubelet = [
        str(program("kubelet")),
        f"--config={folder / 'kubelet.json'}",
        f"--kubeconfig={keys / f'kubelet-{node.name}.kubeconfig'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--cert-dir={folder / 'kubelet-pki'}",
    ]
    proxy = [
        str(program("kube-proxy")),
        f"--kubeconfig={keys / 'kube-proxy.kubeconfig'}",
        f"--hostname-override={node.name}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={POD_NETWORK}",
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    ]
    router = [
        str(program("kube-router")),
        f"--kubeconfig={keys / 'kube-router.kubeconfig'}",
        f"--hostname-override={node.name}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--run-loadbalancer=false",
        "--enable-cni=false",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--health-port=0",
    ]
    commands = {"kubelet": kubelet, "kube-proxy": proxy, **({"kube-router": router} if policies else {})}
    return [Process(name, command.copy, logs) for name, command in commands.items()]


def main(cluster: Cluster, node: Node, *, policies: bool) -> None:
    """Run the node until it is killed."""
    folder = cluster.node(node)
    run("hostname", node.name)
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/netns").mkdir()
    for name, place in _BOUND.items():
        run("mount", "--bind", folder / name, place)
    run("mount", "--make-rshared", "/var/lib/kubelet")
    _hide_kernel_settings(folder / "kernel-settings")
    for setting, value in _NETWORK_SETTINGS.items():
        Path("/proc/sys", setting).write_text(value)
    containerd = Process(
        "containerd", ["containerd", "--config", str(folder / "containerd.toml")].copy, cluster.logs / node.name
    )
    containerd.start()
    wait_until("containerd's socket", _SOCKET.exists, seconds=90)
    running = [containerd, *_programs(cluster, node, policies=policies)]
    while True:
        for process in running:
            if not process.alive:
                if process.wanted:
                    print(f"{process.name} ended and is started again", flush=True)
                process.start()
        time.sleep(1)


def _hide_kernel_settings(copies: Path) -> None:
    shutil.rmtree(copies, ignore_errors=True)
    for setting in _KERNEL_SETTINGS:
        real, copy = Path("/proc/sys", setting), copies / setting
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(real.read_text())
        run("mount", "--bind", copy, real)


def from_arguments(arguments: list[str]) -> None:
    """`<cluster> <node> policies|no-policies`, as the supervisor starts it."""
    name, node, policies = arguments
    main(Cluster(name), NODES[node], policies=policies == "policies")


if __name__ == "__main__":
    from_arguments(sys.argv[1:])
