"""The client against a real cluster, as the server's account: objects, commands, logs and forwarded ports."""

import ast
import asyncio
import base64
import json
import os
import urllib.request

import pytest
import uvloop

from neuropod.kube.channels import Channel
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    NoSuchKindError,
    NotFoundError,
)
from neuropod.kube.kinds import EVENTS, PODS, SELF_SUBJECT_ACCESS_REVIEWS, SERVICES, Kind
from support.cluster_account import account_client, admin_client
from support.cluster_namespace import users_namespace
from support.cluster_pods import BUSYBOX

PYTHON = "neuropod.test/jupyterlab:1"
UNKNOWN = Kind("v1", "Unknown", "unknowns")

# Port by port: an echo, as many blocks as asked for, one that reads slowly, and how much that one read.
SERVER = """
import asyncio

read = []

async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def pour(reader, writer):
    for number in range(int(await reader.readline())):
        writer.write(bytes([number % 256]) * 65536)
        await writer.drain()
    writer.close()

async def sink(reader, writer):
    count = 0
    while data := await reader.read(65536):
        count += len(data)
        await asyncio.sleep(0.0005)
    read.append(count)

async def report(reader, writer):
    count = int(await reader.readline())
    while len(read) < count:
        await asyncio.sleep(0.05)
    writer.write(repr(read).encode())
    writer.close()

async def main():
    for port, serve in {7001: echo, 7002: pour, 7003: sink, 7004: report}.items():
        await asyncio.start_server(serve, "0.0.0.0", port)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def pod(namespace: str, name: str, command: list[str], image: str = BUSYBOX) -> dict:
    # Less than a user's namespace gives by default, which would fill a small node with two.
    resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": image, "command": command, "resources": resources}],
        },
    }


def service(namespace: str, name: str, annotations: dict | None = None) -> dict:
    """Return the smallest object of a kind that the server writes."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    }


