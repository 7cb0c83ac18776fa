"""SECURITY 23: no shared cache keeps what is not public, whatever the pod says."""

import pytest

from neuropod.words import Access, Status
from support.gateway import answering, serving

TOLD = (
    "Cache-Control: public, max-age=31536000, s-maxage=31536000, immutable",
    "CDN-Cache-Control: max-age=31536000",
    "Cloudflare-CDN-Cache-Control: max-age=31536000",
    "Surrogate-Control: max-age=31536000",
    "X-Accel-Expires: 31536000",
    "Edge-Control: max-age=31536000",
    "Expires: Thu, 31 Dec 2099 23:59:59 GMT",
    "ETag: abc",
)


@pytest.mark.parametrize("access", [Access.PRIVATE, Access.MEMBERS])
@pytest.mark.parametrize("headers", [(), TOLD], ids=["silent", "told"])
async def test_what_is_not_public_is_private_to_the_browser(access, headers):
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"secret", *headers), access=access)

        answer = await served.ask(route, "GET /static/app.js HTTP/1.1")

        assert answer.content == b"secret"
        assert answer.all("cdn-cache-control") == ["no-store"]
        (cache_control,) = answer.all("cache-control")
        directives = {part.strip().partition("=")[0] for part in cache_control.split(",")}
        assert "private" in directives
        assert not directives & {"public", "s-maxage"}
        names = {name.lower() for name, _ in answer.headers}
        assert not names & {"cloudflare-cdn-cache-control", "surrogate-control", "x-accel-expires", "edge-control"}


async def test_what_a_pod_says_of_the_browsers_own_cache_stays():
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"x", "Cache-Control: max-age=60", "ETag: abc", "Vary: Accept"))

        answer = await served.ask(route)

        assert answer["cache-control"] == "private, max-age=60"
        assert (answer["etag"], answer["vary"]) == ("abc", "Accept")


async def test_a_public_ports_answer_is_passed_on_as_it_is():
    async with serving() as served:
        route = await served.pod(answering(b"x", *TOLD), access=Access.PUBLIC)

        answer = await served.ask(route)

        assert [f"{name}: {value}" for name, value in answer.headers if f"{name}: {value}" in TOLD] == list(TOLD)


async def test_the_gates_own_answers_are_kept_by_nobody():
    async with serving() as served:
        route = await served.pod(answering(), incarnation=None, status=Status.STOPPED, access=Access.PUBLIC)
        private = await served.pod(answering(), "private")
        answers = [
            await served.ask(route, "GET / HTTP/1.1", "Accept: text/html"),
            await served.ask(private, key=None),
            await served.ask(private, "GET / HTTP/1.1", "Accept: text/html", key=None),
        ]

        for answer in answers:
            assert answer["cache-control"] == "no-store"
            assert answer["cdn-cache-control"] == "no-store"
