"""The Debian packages that the cluster needs, installed when missing; no service of theirs is started."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Program or file that shows that the package is there, by package.
PACKAGES = {
    "apache2-utils": "/usr/bin/htpasswd",
    "conntrack": "/usr/sbin/conntrack",
    "containerd": "/usr/bin/containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "debootstrap": "/usr/sbin/debootstrap",
    "docker-registry": "/usr/bin/docker-registry",
    "iproute2": "/sbin/ip",
    "ipset": "/usr/sbin/ipset",
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "openssl": "/usr/bin/openssl",
    "runc": "/usr/sbin/runc",
    "skopeo": "/usr/bin/skopeo",
    "tini": "/usr/bin/tini",
}
_POLICY = Path("/usr/sbin/policy-rc.d")


def install_missing() -> None:
    """Install what is missing (needs root and Debian); may be repeated. Raises CalledProcessError with apt's words."""
    missing = [package for package, shown_by in PACKAGES.items() if not Path(shown_by).exists()]
    if not missing:
        return
    print(f"installing {', '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            done = subprocess.run(
                ["apt-get", "-q", *command], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(done.stdout[-2000:], done.stderr[-2000:], flush=True)
                done.check_returncode()


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian asks this file before it starts a service on installation; 101 means no (deb-policy)."""
    if _POLICY.exists():  # somebody else's rules, as in most containers, hold
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
