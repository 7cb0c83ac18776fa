"""What a pod may reach, as values and as nftables rules (SECURITY 6). Pure; called by `rootnet`, `usernet` and `dns`.

The list is literal, never `ipaddress.is_private`, whose meaning moves with Python's versions.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence

REFUSED_4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",  # the clouds' metadata among them
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",  # multicast, reserved, broadcast
)
REFUSED_6 = (
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
)

LINKS = "np"  # what every interface of ours begins with, whichever installation made it

_refused = tuple(ipaddress.ip_network(each) for each in (*REFUSED_4, *REFUSED_6))


def is_refused(address: str, allowed: Iterable[str]) -> bool:
    """Tell whether pods may not reach the address; `allowed` are the exceptions (CIDR)."""
    one = ipaddress.ip_address(address)
    if any(one in ipaddress.ip_network(each, strict=False) for each in allowed):
        return False
    return any(one in network for network in _refused)


def digest(installation: str) -> str:
    """Return the 5 letters that stand for an installation in names of interfaces, which have 15."""
    return hashlib.sha256(installation.encode()).hexdigest()[:5]


def link_prefix(installation: str) -> str:
    """Return what the names of this installation's interfaces begin with."""
    return f"{LINKS}{digest(installation)}-"


def table_name(installation: str) -> str:
    """Return the name of this installation's table."""
    return f"neuropod_{digest(installation)}"


def _only_4(networks: Iterable[str]) -> list[str]:
    parsed = (ipaddress.ip_network(each, strict=False) for each in networks)
    return sorted(str(each) for each in ipaddress.collapse_addresses(n for n in parsed if n.version == 4))


def _set(name: str, networks: Sequence[str]) -> str:
    elements = f"elements = {{ {', '.join(networks)} }};" if networks else ""
    return f"  set {name} {{ type ipv4_addr; flags interval; {elements} }}\n"


# Refused at once and with a word, so that a program that looks for a cloud's metadata need not wait for a time-out.
def root_rules(installation: str, range_: str, allowed: Sequence[str], *, guard: bool) -> str:
    """Return the rules for this installation's pods; loading them replaces what it had, in one step.

    `guard`: this machine forwarded no IPv4 before, so it goes on to forward none but for pods.
    """
    table, ours = table_name(installation), link_prefix(installation)
    guarding = f'    meta nfproto ipv4 iifname != "{LINKS}*" oifname != "{LINKS}*" drop\n' if guard else ""
    return (
        f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n"
        + _set("refused", _only_4(REFUSED_4))
        + _set("allowed", _only_4(allowed))
        + "  chain unspoofed {\n    type filter hook prerouting priority raw; policy accept;\n"
        f'    iifname "{ours}*" meta nfproto ipv6 drop\n'
        f'    iifname "{ours}*" fib saddr . iif oif missing drop\n  }}\n'
        # Whatever address of the host, the gateway's own included: it would be delivered here.
        "  chain to_host {\n    type filter hook input priority filter - 10; policy accept;\n"
        f'    iifname "{ours}*" reject with icmpx admin-prohibited\n  }}\n'
        # Ports are reached through the gate alone, by programs of this machine too. Errors of the way are let in.
        "  chain from_host {\n    type filter hook output priority filter - 10; policy accept;\n"
        f'    oifname "{ours}*" meta l4proto icmp ct state related accept\n    oifname "{ours}*" drop\n  }}\n'
        "  chain through {\n    type filter hook forward priority filter - 10; policy accept;\n"
        f'    iifname "{ours}*" jump from_pod\n'
        f'    oifname "{ours}*" ct state established,related accept\n'
        f'    oifname "{ours}*" drop\n{guarding}  }}\n'
        "  chain from_pod {\n    meta nfproto ipv6 drop\n"
        f'    oifname "{LINKS}*" reject with icmpx admin-prohibited\n'
        "    ip daddr @allowed accept\n    ip daddr @refused reject with icmpx admin-prohibited\n"
        "    fib daddr type { local, broadcast, anycast, multicast } drop\n    accept\n  }\n"
        "  chain translated {\n    type nat hook postrouting priority srcnat; policy accept;\n"
        f'    ip saddr {range_} oifname != "{LINKS}*" masquerade\n  }}\n}}\n'
    )


def user_rules(allowed: Sequence[str], host: Iterable[str]) -> str:
    """Return the rules within a pod's own network namespace; `host` are the host's addresses as they are now."""
    addresses = _only_4(host)
    return (
        "add table inet neuropod\ndelete table inet neuropod\ntable inet neuropod {\n"
        + _set("refused", _only_4(REFUSED_4))
        + _set("allowed", _only_4(allowed))
        + _set("host", addresses)
        + "  chain out {\n    type filter hook output priority filter; policy accept;\n"
        '    oifname "lo" accept\n    meta nfproto ipv6 drop\n'
        # The host's own addresses come first: a private network that is allowed does not mean the host in it.
        "    ip daddr @host reject with icmpx admin-prohibited\n    ip daddr @allowed accept\n"
        "    ip daddr @refused reject with icmpx admin-prohibited\n"
        "    fib daddr type { broadcast, anycast, multicast } drop\n  }\n"
        "  chain in {\n    type filter hook input priority filter; policy accept;\n"
        '    iifname "lo" accept\n    ct state established,related accept\n    drop\n  }\n}\n'
    )


def user_host_rules(host: Iterable[str]) -> str:
    """Return what brings the addresses of the host in `user_rules` up to date, in one step."""
    addresses = _only_4(host)
    added = f"add element inet neuropod host {{ {', '.join(addresses)} }}\n" if addresses else ""
    return f"flush set inet neuropod host\n{added}"
