"""SECURITY 11: a route without its gate leads nowhere. On a real cluster: tests/cluster/test_carriers.py."""

import dataclasses

from neuropod.gateway.carriers.objects import wanted_objects
from neuropod.words import Access
from support.gateway import Recorder
from support.ports import free_port
from support.traefik import asked_gate, asking, carrier_of, through_traefik, traefik


async def test_without_the_middleware_nothing_is_served(tmp_path):
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod)
        async with through_traefik(tmp_path, served, port, route, gated=False) as through:
            for key in (None, served.key()):
                assert (await through.ask(route, key=key)).status == 404

        assert pod.requests == []


async def test_without_the_gate_nothing_is_served(tmp_path):
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod)
        key = served.key()
        content = asking(served, [route])
        forward = content["http"]["middlewares"]["gate-0"]["forwardAuth"]
        forward["address"] = forward["address"].replace(f":{served.port}/", f":{free_port()}/")
        async with traefik(tmp_path, content, port=port):
            answer = await dataclasses.replace(served, port=port).ask(route, key=key)

        assert answer.status >= 500
        assert pod.requests == []


async def test_a_carrier_that_cannot_gate_carries_public_ports_alone():
    async with asked_gate() as served:
        private = await served.pod(Recorder(), "one")
        members = await served.pod(Recorder(), "two", access=Access.MEMBERS)
        public = await served.pod(Recorder(), "three", access=Access.PUBLIC)
        for kind in ("ingress", "nginx"):
            carrier = dataclasses.replace(carrier_of(served), kind=kind, gate=None)

            wanted = wanted_objects(carrier, [private, members, public], served.gateway.addresses.pods)

            hosts = {
                rule["host"] for obj in wanted.values() if obj["kind"] == "Ingress" for rule in obj["spec"]["rules"]
            }
            assert hosts == {public.host}
