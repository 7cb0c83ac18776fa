"""The verbs against a server over real TLS: what they send, what they return, what is sent again and what never."""

import asyncio

import msgspec
import pytest

from neuropod.kit.clock import SystemClock
from neuropod.kit.secrets import Secret
from neuropod.kube.client import KubeClient
from neuropod.kube.credentials import Fixed
from neuropod.kube.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    KubeUnavailableError,
    NoSuchKindError,
    NotFoundError,
)
from neuropod.kube.kinds import NAMESPACES, PODS, SECRETS
from neuropod.kube.shapes import Metadata, Shape
from support.kube import Answer, make_pair, status, until_held_back

POD = "/api/v1/namespaces/here/pods/one"


def pod(name: str = "one", **more):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "here"}, **more}


class PodShape(Shape, frozen=True):
    metadata: Metadata


async def test_what_was_created_can_be_read_changed_and_deleted(api, client):
    created = await client.create(pod(spec={"nodeName": "n"}))
    found = await client.get(PODS, "one", "here")
    patched = await client.merge_patch(PODS, "one", "here", {"spec": {"activeDeadlineSeconds": 1}})

    assert found == created
    assert patched["spec"] == {"nodeName": "n", "activeDeadlineSeconds": 1}
    assert await client.delete(PODS, "one", "here") is True
    assert POD not in api.objects


async def test_absence_is_an_answer(client):
    assert await client.get(PODS, "one", "here") is None
    assert await client.delete(PODS, "one", "here") is False


async def test_a_kind_that_the_cluster_does_not_know_is_no_absence(api, client):
    api.faults.append(lambda request: Answer(404, b"404 page not found\n"))

    with pytest.raises(NoSuchKindError):
        await client.get(PODS, "one", "here")
    with pytest.raises(NoSuchKindError):
        await client.delete(PODS, "one", "here")


async def test_an_object_is_read_into_a_shape_without_the_rest(client):
    await client.create(pod(spec={"containers": [{"name": "x"}]}))

    found = await client.get_as(PodShape, PODS, "one", "here")

    assert found == PodShape(Metadata(name="one", namespace="here", uid="uid-1", resource_version="101"))


async def test_apply_says_who_manages_the_fields_and_may_be_repeated(api, client):
    api.fail_once(Answer(cut=b""), method="PATCH")

    applied = await client.apply(pod(spec={"x": 1}))

    sent = [request for request in api.requests if request.method == "PATCH"]
    assert len(sent) == 2
    assert sent[1].path == POD
    assert sent[1].headers["content-type"] == "application/apply-patch+yaml"
    assert (sent[1].param("fieldManager"), sent[1].param("force")) == ("neuropod", "true")
    assert applied["spec"] == {"x": 1}


async def test_a_list_is_read_page_by_page(api, client):
    for number in range(1203):
        api.objects[f"/api/v1/namespaces/here/pods/p{number:04}"] = {
            "metadata": {"name": f"p{number:04}", "namespace": "here", "resourceVersion": "5"}
        }

    found = await client.list(PODS, labels="app=neuropod", fields="spec.nodeName=n")

    assert [obj["metadata"]["name"] for obj in found] == [f"p{number:04}" for number in range(1203)]
    assert (found[0]["kind"], found[0]["apiVersion"]) == ("Pod", "v1")
    pages = [(request.param("limit"), request.param("continue")) for request in api.requests]
    assert pages == [("500", None), ("500", "500"), ("500", "1000")]
    assert {request.param("labelSelector") for request in api.requests} == {"app=neuropod"}
    assert {request.param("fieldSelector") for request in api.requests} == {"spec.nodeName=n"}


async def test_a_list_whose_pages_were_forgotten_is_read_in_one_piece(api, client):
    for number in range(700):
        await api.put(f"/api/v1/namespaces/here/pods/p{number}", {})
    api.faults.append(lambda request: status(410, "Expired") if request.param("continue") else None)

    found = await client.list(PODS, "here")

    assert len(found) == 700
    assert api.requests[-1].param("limit") is None


