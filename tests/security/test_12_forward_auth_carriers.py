"""SECURITY 12: what visitors show the gate does not reach the pod through a carrier that asks it.

Through a real Traefik; the same on a real cluster, by all carriers, in tests/cluster/test_carriers.py.
"""

import pytest

from neuropod.words import Access
from support.gateway import Recorder
from support.ports import free_port
from support.traefik import asked_gate, through_traefik


@pytest.mark.parametrize("access", [Access.PRIVATE, Access.PUBLIC])
async def test_keys_and_passes_never_reach_the_pod_nor_do_their_aliases(tmp_path, access):
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod, access=access)
        cookie = served.signed_in(route)
        aliases = [
            "X-Neuropod-User: usr_admin", "X_Neuropod_Key: a", "x_neuropod-key: b", "X.Neuropod.Key: c",
            "X-Neuropod-Carried: d", "X-Neuropod-Anything: e",
        ]  # fmt: skip
        async with through_traefik(tmp_path, served, port, route) as through:
            by_key = await through.ask(
                route, "GET / HTTP/1.1", f"Cookie: own=1; {cookie}; more=2", *aliases, key=served.key()
            )
            by_pass = await through.ask(
                route, "GET / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: none", *aliases, key=None
            )

        assert (by_key.status, by_pass.status) == (200, 200)
        first, second = ({name.lower(): value for name, value in headers} for _, headers, _ in pod.requests)
        assert first["cookie"] == "own=1; more=2"
        assert "cookie" not in second
        for headers in (first, second):
            assert not [name for name in headers if "neuropod" in name]
