"""Signing in by another provider, against a real one: the way there and back, the rules of claims, what goes wrong."""

import base64
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from sqlalchemy import select

from neuropod.accounts.records import IdentityRow, UserRow
from neuropod.db.audit import AuditRow
from neuropod.words import Role
from support.api import ApiWorld
from support.oidc import CLIENT_ID, CLIENT_SECRET, RealProvider, Visit, with_provider
from support.ports import free_port

DOMAIN = ("example.com",)


async def test_somebody_new_signs_in_and_has_an_account(world: ApiWorld, provider: RealProvider):
    with_provider(world, provider.issuer, allowed_email_domains=DOMAIN)
    provider.tell("new-1", email="Ada@Example.com", email_verified=True, name="Ada Byron")
    visit = Visit(world)

    answer = await visit.through(provider, "new-1")
    me = await visit.me()
    again = Visit(world)
    await again.through(provider, "new-1")

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert (me["email"], me["name"], me["role"], me["has_password"]) == (
        "ada@example.com",
        "Ada Byron",
        "client",
        False,
    )
    assert (await again.me())["id"] == me["id"]
    async with world.database.read() as session:
        rows = (await session.scalars(select(IdentityRow))).all()
    assert [(row.issuer, row.subject, row.user_id) for row in rows] == [(provider.issuer, "new-1", me["id"])]


async def test_the_way_there_carries_pkce_state_and_nonce_and_the_way_back_proves_them(
    sqlite_world: ApiWorld, provider: RealProvider
):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("pkce-1", email="pkce@example.com", email_verified=True)
    visit = Visit(sqlite_world)

    begun = await visit.begin()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    cookies = dict(visit.cookies)
    await visit.come_back(provider.sign_in(begun.headers["location"], "pkce-1"))
    sent = provider.token_requests()[-1]

    assert (asked["response_type"], asked["code_challenge_method"], asked["client_id"]) == ("code", "S256", CLIENT_ID)
    assert asked["redirect_uri"] == f"{sqlite_world.console}/auth/oidc/callback"
    assert len(asked["state"]) > 40
    assert len(asked["nonce"]) > 40
    assert create_s256_code_challenge(sent["form"]["code_verifier"]) == asked["code_challenge"]
    basic = base64.b64decode(sent["authorization"].removeprefix("Basic ")).decode()
    assert basic in {f"{CLIENT_ID}:{CLIENT_SECRET}", f"{CLIENT_ID}:{quote(CLIENT_SECRET)}"}
    assert begun.headers["referrer-policy"] == "no-referrer"
    (name, sealed), *rest = cookies.items()
    assert (name.startswith("__Host-neuropod-oidc-"), rest) == (True, [])
    assert not any(secret in sealed for secret in (asked["nonce"], sent["form"]["code_verifier"], asked["state"]))
    assert name not in visit.cookies  # gone once it was used


