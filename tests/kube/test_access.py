"""Who we are to a cluster, by kubeconfig, ServiceAccount and plugin; renewed when it ends, never told to others."""

import asyncio
import base64
import json
import os
import ssl
import sys
from datetime import timedelta

import pytest
import yaml

from neuropod.kit.clock import SystemClock
from neuropod.kube.access import Access, in_cluster
from neuropod.kube.client import KubeClient
from neuropod.kube.credentials import Plugin, PluginCredentials, read_credential
from neuropod.kube.errors import AccessError, ForbiddenError, KubeUnavailableError
from neuropod.kube.kubeconfig import from_kubeconfig
from support.clocks import ManualClock
from support.kube import make_pair, status


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def write(api, tmp_path):
    """Write a kubeconfig with one user, and return its path."""

    def writes(user, cluster=None, **context):
        path = tmp_path / "kubeconfig"
        config = {
            "kind": "Config",
            "apiVersion": "v1",
            "current-context": "here",
            "clusters": [
                {
                    "name": "c",
                    "cluster": cluster
                    or {
                        "server": f"https://127.0.0.1:{api.port}/",
                        "certificate-authority-data": b64(api.authority.certificate),
                    },
                }
            ],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    return writes


async def ask(path, context=None):
    async with KubeClient(from_kubeconfig(path, context), SystemClock(), timeout_seconds=5) as client:
        return await client.version()


async def test_a_token_of_the_kubeconfig_is_shown(api, write):
    path = write({"token": "token-of-the-kubeconfig"}, namespace="ours")

    await ask(path)

    assert api.requests[0].headers["authorization"] == "Bearer token-of-the-kubeconfig"
    access = from_kubeconfig(path)
    assert (access.namespace, access.name, access.server) == ("ours", "here", f"https://127.0.0.1:{api.port}")
    assert "token-of-the-kubeconfig" not in repr(access)


async def test_a_token_in_a_file_is_read_again_when_it_rotates(api, write, tmp_path):
    (tmp_path / "token").write_text("first\n")
    clock = ManualClock()
    async with KubeClient(from_kubeconfig(write({"tokenFile": "token"})), clock) as client:
        await client.version()
        (tmp_path / "token").write_text("second\n")
        await client.version()
        await clock.advance(61)
        await client.version()

    assert [request.headers["authorization"] for request in api.requests] == [
        "Bearer first",
        "Bearer first",
        "Bearer second",
    ]


async def test_a_token_that_is_refused_is_read_again_at_once(api, write, tmp_path):
    (tmp_path / "token").write_text("old")
    async with KubeClient(from_kubeconfig(write({"tokenFile": "token"})), SystemClock()) as client:
        await client.version()
        (tmp_path / "token").write_text("new")
        api.faults.append(
            lambda request: status(401, "Unauthorized") if request.headers["authorization"] == "Bearer old" else None
        )

        await client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})

        api.faults.append(lambda request: status(401, "Unauthorized", "Unauthorized"))
        with pytest.raises(ForbiddenError):
            await client.version()

    assert "/api/v1/namespaces/n" in api.objects


async def test_a_token_file_that_vanished_is_an_outage_not_a_crash(api, write, tmp_path):
    (tmp_path / "token").write_text("t")
    access = from_kubeconfig(write({"tokenFile": "token"}))
    (tmp_path / "token").unlink()
    async with KubeClient(access, SystemClock()) as client:
        with pytest.raises(KubeUnavailableError, match="token cannot be read"):
            await client.version()
        with pytest.raises(KubeUnavailableError, match="token cannot be read"):
            await client.port_forward("here", "one", 80)
        with pytest.raises(KubeUnavailableError, match="token cannot be read"):
            await client.open_lines("/x")


@pytest.fixture
def seen_certificates(api, monkeypatch):
    """The subjects of the client certificates that the server saw, a connection each."""
    seen = []
    serve = api._serve

    async def serves(reader, writer, number):
        certificate = writer.get_extra_info("peercert") or {}
        seen.append(dict(pair[0] for pair in certificate.get("subject", ())).get("commonName"))
        await serve(reader, writer, number)

    monkeypatch.setattr(api, "_serve", serves)
    return seen


