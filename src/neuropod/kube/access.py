"""How an API server is reached and who we are there: the values that a client is made with.

Made by kubeconfig (`from_kubeconfig`) and by `in_cluster` here, at start; used by connections. Where a token comes from
and when it is read again is credentials'.
"""

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from neuropod.kube.credentials import Certificate, Credentials, Files, Fixed
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
    credentials: Credentials = field(default_factory=Fixed)
    name: str = ""  # for people: the context's name, `in-cluster`

    def ssl_context(self, certificate: Certificate | None = None) -> ssl.SSLContext | None:
        """Return a new context, to be kept (making one is slow); None for plain http. Raises AccessError."""
        if self.server.startswith("http:"):
            return None
        try:
            context = ssl.create_default_context(cadata=None if self.ca_data is None else self.ca_data.decode())
        except (ssl.SSLError, ValueError) as error:
            raise AccessError(f"the certificate authority of {self.server} cannot be read: {error}") from error
        if self.ca_data is not None:
            # Clusters' own authorities are often older than these rules of Python 3.13's.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        if certificate is not None:
            _load(context, certificate, self.server)
        return context


def _load(context: ssl.SSLContext, certificate: Certificate, server: str) -> None:
    """Load certificate and key, which `ssl` takes from a file alone: one that nobody else can open, gone at once."""
    try:
        with tempfile.NamedTemporaryFile() as file:  # 0600
            file.write(certificate.certificate + b"\n" + certificate.key)
            file.flush()
            context.load_cert_chain(file.name)
    except (ssl.SSLError, OSError) as error:
        # Its text names a file or a rule of OpenSSL's, never what the key holds.
        raise AccessError(f"the client certificate for {server} cannot be used: {error}") from error


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
        credentials=Files(token=root / "token"),
        name="in-cluster",
    )