async def test_who_comes_back_goes_on_to_where_they_were_going(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("to-1", email="to@example.com", email_verified=True)

    there = await Visit(sqlite_world).through(provider, "to-1", to="/gate/continue?ref=abc")
    elsewhere = await Visit(sqlite_world).through(provider, "to-1", to="https://evil.example/")

    assert there.headers["location"] == "/gate/continue?ref=abc"
    assert elsewhere.headers["location"] == "/"


async def test_two_tabs_sign_in_at_once(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("tabs-1", email="tabs@example.com", email_verified=True)
    visit = Visit(sqlite_world)

    first, second = await visit.begin("/password"), await visit.begin("/")
    answers = [await visit.come_back(provider.sign_in(tab.headers["location"], "tabs-1")) for tab in (first, second)]

    assert [answer.headers.get("location") for answer in answers] == ["/password", "/"]


async def test_the_button_is_there_only_with_a_provider(sqlite_world: ApiWorld, provider: RealProvider):
    without = await sqlite_world.http().get("/sign-in")
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    page = await sqlite_world.http().get("/sign-in", params={"to": "/gate/continue?ref=abc&x=1"})

    assert "/auth/oidc/start" not in without.text
    assert 'href="/auth/oidc/start?to=/gate/continue%3Fref%3Dabc%26x%3D1">Sign in with Example</a>' in page.text


@pytest.mark.parametrize(
    ("values", "claims", "sentence"),
    [
        ({"allowed_email_domains": DOMAIN}, {"email": "a@other.example", "email_verified": True}, "certain domains"),
        ({"allowed_email_domains": DOMAIN}, {"email": "a@example.com", "email_verified": False}, "certain domains"),
        ({"allowed_email_domains": DOMAIN}, {"email": "a@example.com"}, "certain domains"),
        ({"allowed_email_domains": DOMAIN}, {"email": "a@example.com.evil.example", "email_verified": True}, "certain"),
        ({"allowed_claim": "groups", "allowed_values": ("lab",)}, {"groups": ["guests", "labs"]}, "a group that"),
        ({"allowed_claim": "groups", "allowed_values": ("lab",)}, {}, "a group that"),
        ({}, {"email": "a@example.com", "email_verified": True}, "no account here"),
        ({"allow_anyone": True}, {}, "no account here"),  # an account needs a verified address
        ({"allow_anyone": True, "create_users": False}, {"email": "a@example.com", "email_verified": True}, "no account"),
    ],
)  # fmt: skip
async def test_who_is_not_let_in_hears_why_and_has_no_account(
    sqlite_world: ApiWorld, provider: RealProvider, values, claims, sentence
):
    with_provider(sqlite_world, provider.issuer, **values)
    provider.tell("refused-1", **({"email": None} | claims))
    visit = Visit(sqlite_world)

    answer = await visit.through(provider, "refused-1")

    assert answer.status_code == 403
    assert sentence in answer.text
    assert visit.cookies == {}
    async with sqlite_world.database.read() as session:
        assert len((await session.scalars(select(UserRow))).all()) == 3


async def test_a_claim_makes_administrators_and_unmakes_them_at_the_next_sign_in(
    world: ApiWorld, provider: RealProvider
):
    with_provider(
        world, provider.issuer, allow_anyone=True, admin_claim="realm_access.roles", admin_values=("neuropod-admin",)
    )
    roles = []

    for told in (["neuropod-admin"], ["other"], []):
        provider.tell("role-1", email="role@example.com", email_verified=True, realm_access={"roles": ["x", *told]})
        visit = Visit(world)
        await visit.through(provider, "role-1")
        roles.append((await visit.me())["role"])

    assert roles == ["admin", "client", "client"]
    async with world.database.read() as session:
        acts = (
            await session.scalars(select(AuditRow).where(AuditRow.verb == "change_role").order_by(AuditRow.id))
        ).all()
    assert [(act.via, act.data["role"]) for act in acts] == [("system", "admin"), ("system", "client")]


async def test_the_last_administrator_stays_one_whatever_the_provider_says(
    sqlite_world: ApiWorld, provider: RealProvider
):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True, admin_claim="groups", admin_values=("root",))
    admin = await sqlite_world.browser("admin")
    await admin.post(f"/api/v1/users/{sqlite_world.person('admin').id}/identities", json={"subject": "last-1"})
    provider.tell("last-1", groups=[])
    visit = Visit(sqlite_world)

    await visit.through(provider, "last-1")

    assert (await visit.me())["role"] == Role.ADMIN


async def test_who_is_suspended_gets_a_page_that_says_so(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("suspended-1", email="suspended@example.com", email_verified=True)
    await Visit(sqlite_world).through(provider, "suspended-1")
    admin = await sqlite_world.browser("admin")
    await admin.post("/api/v1/users/suspended@example.com/suspend")

    visit = Visit(sqlite_world)
    answer = await visit.through(provider, "suspended-1")

    assert answer.status_code == 403
    assert "suspended" in answer.text
    assert visit.cookies == {}


async def test_a_deleted_user_comes_back_as_somebody_new(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("deleted-1", email="deleted@example.com", email_verified=True)
    visit = Visit(sqlite_world)
    await visit.through(provider, "deleted-1")
    before = await visit.me()
    admin = await sqlite_world.browser("admin")
    await admin.delete("/api/v1/users/deleted@example.com", params={"volumes": "keep"})

    new = Visit(sqlite_world)
    await new.through(provider, "deleted-1")

    assert (await visit.get("/api/v1/me")).status_code == 401
    assert (await new.me())["id"] != before["id"]


async def test_a_provider_that_is_down_gets_a_page_that_says_so(sqlite_world: ApiWorld):
    with_provider(sqlite_world, f"http://127.0.0.1:{free_port()}", allow_anyone=True)

    answer = await Visit(sqlite_world).begin()

    assert answer.status_code == 503
    assert "Example cannot be reached now" in answer.text
    assert "127.0.0.1" not in answer.text


async def test_a_refusal_at_the_provider_gets_a_page_that_says_so(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    visit = Visit(sqlite_world)

    answer = await visit.through(provider, None)

    assert answer.status_code == 401
    assert "Example did not sign you in (access_denied)" in answer.text


async def test_what_a_stranger_writes_into_the_way_back_is_not_shown(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)

    answer = await Visit(sqlite_world).get("/auth/oidc/callback", error="<b>call 555-1234</b>", state="x")

    assert answer.status_code == 401
    assert "555" not in answer.text


async def test_another_site_begins_nothing(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)

    answer = await Visit(sqlite_world).get("/auth/oidc/start", site="cross-site")

    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "set-cookie" not in answer.headers


async def test_administrators_link_list_and_unlink_identities(world: ApiWorld, provider: RealProvider):
    with_provider(world, provider.issuer)
    admin = await world.browser("admin")
    path = "/api/v1/users/owner@example.org/identities"
    provider.tell("link-1", email="quite@other.example")

    linked = await admin.post(path, json={"subject": "link-1"})
    twice = await admin.post(path, json={"subject": "link-1"})
    neither = await admin.post(path, json={})
    both = await admin.post(path, json={"subject": "x", "by_address": True})
    visit = Visit(world)
    await visit.through(provider, "link-1")
    listed = (await admin.get(path)).json()["items"]
    unlinked = await admin.delete(f"{path}/{linked.json()['identity']['id']}")
    after = await Visit(world).through(provider, "link-1")

    assert (linked.status_code, twice.status_code, neither.status_code, both.status_code) == (201, 409, 422, 422)
    assert (await visit.me())["email"] == "owner@example.org"
    assert [(one["subject"], one["used_at"] is not None) for one in listed] == [("link-1", True)]
    assert (unlinked.status_code, after.status_code) == (204, 403)