def compact() -> None:
    """Let our own cluster's etcd (tools/cluster/control.py) forget all but now."""

    def ask(verb: str, body: dict) -> dict:
        request = urllib.request.Request(f"http://127.0.0.1:2379/v3/kv/{verb}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    revision = ask("range", {"key": "AA=="})["header"]["revision"]
    ask("compaction", {"revision": revision, "physical": True})


def event(namespace: str, name: str) -> dict:
    """Return the smallest object of a kind whose pages the API server asks etcd for; of others it remembers the past."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"namespace": namespace},
    }


async def start(kube: KubeClient, obj: dict) -> None:
    """Create a Pod, once its namespace has its ServiceAccount, and wait until it runs, or ran."""
    name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
    async with asyncio.timeout(90):
        while True:
            try:
                await kube.create(obj)
                break
            except ForbiddenError as error:
                assert "serviceaccount" in str(error) or "status unknown for quota" in str(error)
                await asyncio.sleep(0.2)
        while (await kube.get(PODS, name, namespace))["status"]["phase"] == "Pending":
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def namespace():
    """A namespace for all of this module, with a Pod of each image."""

    async def fill(name):
        async with account_client() as kube:
            await asyncio.gather(
                start(kube, pod(name, "shell", ["sleep", "3600"])),
                start(kube, pod(name, "server", ["python3", "-c", SERVER], PYTHON)),
            )
            lines = kube.stream_lines(PODS.path(name, "server", "log"), {"follow": "true"})
            assert await anext(lines) == b"ready"
            await lines.aclose()

    made = users_namespace()
    with asyncio.Runner() as runner:
        name = runner.run(made.__aenter__())
        runner.run(fill(name))
        yield name
        runner.run(made.__aexit__(None, None, None))


@pytest.fixture
async def kube():
    async with account_client() as made:
        yield made


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request, namespace):
    """Run a scenario on both event loops, with a client and the namespace."""

    def runs(scenario):
        async def within():
            async with account_client() as kube, asyncio.timeout(200):
                await scenario(kube, namespace)

        request.param(within())

    return runs


async def test_another_object_of_the_same_name_is_never_touched(kube, namespace):
    found = await kube.get(PODS, "shell", namespace)
    named = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell", "namespace": namespace}}

    with pytest.raises(ConflictError):
        await kube.merge_patch(PODS, "shell", namespace, {"metadata": {"uid": "another", "labels": {"a": "b"}}})
    with pytest.raises(ConflictError):
        await kube.apply({**named, "metadata": {**named["metadata"], "uid": "another", "labels": {"a": "b"}}})
    with pytest.raises(ConflictError):
        await kube.delete(PODS, "shell", namespace, uid="another")

    same = {"metadata": {"uid": found["metadata"]["uid"], "labels": {"a": "b"}}}
    assert (await kube.merge_patch(PODS, "shell", namespace, same))["metadata"]["labels"] == {"a": "b"}


async def test_an_object_is_applied_repeated_changed_and_put_back(kube, namespace):
    def wanted(**annotations):
        return service(namespace, "c", annotations)

    first = await kube.apply(wanted(a="1", b="2"))
    again = await kube.apply(wanted(a="1", b="2"))
    await kube.merge_patch(SERVICES, "c", namespace, {"metadata": {"annotations": {"a": "by hand", "foreign": "x"}}})
    back = await kube.apply(wanted(a="1"))

    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert back["metadata"]["annotations"] == {"a": "1", "foreign": "x"}
    assert await kube.delete(SERVICES, "c", namespace, uid=back["metadata"]["uid"]) is True
    assert await kube.delete(SERVICES, "c", namespace) is False


async def test_what_is_not_there_is_told_apart(kube, namespace):
    assert await kube.get(PODS, "none", namespace) is None
    assert await kube.list(PODS, "no-such-namespace") == []
    async with admin_client() as admin:  # to others the cluster says that they may not
        with pytest.raises(NoSuchKindError):
            await admin.get(UNKNOWN, "x", namespace)
        with pytest.raises(NotFoundError, match='namespaces "no-such-namespace" not found'):
            await admin.create(pod("no-such-namespace", "p", ["true"]))
    with pytest.raises(ForbiddenError):
        await kube.get(UNKNOWN, "x", namespace)
    with pytest.raises(NotFoundError):
        await kube.merge_patch(PODS, "none", namespace, {"metadata": {}})
    with pytest.raises(NotFoundError):
        await kube.request_text(PODS.path(namespace, "none", "log"))
    with pytest.raises(NotFoundError):
        await kube.exec_socket(namespace, "none", "main", ["true"], tty=False, stdin=False)
    with pytest.raises(InvalidError, match="container none is not valid"):
        await kube.exec_socket(namespace, "shell", "none", ["true"], tty=False, stdin=False)
    with pytest.raises(NotFoundError):
        await kube.port_forward(namespace, "none", 80)


async def test_a_review_is_asked_for(kube):
    review = {
        "apiVersion": SELF_SUBJECT_ACCESS_REVIEWS.api_version,
        "kind": SELF_SUBJECT_ACCESS_REVIEWS.kind,
        "metadata": {},
        "spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}},
    }

    assert (await kube.create(review))["status"]["allowed"] is True


async def test_a_list_whose_pages_the_server_forgot_is_read_all_the_same(kube, namespace, monkeypatch):
    async with admin_client() as admin:  # our account only reads them
        for number in range(15):
            await admin.create(event(namespace, f"c{number}"))
    monkeypatch.setattr("neuropod.kube.client._PAGE", 10)
    send, errors, sent = kube._send, [], []

    async def from_long_ago(method, path, **options):
        """The same request, but its page is one of the first revision, which etcd has compacted away."""
        params = options["params"]
        if token := params.get("continue"):
            at = {**json.loads(base64.urlsafe_b64decode(token + "==")), "rv": 1}
            params["continue"] = base64.urlsafe_b64encode(json.dumps(at).encode()).decode().rstrip("=")
        sent.append(params)
        try:
            return await send(method, path, **options)
        except GoneError as error:
            errors.append(error)
            raise

    monkeypatch.setattr(kube, "_send", from_long_ago)
    if os.environ.get("NEUROPOD_CLUSTER_SOCKET"):  # our own cluster is too young: API servers compact every 5 minutes
        await asyncio.to_thread(compact)

    found = await kube.list(EVENTS, namespace)

    assert {f"c{number}" for number in range(15)} <= {obj["metadata"]["name"] for obj in found}
    assert [error.status for error in errors] == [410]
    assert "limit" not in sent[-1]


async def test_a_command_has_its_channels_and_its_exit_code(kube, namespace):
    async def runs(*command):
        execution = await kube.exec_socket(namespace, "shell", "main", command, tty=False, stdin=False)
        output = {Channel.STDOUT: b"", Channel.STDERR: b""}
        while (chunk := await execution.read()) is not None:
            output[chunk[0]] += chunk[1]
        return output[Channel.STDOUT], output[Channel.STDERR], await execution.wait()

    assert await runs("sh", "-c", "echo out; echo err >&2; exit 3") == (b"out\n", b"err\n", 3)
    assert await runs("true") == (b"", b"", 0)
    assert await runs("sh", "-c", "kill -9 $$") == (b"", b"", 137)
    with pytest.raises(KubeError, match="executable file not found"):
        await runs("no-such-command")


async def test_the_end_of_input_reaches_the_command(kube, namespace):
    execution = await kube.exec_socket(namespace, "shell", "main", ["cat"], tty=False, stdin=True)
    await execution.write(b"hello")
    await execution.end_input()

    assert await execution.read() == (Channel.STDOUT, b"hello")
    assert await execution.read() is None
    assert await execution.wait() == 0


async def test_a_terminal_has_the_size_that_it_is_given(kube, namespace):
    # Until a terminal is given a size, it has none to tell.
    script = "until [ \"$(stty size 2>/dev/null)\" = '33 101' ]; do sleep 0.05; done; stty size"
    execution = await kube.exec_socket(namespace, "shell", "main", ["sh", "-c", script], tty=True, stdin=True)
    execution.resize(33, 101)

    said = b""
    while (chunk := await execution.read()) is not None:
        said += chunk[1]
    assert said == b"33 101\r\n"  # a terminal gives the end of a line apart
    assert await execution.wait() == 0


def test_much_output_and_input_pass_slow_ends_without_loss(run):
    async def scenario(kube, namespace):
        count = 20_000_000
        command = ["head", "-c", str(count), "/dev/zero"]
        for _ in range(3):
            execution = await kube.exec_socket(namespace, "shell", "main", command, tty=False, stdin=False)
            got = 0
            while (chunk := await execution.read()) is not None:
                got += len(chunk[1])
                await asyncio.sleep(0)
            assert (got, await execution.wait()) == (count, 0)
        script = "sleep 1; wc -c"
        execution = await kube.exec_socket(namespace, "shell", "main", ["sh", "-c", script], tty=False, stdin=True)
        await execution.write(b"z" * count)
        await execution.end_input()
        assert await execution.read() == (Channel.STDOUT, f"{count}\n".encode())

    run(scenario)


async def test_a_log_is_followed_to_its_end(kube, namespace):
    script = 'i=0; while [ $i -lt 20 ]; do echo "line $i"; i=$((i+1)); sleep 0.05; done; printf last'
    await start(kube, pod(namespace, "talks", ["sh", "-c", script]))

    lines = [line async for line in kube.stream_lines(PODS.path(namespace, "talks", "log"), {"follow": "true"})]

    assert lines == [b"line %d" % number for number in range(20)] + [b"last"]


class Recorder(asyncio.Protocol):
    """What a forwarded port sent, and its end."""

    def __init__(self):
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def connection_lost(self, error):
        self.lost.set_result(error)


async def forwarded(kube, namespace, port, first=b""):
    stream = await kube.port_forward(namespace, "server", port)
    recorder = Recorder()
    await stream.attach(recorder)
    recorder.transport.write(first)
    return recorder


BLOCKS = 300


def is_whole(data):
    return data == b"".join(bytes([number % 256]) * 65536 for number in range(BLOCKS))


def test_much_data_comes_whole_and_ends_orderly(run):
    async def scenario(kube, namespace):
        recorder = await forwarded(kube, namespace, 7002, b"%d\n" % BLOCKS)
        assert await recorder.lost is None
        assert is_whole(recorder.data)

    run(scenario)


def test_a_slow_reader_gets_all_of_it(run):
    async def scenario(kube, namespace):
        recorder = await forwarded(kube, namespace, 7002, b"%d\n" % BLOCKS)
        recorder.transport.pause_reading()
        had = len(recorder.data)
        other = await forwarded(kube, namespace, 7001, b"meanwhile" * 100_000)
        while len(other.data) < 900_000:
            await asyncio.sleep(0.01)
        other.transport.abort()
        assert len(recorder.data) == had < BLOCKS * 65536
        recorder.transport.resume_reading()
        for _ in range(50):
            recorder.transport.pause_reading()
            await asyncio.sleep(0.005)
            recorder.transport.resume_reading()
            await asyncio.sleep(0.001)
        assert await recorder.lost is None
        assert is_whole(recorder.data)

    run(scenario)


def test_what_was_written_arrives_at_a_slow_reader_after_it_was_closed(run):
    async def scenario(kube, namespace):
        recorder = await forwarded(kube, namespace, 7003)
        for _ in range(BLOCKS):
            recorder.transport.write(b"u" * 65536)
            await recorder.writable.wait()
        recorder.transport.close()
        assert await recorder.lost is None

        report = await forwarded(kube, namespace, 7004, b"1\n")
        assert await report.lost is None
        assert set(ast.literal_eval(report.data.decode())) == {BLOCKS * 65536}

    run(scenario)


def test_many_streams_at_once_do_not_mix(run):
    async def scenario(kube, namespace):
        recorders = await asyncio.gather(
            *(forwarded(kube, namespace, 7001, b"%03d" % number * 1000) for number in range(30))
        )
        while any(len(recorder.data) < 3000 for recorder in recorders):
            await asyncio.sleep(0.01)
        for number, recorder in enumerate(recorders):
            assert recorder.data == b"%03d" % number * 1000
            recorder.transport.abort()
            assert await recorder.lost is None

    run(scenario)


def test_a_port_where_nothing_listens_is_a_refused_connection(run):
    async def scenario(kube, namespace):
        recorder = await forwarded(kube, namespace, 9999)
        assert isinstance(await recorder.lost, ConnectionRefusedError)

    run(scenario)