async def test_all_of_a_kind_or_of_one_namespace(api, client):
    await api.put("/api/v1/namespaces/here/pods/one", {})
    await api.put("/api/v1/namespaces/there/pods/two", {})

    assert len(await client.list(PODS, "there")) == 1
    await client.list(NAMESPACES)
    assert api.requests[-1].path == "/api/v1/namespaces"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(401, "Unauthorized"), ForbiddenError),
        (status(403, "Forbidden"), ForbiddenError),
        (status(400, "BadRequest"), InvalidError),
        (status(422, "Invalid"), InvalidError),
        (status(409, "AlreadyExists"), ConflictError),
        (status(410, "Expired"), GoneError),
        (status(404, "NotFound", name="here"), NotFoundError),
        (status(405, "MethodNotAllowed"), KubeError),
    ],
)
async def test_a_refusal_has_the_name_of_its_situation_and_is_not_repeated(api, client, answer, error):
    api.faults.append(lambda request: answer)

    with pytest.raises(error) as caught:
        await client.create(pod())

    assert type(caught.value) is error
    assert (caught.value.status, caught.value.reason, caught.value.message) == (
        answer.status,
        answer.body["reason"],
        "no",
    )
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(cut=b""),
        Answer(cut=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        status(500, "InternalError"),
        status(503, "ServiceUnavailable"),
        status(504, "Timeout"),
        status(429, "TooManyRequests"),
        Answer(502, b"<html>a load balancer</html>"),
    ],
)
async def test_a_read_is_repeated_after_a_failure(api, client, answer):
    await api.put(POD, {})
    api.fail_once(answer)

    assert await client.get(PODS, "one", "here") is not None
    assert len(api.requests) == 2


@pytest.mark.parametrize("answer", [Answer(cut=b""), status(500, "InternalError"), status(503, "ServiceUnavailable")])
async def test_a_creation_is_never_sent_twice(api, client, answer):
    api.faults.append(lambda request: answer)

    with pytest.raises(KubeUnavailableError):
        await client.create(pod())

    assert len(api.requests) == 1


async def test_a_deletion_is_sent_again_only_of_one_certain_object(api, client):
    await api.put(POD, {})
    api.fail_once(Answer(cut=b""))
    with pytest.raises(KubeUnavailableError):
        await client.delete(PODS, "one", "here")

    api.fail_once(Answer(cut=b""))
    gone = await client.delete(PODS, "one", "here", uid="uid-1", grace_seconds=0, propagation="Background")

    assert gone is True
    assert len(api.requests) == 3
    assert api.requests[-1].json() == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "uid-1"},
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Background",
    }


async def test_another_object_of_the_same_name_is_neither_deleted_nor_changed(api, client):
    await api.put(POD, {})

    with pytest.raises(ConflictError):
        await client.delete(PODS, "one", "here", uid="uid-of-another")
    with pytest.raises(ConflictError):
        await client.merge_patch(PODS, "one", "here", {"metadata": {"uid": "uid-of-another"}, "spec": {"x": 1}})

    assert "spec" not in api.objects[POD]


async def test_what_the_server_put_off_is_asked_again_when_it_said_even_a_creation(api, client):
    answer = status(429, "TooManyRequests", retryAfterSeconds=1)
    answer.headers["Retry-After"] = "1"
    api.fail_once(answer)
    began = asyncio.get_running_loop().time()

    await client.create(pod())

    assert asyncio.get_running_loop().time() - began >= 1
    assert POD in api.objects


async def test_a_server_that_stays_busy_is_unavailable_and_its_words_are_told(api, client):
    api.faults.append(lambda request: status(500, "InternalError", "etcdserver: request timed out"))

    with pytest.raises(KubeUnavailableError, match="answered 500: etcdserver: request timed out"):
        await client.get(PODS, "one", "here")


async def test_a_server_that_does_not_answer_is_unavailable_in_time(api):
    async def never(request):
        await asyncio.Event().wait()

    api.faults.append(never)
    async with KubeClient(api.access(), SystemClock(), timeout_seconds=0.5) as client:
        with pytest.raises(KubeUnavailableError, match="no answer within"):
            await client.get(PODS, "one", "here")


