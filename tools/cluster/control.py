"""The command lines of the control plane: etcd, API server, controller manager, scheduler. Values alone, no effects."""

from .places import API_PORT, CONTROL, SERVICE_NETWORK, Cluster
from .programs import program

_ETCD = "http://127.0.0.1:2379"  # on the control plane's own loopback, which no pod reaches
# A killed node is NotReady after 12 s (upstream 50 s), its pods are evicted 10 s later (upstream 300 s). The kubelet
# renews its lease every 2 s (node.py).
_NODE_GRACE_SECONDS = 12
_TOLERATION_SECONDS = 10


def etcd(cluster: Cluster) -> list[str]:
    return [
        str(program("etcd")),
        f"--data-dir={cluster.folder / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # what is in it is thrown away with the cluster
        "--log-level=warn",
    ]


def api_server(cluster: Cluster) -> list[str]:
    keys = cluster.keys
    return [
        str(program("kube-apiserver")),
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={CONTROL}",
        "--bind-address=0.0.0.0",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys / 'service-account.pub'}",
        f"--service-account-signing-key-file={keys / 'service-account.key'}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--tls-cert-file={keys / 'apiserver.crt'}",
        f"--tls-private-key-file={keys / 'apiserver.key'}",
        f"--kubelet-client-certificate={keys / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={keys / 'apiserver-kubelet.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={keys / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={keys / 'front-proxy.crt'}",
        f"--proxy-client-key-file={keys / 'front-proxy.key'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--default-not-ready-toleration-seconds={_TOLERATION_SECONDS}",
        f"--default-unreachable-toleration-seconds={_TOLERATION_SECONDS}",
    ]


def controller_manager(cluster: Cluster) -> list[str]:
    keys = cluster.keys
    return [
        str(program("kube-controller-manager")),
        f"--kubeconfig={keys / 'kube-controller-manager.kubeconfig'}",
        f"--root-ca-file={keys / 'ca.crt'}",
        f"--service-account-private-key-file={keys / 'service-account.key'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--node-monitor-period=1s",
        f"--node-monitor-grace-period={_NODE_GRACE_SECONDS}s",
        "--bind-address=127.0.0.1",
    ]


def scheduler(cluster: Cluster) -> list[str]:
    return [
        str(program("kube-scheduler")),
        f"--kubeconfig={cluster.keys / 'kube-scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--bind-address=127.0.0.1",
    ]
