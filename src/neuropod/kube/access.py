"""How an API server is reached and who we are there: the values that a client is made with.

Made by kubeconfig (`from_kubeconfig`) and by `in_cluster` here, at start; used by client. Where a token comes from
and when it is read again is credentials'.
"""

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from neuropod.kube.credentials import Anonymous, Credentials, FileToken
from neuropod.kube.errors import AccessError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """One API server and one identity. `namespace` is where we stand: the context's, or our own Pod's."""

    server: str  # `https://host:port[/path]`, without a slash at its end
    namespace: str = "default"
    ca_data: bytes | None = None  # PEM; None: the system's certificate authorities
    insecure: bool = False  # the server's certificate is not checked
    tls_server_name: str | None = None  # the name that its certificate is checked for, when not the host's
    credentials: Credentials = field(default_factory=Anonymous)
    name: str = ""  # for people: the context's name, `in-cluster`

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a new context, which a client keeps (making one is slow); None for plain http."""
        if self.server.startswith("http:"):
            return None
        try:
            context = ssl.create_default_context(cadata=None if self.ca_data is None else self.ca_data.decode())
        except (ssl.SSLError, ValueError) as error:
            raise AccessError(f"the certificate authority of {self.server} cannot be read: {error}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def in_cluster(root: Path = _ACCOUNT) -> Access | None:
    """Return the access of our own Pod's ServiceAccount; None when this is no Pod of a cluster. Raises AccessError."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (root / "token").exists():
        return None
    try:
        ca_data = (root / "ca.crt").read_bytes()
        namespace = (root / "namespace").read_text().strip()
    except OSError as error:
        raise AccessError(f"the ServiceAccount's files cannot be read: {error}") from error
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace or "default",
        ca_data=ca_data,
        credentials=FileToken(root / "token"),
        name="in-cluster",
    )