async def test_a_server_that_is_not_there_is_unavailable_and_found_again_when_it_is(api, client, tmp_path):
    await api.put(POD, {})
    assert await client.get(PODS, "one", "here") is not None
    await api.stop()

    asked = asyncio.create_task(client.get(PODS, "one", "here"))
    await asyncio.sleep(0)
    await api.start(tmp_path)

    assert await asked is not None


async def test_a_server_with_a_certificate_of_another_authority_is_not_spoken_to(api):
    access = api.access(ca_data=make_pair("another").certificate)
    async with KubeClient(access, SystemClock(), timeout_seconds=2) as client:
        with pytest.raises(KubeUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.version()

    assert api.requests == []


async def test_a_name_that_leads_elsewhere_is_no_name(api, client):
    for name in ("..", "a/b", "", "a%2fb"):
        with pytest.raises(ValueError):
            await client.get(PODS, name, "here")
    with pytest.raises(ValueError):
        await client.get(PODS, "one")
    with pytest.raises(ValueError):
        await client.request_json("GET", "/version HTTP/1.1\r\nX: y")
    await client.get(PODS, "a?watch=true&x=\r\n", "here")

    (request,) = api.requests
    assert (request.path, request.query) == ("/api/v1/namespaces/here/pods/a?watch=true&x=\r\n", {})


async def test_connections_are_kept_and_bounded(api, client):
    for number in range(40):
        await client.get(PODS, f"p{number}", "here")
    assert {request.connection for request in api.requests} == {1}

    await asyncio.gather(*(client.get(PODS, f"p{number}", "here") for number in range(200)))

    assert api.connections <= 32


async def test_a_connection_that_the_server_closes_is_not_used_again(api, client):
    await api.put(POD, {})
    api.fail_once(Answer(body=pod(), headers={"Connection": "close"}))

    await client.get(PODS, "one", "here")
    await client.get(PODS, "one", "here")

    assert [request.connection for request in api.requests] == [1, 2]


async def test_a_cancelled_request_leaves_no_half_read_connection(api, client):
    await api.put(POD, {})
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(request):
        if not asked.is_set():
            asked.set()
            await goes_on.wait()

    api.faults.append(slow)
    task = asyncio.create_task(client.get(PODS, "two", "here"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    goes_on.set()

    found = await client.get(PODS, "one", "here")

    assert found is not None
    assert found["metadata"]["name"] == "one"


async def test_no_secret_is_in_an_error_not_even_when_the_server_quotes_it(api):
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "here"},
        "data": {"K": "aHVudGVyMg=="},
    }
    cause = {"reason": "FieldValueInvalid", "message": "hunter2", "field": "data[K]"}
    api.faults.append(lambda request: status(422, "Invalid", "data[K]: hunter2", name="s", causes=[cause]))
    access = api.access(credentials=Fixed(Secret("the-token")))
    async with KubeClient(access, SystemClock()) as client:
        errors = []
        for asked in (client.apply(secret), client.create(secret), client.get(SECRETS, "s", "here")):
            with pytest.raises(InvalidError) as caught:
                await asked
            errors.append(caught.value)
        api.faults[:] = [lambda request: status(500, "InternalError", "hunter2")]
        with pytest.raises(KubeUnavailableError) as unavailable:
            await client.create(secret)

    assert {request.headers["authorization"] for request in api.requests} == {"Bearer the-token"}
    for error in (*errors, unavailable.value):
        seen = f"{error!r} {error} {error.__dict__} {error.__cause__} {client.access!r}"
        assert "hunter2" not in seen
        assert "aHVudGVyMg" not in seen
        assert "the-token" not in seen
    assert errors[0].message == "the server refused the Secret because of data[K]"


async def test_an_answer_that_is_no_json_is_an_error_of_the_servers(api, client):
    api.faults.append(lambda request: Answer(200, b"<html>a portal</html>"))

    with pytest.raises(KubeUnavailableError, match="no such object"):
        await client.get(PODS, "one", "here")


async def test_a_server_without_tls_is_one_too(api, tmp_path):
    """As `kubectl proxy` is one, on this machine."""

    async def echo(channel):
        await channel.send(await channel.messages().__anext__())
        await channel.send(b'\x03{"status":"Success"}')
        await channel.close()

    await api.stop()
    await api.start(tmp_path, tls=False)
    api.sockets[POD + "/exec"] = echo
    async with KubeClient(api.access(server=f"http://127.0.0.1:{api.port}"), SystemClock()) as client:
        await client.create(pod())
        assert await client.get(PODS, "one", "here") is not None
        execution = await client.exec_socket("here", "one", "main", ["cat"], tty=False, stdin=True)
        await execution.write(b"x")
        assert await execution.read() is None
        assert await execution.wait() == 0


async def test_a_server_below_a_path_is_spoken_to_there(api):
    async with KubeClient(api.access(server=f"https://localhost:{api.port}/k8s/clusters/c-1"), SystemClock()) as client:
        await client.get(PODS, "one", "here")

    assert api.requests[0].path == "/k8s/clusters/c-1/api/v1/namespaces/here/pods/one"


async def test_lines_come_as_they_are_written_and_end_with_the_answer(api, client):
    goes_on = asyncio.Event()

    async def log(request, sender):
        await sender.send(b"first\nsec")
        await goes_on.wait()
        await sender.send(b"ond\n\nlast, without an end")

    api.streams[POD + "/log"] = log
    lines = client.stream_lines(POD + "/log", {"follow": "true", "container": "main"})

    assert await anext(lines) == b"first"
    goes_on.set()
    assert [line async for line in lines] == [b"second", b"", b"last, without an end"]
    assert api.requests[0].query == {"follow": ["true"], "container": ["main"]}


async def test_a_stream_that_is_cut_says_so_and_one_that_is_refused_too(api, client):
    async def log(request, sender):
        await sender.send(b"first\n")
        sender.cut()

    api.streams[POD + "/log"] = log
    lines = client.stream_lines(POD + "/log")

    assert await anext(lines) == b"first"
    with pytest.raises(KubeUnavailableError, match="was cut"):
        await anext(lines)
    with pytest.raises(NotFoundError):
        await anext(client.stream_lines("/api/v1/namespaces/here/pods/none/log"))
    api.faults.append(lambda request: status(500, "InternalError", "no node"))
    with pytest.raises(KubeUnavailableError, match="no node"):
        await anext(client.stream_lines(POD + "/log"))


async def test_a_stream_closed_early_ends_its_connection(api, client):
    ended = asyncio.Event()

    async def log(request, sender):
        try:
            while True:
                await sender.send(b"x" * 1000 + b"\n")
        except ConnectionError:
            ended.set()
            raise

    api.streams[POD + "/log"] = log
    lines = client.stream_lines(POD + "/log")
    await anext(lines)
    await lines.aclose()

    async with asyncio.timeout(20):
        await ended.wait()


async def test_a_stream_that_nobody_reads_holds_the_server_back(api, client):
    sent, to = 0, None

    async def log(request, sender):
        nonlocal sent, to
        to = sender
        for _ in range(4000):
            await sender.send(b"y" * 16383 + b"\n")
            sent += 16384

    api.streams[POD + "/log"] = log
    lines = client.stream_lines(POD + "/log")
    await anext(lines)
    await until_held_back(lambda: sent, lambda: to)
    stood = sent

    count = 1 + len([line async for line in lines])

    assert stood < 32 * 1024 * 1024
    assert count == 4000


async def test_a_line_without_end_comes_in_parts_that_fit_into_memory(api, client):
    async def log(request, sender):
        for _ in range(300):
            await sender.send(b"z" * 16384)

    api.streams[POD + "/log"] = log

    parts = [part async for part in client.stream_lines(POD + "/log")]

    assert sum(map(len, parts)) == 300 * 16384
    assert max(map(len, parts)) < 2 * 1024 * 1024


async def test_a_closed_client_opens_nothing_any_more(api, client):
    await client.version()
    await client.aclose()
    await client.aclose()

    with pytest.raises(KubeUnavailableError, match="closed"):
        await client.version()


async def test_shapes_may_be_of_any_type_that_msgspec_reads(api, client):
    class Only(msgspec.Struct):
        kind: str

    await client.create(pod())

    assert await client.get_as(Only, PODS, "one", "here") == Only("Pod")
