"""The gate through all three carriers on a real cluster: our own gateway, Traefik, and the NGINX class."""

import asyncio
import json
from functools import partial

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from neuropod.accounts.visitors import Visitor
from neuropod.kube.kinds import ENDPOINT_SLICES, INGRESSES, MIDDLEWARES, PODS, SERVICES
from neuropod.words import Access, Role, Status
from support.carrying import CARRIERS, carrying
from support.jupyter import Kernel, run_cell
from support.tickets import Browser, console_session, reference_of, ticket_for

pytestmark = pytest.mark.timeout(300)  # each starts a controller and pods, beside a whole cluster

PAGE = ("Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none")
ALL = pytest.mark.parametrize("carrier", CARRIERS)
CONTROLLERS = pytest.mark.parametrize("carrier", CARRIERS[1:])


def _told(answer):
    """Return the headers that the pod was asked with."""
    return {name.lower(): value for name, value in json.loads(answer.content)["headers"].items()}


@ALL
async def test_who_passes_to_which_port(carrier, tmp_path):
    async with carrying(carrier, tmp_path) as user:
        ports = {}
        for number, access in enumerate(Access):
            ports[access] = await user.pod(f"pod-{number}", access=access)
        for route in ports.values():
            await user.until_carried(route)
        keys = {
            "owner": user.served.key("o", user_id=user.owner),
            "other": user.served.key("x", user_id="usr_other"),
            "administrator": user.served.key("a", user_id="usr_admin", role=Role.ADMIN),
            "nobody": None,
        }
        seen = {
            (access, who): (await user.through.ask(route, "GET /echo HTTP/1.1", key=key)).status
            for access, route in ports.items()
            for who, key in keys.items()
        }

    nobody = 403 if carrier == "nginx" else 401  # in a class where 401 means "sign in", programs get 403
    assert seen == {
        (Access.PRIVATE, "owner"): 200, (Access.PRIVATE, "other"): 403, (Access.PRIVATE, "administrator"): 200,
        (Access.PRIVATE, "nobody"): nobody,
        (Access.MEMBERS, "owner"): 200, (Access.MEMBERS, "other"): 200, (Access.MEMBERS, "administrator"): 200,
        (Access.MEMBERS, "nobody"): nobody,
        (Access.PUBLIC, "owner"): 200, (Access.PUBLIC, "other"): 200, (Access.PUBLIC, "administrator"): 200,
        (Access.PUBLIC, "nobody"): 200,
    }  # fmt: skip


@ALL
@pytest.mark.parametrize("access", [Access.PRIVATE, Access.PUBLIC])
async def test_an_echo_pod_sees_neither_keys_nor_passes(carrier, access, tmp_path):
    """SECURITY 12."""
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod(access=access)
        await user.until_carried(route)
        cookie = user.served.signed_in(route, user_id=user.owner)
        aliases = (
            "X-Neuropod-User: usr_admin", "X_Neuropod_Key: a", "x_neuropod-key: b", "X-Neuropod-Carried: c",
            "X_Neuropod_User: d",
        )  # fmt: skip

        by_key = await user.through.ask(
            route, "GET /echo HTTP/1.1", f"Cookie: own=1; {cookie}", *aliases,
            key=user.served.key("o", user_id=user.owner),
        )  # fmt: skip
        by_pass = await user.through.ask(
            route, "GET /echo HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: none", *aliases, key=None
        )

    assert (by_key.status, by_pass.status) == (200, 200)
    for answer, own in ((by_key, "own=1"), (by_pass, None)):
        headers = _told(answer)
        cookies = headers.get("cookie")
        assert (cookies[0] if isinstance(cookies, list) else cookies) == own
        assert not [name for name in headers if "neuropod" in name.replace("_", "-")]


