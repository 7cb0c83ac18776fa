"""Commands in containers over the channels of a WebSocket."""

import asyncio
import json

import pytest

from neuropod.kube.channels import Channel
from neuropod.kube.errors import ForbiddenError, KubeError, KubeUnavailableError, NotFoundError
from support.kube import status, until_held_back

EXEC = "/api/v1/namespaces/here/pods/one/exec"


def ended(code=0):
    if code == 0:
        return b"\x03" + json.dumps({"metadata": {}, "status": "Success"}).encode()
    cause = {"reason": "ExitCode", "message": str(code)}
    return (
        b"\x03"
        + json.dumps({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}).encode()
    )


async def start(client, *command, tty=False, stdin=True):
    return await client.exec_socket("here", "one", "main", command or ("sh",), tty=tty, stdin=stdin)


async def test_output_comes_by_its_channel_and_the_exit_code_at_the_end(api, client):
    async def command(channel):
        await channel.send(b"\x01")
        await channel.send(b"\x01out")
        await channel.send(b"\x02err")
        await channel.send(ended(7))
        await channel.close()

    api.sockets[EXEC] = command
    execution = await start(client, "sh", "-c", "exit 7", stdin=False)

    assert await execution.read() == (Channel.STDOUT, b"out")
    assert await execution.read() == (Channel.STDERR, b"err")
    assert await execution.read() is None
    assert await execution.wait() == 7
    assert api.requests[0].query == {
        "container": ["main"],
        "stdin": ["false"],
        "stdout": ["true"],
        "stderr": ["true"],
        "tty": ["false"],
        "command": ["sh", "-c", "exit 7"],
    }
    assert api.requests[0].headers["sec-websocket-protocol"] == "v5.channel.k8s.io"


async def test_input_its_end_and_the_size_of_a_terminal_go_by_their_channels(api, client):
    got = []

    async def command(channel):
        async for message in channel.messages():
            got.append(message)
            if message[0] == 255:
                break
        await channel.send(ended())
        await channel.close()

    api.sockets[EXEC] = command
    execution = await start(client, tty=True)
    execution.resize(24, 80)
    await execution.write(b"a" * 40_000)
    await execution.end_input()
    await execution.end_input()

    assert await execution.wait() == 0
    assert got[0] == b'\x04{"Width": 80, "Height": 24}'
    assert [message[0] for message in got[1:]] == [0, 0, 255]
    assert b"".join(message[1:] for message in got[1:3]) == b"a" * 40_000
    assert got[3] == b"\xff\x00"
    assert api.requests[0].param("stderr") == "false"
    with pytest.raises(BrokenPipeError):
        await execution.write(b"more")


async def test_a_command_that_cannot_start_says_why(api, client):
    async def command(channel):
        await channel.send(
            b"\x03" + json.dumps(status(500, "InternalError", 'exec: "x": executable file not found').body).encode()
        )
        await channel.close()

    api.sockets[EXEC] = command
    execution = await start(client, "x")

    assert await execution.read() is None
    with pytest.raises(KubeError, match="executable file not found"):
        await execution.wait()


async def test_a_connection_that_is_cut_is_no_end(api, client):
    async def command(channel):
        await channel.send(b"\x01out")
        channel.writer.transport.abort()

    api.sockets[EXEC] = command
    execution = await start(client)

    assert await execution.read() == (Channel.STDOUT, b"out")
    with pytest.raises(KubeUnavailableError):
        await execution.read()
    with pytest.raises(KubeUnavailableError):
        await execution.wait()
    with pytest.raises(BrokenPipeError):
        await execution.write(b"x")


async def test_what_the_server_refuses_is_said_before_anything_runs(api, client):
    with pytest.raises(NotFoundError):
        await start(client)
    api.faults.append(lambda request: status(403, "Forbidden", "pods/exec is forbidden"))
    with pytest.raises(ForbiddenError, match="pods/exec is forbidden"):
        await start(client)
    api.faults[:] = [lambda request: status(503, "ServiceUnavailable", "later")]
    with pytest.raises(KubeUnavailableError, match="later"):
        await start(client)
    away = "error dialing backend: dial tcp 172.31.77.11:10250: connect: connection refused"
    api.faults[:] = [lambda request: status(500, "InternalError", away)]
    with pytest.raises(KubeUnavailableError, match="connection refused"):
        await start(client)
    api.faults[:] = [lambda request: status(500, "InternalError", "unable to upgrade connection: container not found")]
    with pytest.raises(KubeError, match="container not found"):
        await start(client)


async def test_a_reader_that_is_slow_holds_the_command_back_and_loses_nothing(api, client):
    sent, to = 0, None

    async def command(channel):
        nonlocal sent, to
        to = channel
        for number in range(2000):
            await channel.send(b"\x01" + bytes([number % 256]) * 32_000)
            sent += 1
        await channel.send(ended())
        await channel.close()

    api.sockets[EXEC] = command
    execution = await start(client)
    await until_held_back(lambda: sent, lambda: to)
    stood = sent

    got = []
    while (chunk := await execution.read()) is not None:
        got.append(chunk[1])

    assert stood < 1000
    assert b"".join(got) == b"".join(bytes([number % 256]) * 32_000 for number in range(2000))
    assert await execution.wait() == 0


async def test_input_that_the_command_does_not_take_holds_the_writer_back(api, client):
    reads = asyncio.Event()
    size = 0

    async def command(channel):
        nonlocal size
        await reads.wait()
        async for message in channel.messages():
            if message[0] == 255:
                break
            size += len(message) - 1
        await channel.send(ended())
        await channel.close()

    api.sockets[EXEC] = command
    execution = await start(client)
    writing = asyncio.create_task(execution.write(b"x" * 64_000_000))
    done, _ = await asyncio.wait([writing], timeout=1)
    assert not done

    reads.set()
    await writing
    await execution.end_input()

    assert await execution.wait() == 0
    assert size == 64_000_000


async def test_closing_cuts_it_for_readers_too(api, client):
    ended_there = asyncio.Event()

    async def command(channel):
        async for _ in channel.messages():
            pass
        ended_there.set()

    api.sockets[EXEC] = command
    execution = await start(client)
    reading = asyncio.create_task(execution.read())
    await asyncio.sleep(0)
    await execution.aclose()
    await execution.aclose()

    with pytest.raises(KubeUnavailableError):
        await reading
    async with asyncio.timeout(20):
        await ended_there.wait()


async def test_a_client_that_closes_cuts_its_commands(api, client):
    async def command(channel):
        async for _ in channel.messages():
            pass

    api.sockets[EXEC] = command
    execution = await start(client)
    await client.aclose()

    with pytest.raises(KubeUnavailableError):
        await execution.read()
