"""Requests carried to pods and answers carried back, over real sockets."""

from support.gateway import answering, serving


async def test_a_request_with_a_key_reaches_the_pod_and_its_answer_comes_back():
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"hello"))

        answer = await served.ask(route)

        assert answer.status == 200
        assert answer.content == b"hello"