@ALL
async def test_a_page_of_another_pod_cannot_use_a_visitors_pass(carrier, tmp_path):
    """SECURITY 17."""
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod()
        await user.until_carried(route)
        cookie = f"Cookie: {user.served.signed_in(route, user_id=user.owner)}"
        evil = "Origin: http://evil-abcdefgh-80.neuropod-pods.localhost"
        ask = partial(user.through.ask, route, key=None)

        assert (await ask("POST /echo HTTP/1.1", cookie, evil, "Content-Length: 0")).status == 403
        assert (await ask("GET /echo HTTP/1.1", cookie, "Sec-Fetch-Site: same-site")).status == 403
        assert (await ask("GET /echo HTTP/1.1", cookie)).status == 403
        preflight = ("OPTIONS /echo HTTP/1.1", evil, "Access-Control-Request-Method: POST")
        assert (await ask(*preflight)).status == 403
        own = f"Origin: {user.served.origin(route)}"
        assert (await ask("POST /echo HTTP/1.1", cookie, own, "Content-Length: 0")).status == 200


@ALL
async def test_a_visitor_signs_in_and_comes_back(carrier, tmp_path, database):
    async with carrying(carrier, tmp_path, database.write) as user:
        actor = await console_session(database)
        user.served.visitors.sessions[actor.session_id] = Visitor(
            actor.user_id, actor.role, session_id=actor.session_id
        )
        route = await user.pod(access=Access.MEMBERS)
        await user.until_carried(route)
        browser = Browser(user.through, route)

        first = await browser.get("/echo?x=1&y=2")
        if carrier == "nginx":  # by the gate's sign-in page
            assert first.status == 302
            place, _, target = first["location"].partition(route.host)[2].partition("/")
            assert place == f":{user.through.port}"
            first = await browser.get(f"/{target}")
        entered = await browser.post_ticket(await ticket_for(user.served, database, actor, reference_of(first)))
        again = await browser.get("/echo?x=1&y=2")

    assert (entered.status, entered["location"]) == (303, f"{user.served.origin(route)}/echo?x=1&y=2")
    assert again.status == 200
    assert "cookie" not in _told(again)


@ALL
async def test_no_own_path_is_a_way_around_the_gate(carrier, tmp_path):
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod()
        await user.until_carried(route)
        for path in (
            "/.neuropod", "/.neuropod/nothing", "/.neuropod/../echo", "/.neuropod/..%2fecho", "/%2eneuropod/../echo",
            "//.neuropod/../echo", "/x/../.neuropod/enter", "/.neuropodx",
        ):  # fmt: skip
            answer = await user.through.ask(route, f"GET {path} HTTP/1.1", key=None)
            assert answer.status >= 400, path


@ALL
async def test_a_stopped_pod_shows_why_and_a_started_one_is_reached_at_once(carrier, tmp_path):
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod()
        await user.until_carried(route)
        cookie = f"Cookie: {user.served.signed_in(route, user_id=user.owner)}"
        stopped = user.served.serve(route, incarnation=None, status=Status.STOPPED, message="Stopped by you.")

        async def shows_why():
            answer = await user.through.ask(stopped, "GET / HTTP/1.1", cookie, *PAGE, key=None)
            return answer.status == 503 and b"Stopped by you." in answer.content

        await user.until(shows_why, "the page of a stopped pod")
        stranger = await user.through.ask(stopped, "GET / HTTP/1.1", *PAGE, key=None)
        others = await user.through.ask(stopped, key=user.served.key("x", user_id="usr_other"))
        assert stranger.status == (302 if carrier == "nginx" else 303)
        assert others.status == 403

        user.served.serve(route)
        for _ in range(20):  # whether the controller has followed or not
            answer = await user.through.ask(route, "GET /echo HTTP/1.1", cookie, *PAGE, key=None)
            assert answer.status == 200
            await asyncio.sleep(0.05)


@CONTROLLERS
async def test_a_stopped_pods_address_is_in_no_endpoints(carrier, tmp_path):
    """An address of a Pod that has gone is soon another Pod's."""
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod()
        await user.until_carried(route)
        user.served.serve(route, incarnation=None, status=Status.STOPPED)
        service = f"{route.host.partition('.')[0]}-service"

        async def gateway_alone():
            slices = await user.client.list(
                ENDPOINT_SLICES, user.namespace, labels=f"kubernetes.io/service-name={service}"
            )
            found = {
                address for one in slices for point in one.get("endpoints") or () for address in point["addresses"]
            }
            return found == {user.served.address}

        await user.until(gateway_alone, "the Pod's address to go")


