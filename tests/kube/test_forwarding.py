"""Forwarded ports: a transport like any other, on both event loops that servers run on."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager

import pytest
import uvloop

from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ForbiddenError, NotFoundError
from support.kube import fake_api, status, until_held_back

PATH = "/api/v1/namespaces/here/pods/one/portforward"
PORT = (8888).to_bytes(2, "little")


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request, tmp_path):
    """Run a scenario on an event loop, with a server and a client."""

    def runs(scenario):
        async def within():
            async with fake_api(tmp_path) as api, KubeClient(api.access(), SystemClock()) as client:
                async with asyncio.timeout(60):
                    await scenario(api, client)

        request.param(within())

    return runs


class Recorder(asyncio.Protocol):
    """Records all that happens to it, in order."""

    def __init__(self):
        self.events = []
        self.data = bytearray()
        self.transport = None
        self.changed = asyncio.Event()
        self.on_data = lambda: None

    def connection_made(self, transport):
        self.transport = transport
        self._note("made")

    def data_received(self, data):
        assert self.events[0] == "made"
        assert "lost" not in self.events
        self.data += data
        self.changed.set()
        self.on_data()

    def eof_received(self):
        self._note("eof")

    def pause_writing(self):
        self._note("pause")

    def resume_writing(self):
        self._note("resume")

    def connection_lost(self, error):
        self.error = error
        self._note("lost")

    def _note(self, event):
        self.events.append(event)
        self.changed.set()

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def until_lost(self):
        await self.until(lambda: "lost" in self.events)


async def greet(channel):
    """As the kubelet does."""
    await channel.send(b"\x00" + PORT)
    await channel.send(b"\x01" + PORT)


@asynccontextmanager
async def attached(api, client, serve, protocol=None):
    api.sockets[PATH] = serve
    stream = await client.port_forward("here", "one", 8888)
    recorder = protocol or Recorder()
    transport = await stream.attach(recorder)
    assert recorder.transport is transport
    try:
        yield recorder, transport
    finally:
        transport.abort()
        await recorder.until_lost()
        assert recorder.events.count("lost") == 1


async def echo(channel):
    await greet(channel)
    async for message in channel.messages():
        await channel.send(message)


def test_bytes_pass_both_ways_and_nothing_else_does(run):
    async def scenario(api, client):
        async with attached(api, client, echo) as (recorder, transport):
            transport.write(b"hello")
            transport.writelines([b" ", bytearray(b"world"), memoryview(b"!")])
            transport.write(b"")
            await recorder.until(lambda: len(recorder.data) == 12)
            assert recorder.data == b"hello world!"
        assert recorder.error is None
        assert api.requests[0].query == {"ports": ["8888"]}
        assert api.requests[0].headers["sec-websocket-protocol"] == "v4.channel.k8s.io"

    run(scenario)


def test_much_data_passes_unharmed(run):
    body = bytes(range(256)) * 4096 * 16  # 16 MiB

    async def scenario(api, client):
        async with attached(api, client, echo) as (recorder, transport):
            transport.write(body)
            await recorder.until(lambda: len(recorder.data) == len(body))
            assert recorder.data == body

    run(scenario)


def test_what_came_before_it_was_attached_is_not_lost(run):
    async def scenario(api, client):
        async def banner(channel):
            await greet(channel)
            await channel.send(b"\x00SSH-2.0")
            await channel.close()

        api.sockets[PATH] = banner
        stream = await client.port_forward("here", "one", 8888)
        await asyncio.sleep(0.2)  # it may well be over by now
        recorder = Recorder()
        await stream.attach(recorder)
        await recorder.until_lost()

        assert recorder.data == b"SSH-2.0"
        assert recorder.events == ["made", "eof", "lost"]
        assert recorder.error is None

    run(scenario)


def test_the_other_end_ends_it_once_with_the_end_of_its_data_first(run):
    async def scenario(api, client):
        async def answers(channel):
            await greet(channel)
            await channel.send(b"\x00bye")
            await channel.close()

        async with attached(api, client, answers) as (recorder, transport):
            await recorder.until_lost()
            transport.write(b"too late")
            transport.close()
            assert transport.is_closing()
        assert recorder.data == b"bye"
        assert recorder.events == ["made", "eof", "lost"]
        assert recorder.error is None

    run(scenario)


def test_a_port_where_nothing_listens_is_a_refused_connection(run):
    async def scenario(api, client):
        async def refuses(channel):
            await greet(channel)
            await channel.send(b"\x01error forwarding port 8888: connection refused")
            await channel.close()

        async with attached(api, client, refuses) as (recorder, _):
            await recorder.until_lost()
        assert recorder.data == b""
        assert isinstance(recorder.error, ConnectionRefusedError)
        assert "connection refused" in str(recorder.error)

    run(scenario)


def test_a_complaint_after_data_and_a_cut_are_resets(run):
    async def scenario(api, client):
        async def complains(channel):
            await greet(channel)
            await channel.send(b"\x00some")
            await channel.send(b"\x01broken pipe")
            await channel.close()

        async def cuts(channel):
            await greet(channel)
            channel.writer.transport.abort()

        for serve in (complains, cuts):
            async with attached(api, client, serve) as (recorder, _):
                await recorder.until_lost()
            assert type(recorder.error) is ConnectionResetError

    run(scenario)


def test_a_reader_that_pauses_holds_the_other_end_back(run):
    async def scenario(api, client):
        sent, to = 0, None

        async def pours(channel):
            nonlocal sent, to
            await greet(channel)
            to = channel
            for number in range(2000):
                await channel.send(b"\x00" + bytes([number % 256]) * 32_000)
                sent += 1
            await channel.close()

        async with attached(api, client, pours) as (recorder, transport):
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            had = len(recorder.data)
            await until_held_back(lambda: sent, lambda: to)
            stood = sent
            assert len(recorder.data) == had
            transport.resume_reading()
            transport.resume_reading()
            await recorder.until_lost()
        assert stood < 1000
        assert recorder.data == b"".join(bytes([number % 256]) * 32_000 for number in range(2000))
        assert recorder.error is None

    run(scenario)


def test_what_came_while_it_was_paused_is_there_after_the_other_end_has_closed(run):
    async def scenario(api, client):
        over = asyncio.Event()

        async def pours(channel):
            await greet(channel)
            await channel.send(b"\x00first")
            await channel.messages().__anext__()  # paused by now
            for number in range(5):
                await channel.send(b"\x00" + bytes([number]) * 30_000)
            await channel.close()
            # As Go's TLS does, without waiting for the client's farewell.
            with socket.socket(fileno=os.dup(channel.writer.get_extra_info("socket").fileno())) as below:
                below.shutdown(socket.SHUT_WR)
            over.set()

        async with attached(api, client, pours) as (recorder, transport):
            await recorder.until(lambda: recorder.data == b"first")
            transport.pause_reading()
            transport.write(b"go on")
            await over.wait()
            await asyncio.sleep(0.3)  # for the end to come too; uvloop's TLS then threw the data away
            transport.resume_reading()
            await recorder.until_lost()
        assert recorder.data == b"first" + b"".join(bytes([number]) * 30_000 for number in range(5))
        assert recorder.error is None

    run(scenario)


def test_a_reader_may_pause_at_every_piece_and_gets_the_end_last(run):
    async def scenario(api, client):
        async def pours(channel):
            await greet(channel)
            for number in range(300):
                await channel.send(b"\x00" + bytes([number % 256]) * 1000)
            await channel.close()

        recorder = Recorder()

        def pause():
            recorder.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, recorder.transport.resume_reading)

        recorder.on_data = pause
        async with attached(api, client, pours, recorder):
            await recorder.until_lost()
        assert recorder.data == b"".join(bytes([number % 256]) * 1000 for number in range(300))
        assert recorder.events == ["made", "eof", "lost"]

    run(scenario)


def test_a_writer_is_told_to_wait_and_to_go_on(run):
    async def scenario(api, client):
        reads = asyncio.Event()
        got = bytearray()

        async def slow(channel):
            await greet(channel)
            await reads.wait()
            async for message in channel.messages():
                got.extend(message[1:])

        async with attached(api, client, slow) as (recorder, transport):
            transport.set_write_buffer_limits(high=100_000)
            wrote = 0
            while "pause" not in recorder.events:
                transport.write(b"x" * 50_000)
                wrote += 50_000
                await asyncio.sleep(0)
                assert wrote < 500_000_000
            assert transport.get_write_buffer_size() > 100_000
            reads.set()
            await recorder.until(lambda: "resume" in recorder.events)
            transport.close()
            await recorder.until_lost()
            while len(got) < wrote:
                await asyncio.sleep(0.01)
        assert len(got) == wrote
        assert recorder.error is None

    run(scenario)


def test_closing_sends_what_was_written_and_takes_nothing_any_more(run):
    async def scenario(api, client):
        got = bytearray()
        over = asyncio.Event()

        async def takes(channel):
            await greet(channel)
            async for message in channel.messages():
                got.extend(message[1:])
            over.set()

        async with attached(api, client, takes) as (recorder, transport):
            transport.write(b"y" * 3_000_000)
            transport.close()
            transport.close()
            transport.write(b"never sent")
            await over.wait()
            await recorder.until_lost()
        assert got == b"y" * 3_000_000
        assert recorder.events[-1] == "lost"
        assert "eof" not in recorder.events
        assert recorder.error is None

    run(scenario)


def test_aborting_ends_it_at_once_also_while_paused(run):
    async def scenario(api, client):
        async with attached(api, client, echo) as (recorder, transport):
            transport.pause_reading()
            transport.abort()
            await recorder.until_lost()
        assert recorder.error is None

    run(scenario)


def test_its_protocol_may_be_changed_and_its_socket_is_nobodys(run):
    async def scenario(api, client):
        async with attached(api, client, echo) as (recorder, transport):
            second = Recorder()
            second.connection_made(transport)
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            transport.write(b"for the second")
            await second.until(lambda: len(second.data) == 14)
            assert recorder.data == b""
            assert transport.get_extra_info("socket") is None
            assert not transport.can_write_eof()
            transport.set_protocol(recorder)

    run(scenario)


def test_one_that_is_never_attached_can_be_let_go(run):
    async def scenario(api, client):
        over = asyncio.Event()

        async def waits(channel):
            await greet(channel)
            async for _ in channel.messages():
                pass
            over.set()

        api.sockets[PATH] = waits
        stream = await client.port_forward("here", "one", 8888)
        stream.close()
        stream.close()
        await over.wait()

    run(scenario)


def test_what_the_server_refuses_is_said_at_once(run):
    async def scenario(api, client):
        with pytest.raises(NotFoundError):
            await client.port_forward("here", "one", 8888)
        api.faults.append(lambda request: status(403, "Forbidden", "pods/portforward is forbidden"))
        with pytest.raises(ForbiddenError):
            await client.port_forward("here", "one", 8888)
        with pytest.raises(ValueError):
            await client.port_forward("here", "one", 70000)

    run(scenario)
