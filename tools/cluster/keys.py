"""The cluster's certificates and kubeconfigs, made new for each start by openssl, in a folder that root alone reads."""

import base64
import json
import subprocess
from pathlib import Path

from .places import API_PORT, CONTROL, KUBERNETES_SERVICE, NODES, Cluster

SERVER = f"https://{CONTROL}:{API_PORT}"
_ADMINISTRATORS = "system:masters"
_DAYS = "30"

# Who talks to the API server, by the name of their files: (user, group). kube-router has no role of its own upstream.
_CLIENTS = {
    "admin": ("admin", _ADMINISTRATORS),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "kube-router": ("kube-router", _ADMINISTRATORS),
    "apiserver-kubelet": ("apiserver-kubelet", _ADMINISTRATORS),
    "front-proxy": ("front-proxy", ""),
    **{f"kubelet-{node.name}": (f"system:node:{node.name}", "system:nodes") for node in NODES.values()},
}
# Kubelets serve with theirs too, so that who asks one directly can tell that it is the cluster's.
_EXTENSIONS = {
    f"kubelet-{node.name}": f"subjectAltName=IP:{node.address}\nextendedKeyUsage=clientAuth,serverAuth\n"
    for node in NODES.values()
}


def make(cluster: Cluster) -> None:
    """Write authority, server and client certificates, and a kubeconfig for each client (`<name>.kubeconfig`)."""
    folder = cluster.keys
    folder.mkdir(mode=0o700, parents=True)
    _openssl("ecparam -name prime256v1 -genkey -noout -out", folder / "ca.key")
    _openssl(
        f"req -x509 -new -days {_DAYS} -subj /CN=throwaway-cluster -key", folder / "ca.key", "-out", folder / "ca.crt"
    )
    _openssl("genrsa -out", folder / "service-account.key", "2048")
    _openssl("rsa -pubout -in", folder / "service-account.key", "-out", folder / "service-account.pub")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    addresses = [CONTROL, KUBERNETES_SERVICE, "127.0.0.1"]
    alternatives = ",".join([*(f"DNS:{name}" for name in [*names, "localhost"]), *(f"IP:{a}" for a in addresses)])
    _certificate(
        folder, "apiserver", "/CN=kube-apiserver", f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n"
    )
    for name, (user, group) in _CLIENTS.items():
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        _certificate(folder, name, subject, _EXTENSIONS.get(name, "extendedKeyUsage=clientAuth\n"))
        _write_kubeconfig(folder, name)
    cluster.kubeconfig.touch(mode=0o600)
    cluster.kubeconfig.write_text((folder / "admin.kubeconfig").read_text())


def _certificate(folder: Path, name: str, subject: str, extensions: str) -> None:
    key, request, certificate = (folder / f"{name}.{suffix}" for suffix in ("key", "csr", "crt"))
    wanted = folder / f"{name}.ext"
    wanted.write_text(extensions)
    _openssl("ecparam -name prime256v1 -genkey -noout -out", key)
    _openssl("req -new -key", key, "-subj", subject, "-out", request)
    signer: list[Path | str] = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial"]
    _openssl(f"x509 -req -days {_DAYS} -in", request, *signer, "-extfile", wanted, "-out", certificate)
    request.unlink()
    wanted.unlink()


def _openssl(options: str, *arguments: Path | str) -> None:
    subprocess.run(["openssl", *options.split(), *map(str, arguments)], check=True, capture_output=True)


def _write_kubeconfig(folder: Path, name: str) -> None:
    """Certificates are inside it, so that one file is all that a program needs (JSON is YAML)."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "throwaway",
        "contexts": [{"name": "throwaway", "context": {"cluster": "throwaway", "user": name}}],
        "clusters": [
            {
                "name": "throwaway",
                "cluster": {"server": SERVER, "certificate-authority-data": _encoded(folder / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _encoded(folder / f"{name}.crt"),
                    "client-key-data": _encoded(folder / f"{name}.key"),
                },
            }
        ],
    }
    path = folder / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
