"""The gateway over https, and one of its own in front of an https server."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from neuropod.gateway.app import _dial, _own_certificate
from neuropod.settings import Settings
from support.gateway import Recorder, answering, parse, serving


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return certificate and key of a server whose name is none of ours."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "*.pods.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.pods.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {
        "tls_cert_file": folder / "cert.pem",
        "tls_key_file": folder / "key.pem",
        "domain": "example",
        "pods_domain": "pods.example",
    }


def _trusting(certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate["tls_cert_file"]))


async def test_requests_sockets_and_long_bodies_pass_over_https(certificate):
    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    body = bytes(range(256)) * (1 << 14)
    async with serving(**certificate) as served:
        pod = Recorder()
        route, large = await served.pod(pod), await served.pod(answering(body), "large")
        sockets = await serve(echo, "127.0.0.1", 0, max_size=None)
        chat = served.route_to(sockets.sockets[0].getsockname(), "chat")
        key = served.key()

        for wanted in (route, large):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=_trusting(certificate), server_hostname=wanted.host
            )
            writer.write(served.head(wanted, "GET / HTTP/1.1", "Connection: close"))
            answer = parse(await reader.read())
            writer.close()
            await writer.wait_closed()
            assert answer.status == 200
            assert answer.content == (b"ok" if wanted is route else body)
        assert pod.sent("x-forwarded-proto") == ["https"]

        async with (
            sockets,
            connect(
                f"wss://{chat.host}:{served.port}/", host="127.0.0.1", port=served.port, ssl=_trusting(certificate),
                additional_headers={"X-Neuropod-Key": key}, proxy=None, max_size=None,
            ) as socket,
        ):  # fmt: skip
            await socket.send(body)
            assert await socket.recv() == body


async def test_a_gateway_of_its_own_recognises_its_server_by_the_very_certificate(certificate, tmp_path):
    async with serving(**certificate) as served:
        address = ("127.0.0.1", served.port)

        class Reader(asyncio.Protocol):
            def __init__(self):
                self.got = asyncio.get_running_loop().create_future()

            def data_received(self, data):
                if not self.got.done():
                    self.got.set_result(data)

        reader = Reader()
        connection = await _dial(address, _own_certificate(Settings(**certificate)), 0)
        transport = await connection.attach(reader)
        transport.write(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
        assert (await asyncio.wait_for(reader.got, 5)).startswith(b"HTTP/1.1 200")
        transport.abort()

        with pytest.raises(ssl.SSLCertVerificationError):
            await (await _dial(address, ssl.create_default_context(), 0)).attach(Reader())