@CONTROLLERS
async def test_without_its_gate_a_port_is_not_served(carrier, tmp_path):
    """SECURITY 11: delete the Middleware, stop the gate: never a 200."""
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod()
        await user.until_carried(route)
        label = route.host.partition(".")[0]
        statuses = set()

        async def ask():
            statuses.add((await user.through.ask(route, "GET /echo HTTP/1.1", key=None)).status)

        if carrier == "ingress":
            uid = (await user.client.get(MIDDLEWARES, f"{label}-gate", user.namespace))["metadata"]["uid"]
            await user.client.delete(MIDDLEWARES, f"{label}-gate", user.namespace)

            async def put_back():
                await ask()
                found = await user.client.get(MIDDLEWARES, f"{label}-gate", user.namespace)
                return found is not None and found["metadata"]["uid"] != uid

            await user.until(put_back, "the Middleware to be put back")
            await user.until_carried(route)
        await ask()
        assert statuses <= {401, 403, 404, 500, 503}

        await user.stop_gate()
        mine = await user.through.ask(route, "GET /echo HTTP/1.1", key=user.served.key("o", user_id=user.owner))
        assert mine.status == 500


@CONTROLLERS
async def test_an_ingress_that_somebody_changed_is_put_back(carrier, tmp_path):
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod()
        await user.until_carried(route)
        name = f"{route.host.partition('.')[0]}-ingress"
        wanted = (await user.client.get(INGRESSES, name, user.namespace))["metadata"]["annotations"]
        await user.client.merge_patch(
            INGRESSES, name, user.namespace, {"metadata": {"annotations": dict.fromkeys(wanted)}}
        )

        async def is_back():
            found = await user.client.get(INGRESSES, name, user.namespace)
            return found["metadata"].get("annotations") == wanted

        await user.until(is_back, "the annotations to be put back")


@CONTROLLERS
async def test_at_forget_nothing_of_the_pod_is_left(carrier, tmp_path):
    async with carrying(carrier, tmp_path) as user:
        route = await user.pod()
        await user.until_carried(route)
        await user.client.delete(PODS, "lab", user.namespace)
        user.served.withdraw(route)

        async def nothing_left():
            kinds = (SERVICES, INGRESSES, ENDPOINT_SLICES, *((MIDDLEWARES,) if carrier == "ingress" else ()))
            return not [one for kind in kinds for one in await user.client.list(kind, user.namespace)]

        async def nobody_answers():
            return (await user.through.ask(route, key=user.served.key("o", user_id=user.owner))).status == 404

        await user.until(nothing_left, "the objects to go")
        await user.until(nobody_answers, "the controller to follow")


@ALL
async def test_a_cell_of_jupyter_runs_through_the_carrier_and_large_files_pass(carrier, tmp_path):
    async with carrying(carrier, tmp_path) as user:
        token = "token-of-the-pod"
        route = await user.pod(
            port=8888,
            spec={
                "image": "neuropod.test/jupyterlab:1",
                "env": [{"name": "JUPYTER_TOKEN", "value": token}],
                "args": [
                    "jupyter-lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--allow-root",
                    "--ServerApp.allow_remote_access=True",
                ],
            },
        )  # fmt: skip
        await user.until_carried(route, path="/api")
        key = user.served.key("o", user_id=user.owner)
        headers = {"Host": f"{route.host}:{user.through.port}", "X-Neuropod-Key": key}
        url = f"http://{user.through.address}:{user.through.port}"

        def run():
            kernel = Kernel(url, headers, token)
            with kernel.open() as channel:
                printed = run_cell(channel, "print(6 * 7)")
            file = f"{url}/api/contents/large.txt?token={token}"
            content = {"type": "file", "format": "text", "content": "x" * (8 << 20)}
            assert httpx.put(file, headers=headers, json=content, timeout=60).status_code == 201
            assert httpx.get(file, headers=headers, timeout=60).json()["content"] == content["content"]
            with pytest.raises(InvalidStatus) as refused:
                Kernel.open(_Stranger(kernel, url, {"Host": headers["Host"]}, token))
            return printed, refused.value.response.status_code

        printed, stranger = await asyncio.to_thread(run)

    assert printed == "42\n"
    assert stranger == (403 if carrier == "nginx" else 401)


class _Stranger:
    """Somebody who knows kernel and token, and has no key."""

    def __init__(self, kernel, url, headers, token):
        self.id, self._url, self._headers, self._token = kernel.id, url, headers, token
