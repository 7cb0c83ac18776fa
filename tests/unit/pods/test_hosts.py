"""A host name is one DNS label below the pods domain, and leads back to pod, owner and port."""

from hypothesis import given
from hypothesis import strategies as st

from neuropod.kit.identifiers import POD_NAME
from neuropod.pods.hosts import pod_host, split_host

DOMAIN = "neuropod-pods.localhost"


@given(
    st.from_regex(POD_NAME, fullmatch=True),
    st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=8, max_size=8),
    st.integers(1, 65535),
)
def test_a_host_leads_back_to_what_it_was_made_from(name: str, user_hash: str, port: int):
    host = pod_host(name, user_hash, port, DOMAIN)

    assert split_host(host, DOMAIN) == (name, user_hash, port)
    assert len(host.partition(".")[0]) <= 63


def test_other_hosts_are_none_of_ours():
    for host in (
        DOMAIN,
        f"app.{DOMAIN}",
        f"lab-abcdefgh-8888.evil.{DOMAIN}",
        f"lab-abcdefgh-8888.{DOMAIN}.evil.org",
        f"lab-abcdefgh-0.{DOMAIN}",
        f"lab-abcdefgh-08888.{DOMAIN}",
        f"lab-abcdefgh-70000.{DOMAIN}",
        f"lab-ABCDEFGH-8888.{DOMAIN}",
        f"-abcdefgh-8888.{DOMAIN}",
        "",
    ):
        assert split_host(host, DOMAIN) is None