@pytest.mark.parametrize("where", ["inline", "files"])
async def test_a_client_certificate_is_shown(api, write, tmp_path, seen_certificates, where):
    pair = make_pair("somebody", api.authority)
    (tmp_path / "client.crt").write_bytes(pair.certificate)
    (tmp_path / "client.key").write_bytes(pair.key)
    (tmp_path / "ca.crt").write_bytes(api.authority.certificate)
    cluster = {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": "ca.crt"}
    inline = {"client-certificate-data": b64(pair.certificate), "client-key-data": b64(pair.key)}
    files = {"client-certificate": "client.crt", "client-key": str(tmp_path / "client.key")}

    path = write(inline if where == "inline" else files, cluster)
    await ask(path)

    assert seen_certificates == ["somebody"]
    assert "PRIVATE" not in repr(from_kubeconfig(path).credentials)


async def test_a_certificate_that_was_renewed_is_shown_on_new_connections(api, write, tmp_path, seen_certificates):
    def renew(name):
        pair = make_pair(name, api.authority)
        (tmp_path / "client.crt").write_bytes(pair.certificate)
        (tmp_path / "client.key").write_bytes(pair.key)

    renew("before")
    clock = ManualClock()
    path = write({"client-certificate": "client.crt", "client-key": "client.key"})
    async with KubeClient(from_kubeconfig(path), clock) as client:
        await client.version()
        renew("after")
        await clock.advance(61)
        await client.version()
        await client.version()

    assert seen_certificates == ["before", "after"]


async def test_the_certificate_is_checked_for_the_name_that_is_said_and_not_at_all_where_it_says_so(api, write):
    named = {
        "server": f"https://127.0.0.1:{api.port}",
        "certificate-authority-data": b64(api.authority.certificate),
    }
    await ask(write({}, {**named, "tls-server-name": "localhost"}))
    with pytest.raises(KubeUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await ask(write({}, {**named, "tls-server-name": "elsewhere"}))
    with pytest.raises(KubeUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await ask(write({}, {"server": named["server"]}))
    await ask(write({}, {"server": named["server"], "insecure-skip-tls-verify": True}))


PLUGIN = """
import json, os, sys, time
count = len(open(sys.argv[1]).read()) if os.path.exists(sys.argv[1]) else 0
open(sys.argv[1], "a").write("x")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert info["kind"] == "ExecCredential" and os.environ["EXTRA"] == "1"
json.dump({"info": info}, open(sys.argv[1] + ".info", "w"))
if os.environ.get("FAILS"):
    sys.exit("not signed in")
status = {"token": f"token-{count}"}
if os.environ.get("ENDS"):
    status["expirationTimestamp"] = os.environ["ENDS"]
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


@pytest.fixture
def plugin(tmp_path):
    """The `exec` part of a user, for a plugin that counts its calls."""
    (tmp_path / "plugin.py").write_text(PLUGIN)

    def makes(**env):
        return {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": sys.executable,
                "args": [str(tmp_path / "plugin.py"), str(tmp_path / "calls")],
                "env": [{"name": name, "value": value} for name, value in {"EXTRA": "1", **env}.items()],
                "interactiveMode": "IfAvailable",
                "provideClusterInfo": True,
            }
        }

    return makes


async def test_a_plugin_is_asked_once_and_again_before_its_token_ends_and_when_it_is_refused(
    api, write, plugin, tmp_path
):
    clock = ManualClock()
    ends = (clock.now() + timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    async with KubeClient(from_kubeconfig(write(plugin(ENDS=ends))), clock) as client:
        await asyncio.gather(*(client.version() for _ in range(5)))
        await clock.advance(9 * 60)
        await client.version()
        assert {request.headers["authorization"] for request in api.requests} == {"Bearer token-0"}

        await clock.advance(40)
        await client.version()
        assert api.requests[-1].headers["authorization"] == "Bearer token-1"

        api.fail_once(status(401, "Unauthorized"))
        await client.version()
        assert api.requests[-1].headers["authorization"] == "Bearer token-2"

    told = json.loads((tmp_path / "calls.info").read_text())["info"]["spec"]
    assert told["interactive"] is False
    assert told["cluster"]["server"].startswith(f"https://127.0.0.1:{api.port}")
    assert base64.b64decode(told["cluster"]["certificate-authority-data"]) == api.authority.certificate


async def test_a_plugin_that_fails_is_told_with_its_complaint(api, write, plugin):
    with pytest.raises(KubeUnavailableError, match=r"ended with 1: not signed in"):
        await ask(write(plugin(FAILS="1")))


async def test_a_plugin_that_is_not_there_is_told_with_its_hint(api, write, plugin):
    user = plugin()
    user["exec"] |= {"command": "no-such-plugin", "installHint": "install it from there"}

    with pytest.raises(KubeUnavailableError, match=r"no-such-plugin cannot be run: .*; install it from there"):
        await ask(write(user))


async def test_a_plugin_that_hangs_is_ended_with_the_request(api, tmp_path):
    hangs = f"echo $$ > '{tmp_path / 'pid'}'; exec sleep 600"  # of a shell, which begins soon on a busy machine too
    access = api.access(credentials=PluginCredentials(Plugin("/bin/sh", ("-c", hangs))))
    async with KubeClient(access, SystemClock(), timeout_seconds=3) as client:
        with pytest.raises(KubeUnavailableError, match="no answer"):
            await client.version()

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_a_plugin_said_wrongly_is_not_quoted():
    for output in (b'{"status": {"token": 5, "expirationTimestamp": "hunter2"}}', b"hunter2", b'{"status": {}}', b"[]"):
        with pytest.raises(AccessError) as caught:
            read_credential(output, "plugin")
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_plugin_may_hand_out_a_certificate(api):
    pair = make_pair("somebody", api.authority)
    answer = {"clientCertificateData": pair.certificate.decode(), "clientKeyData": pair.key.decode()}

    identity, until = read_credential(json.dumps({"status": answer}).encode(), "plugin")

    assert until is None
    assert identity.certificate is not None
    assert isinstance(api.access().ssl_context(identity.certificate), ssl.SSLContext)
    assert "PRIVATE" not in repr(identity)


def test_a_kubeconfig_that_cannot_be_used_says_why(write, tmp_path, plugin):
    def refused(path, context=None):
        with pytest.raises(AccessError) as caught:
            from_kubeconfig(path, context)
        return str(caught.value)

    assert "cannot be read" in refused(tmp_path / "none")
    assert "has no context 'other'" in refused(write({}), "other")
    assert "no server" in refused(write({}, {"server": "ftp://x"}))
    assert "proxy-url" in refused(write({}, {"server": "https://x", "proxy-url": "http://p"}))
    assert "impersonation" in refused(write({"as": "root", "token": "hunter2"}))
    assert "passwords" in refused(write({"username": "a", "password": "hunter2"}))
    assert "auth-provider" in refused(write({"auth-provider": {"name": "gcp"}}))
    assert "needs its key" in refused(write({"client-certificate-data": b64(b"x")}))
    assert "not base64" in refused(write({"client-key-data": "hunter2!", "client-certificate-data": "eA=="}))
    assert "cannot be read" in refused(write({}, {"server": "https://x", "certificate-authority": "none.crt"}))
    user = plugin()
    user["exec"]["interactiveMode"] = "Always"
    assert "wants a terminal" in refused(write(user))
    user = plugin()
    user["exec"]["apiVersion"] = "client.authentication.k8s.io/v1alpha1"
    assert "not known" in refused(write(user))
    broken = tmp_path / "broken"
    broken.write_text("users: [{token: hunter2\n\t}")
    assert "no YAML at line" in refused(broken)
    assert "hunter2" not in refused(broken)
    broken.write_text("kind: Pod")
    assert "no kubeconfig" in refused(broken)


def test_an_authority_that_is_none_is_told():
    with pytest.raises(AccessError, match="certificate authority"):
        Access("https://x", ca_data=b"no certificate").ssl_context()


async def test_a_pod_of_the_cluster_is_its_service_account(api, tmp_path, monkeypatch):
    assert in_cluster(tmp_path) is None
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    assert in_cluster(tmp_path) is None
    (tmp_path / "token").write_text("account")
    with pytest.raises(AccessError):
        in_cluster(tmp_path)
    (tmp_path / "ca.crt").write_bytes(api.authority.certificate)
    (tmp_path / "namespace").write_text("neuropod-system\n")

    access = in_cluster(tmp_path)

    assert access is not None
    assert access.namespace == "neuropod-system"
    async with KubeClient(access, SystemClock()) as client:
        await client.version()
    assert api.requests[0].headers["authorization"] == "Bearer account"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert in_cluster(tmp_path).server == f"https://[fd00::1]:{api.port}"
