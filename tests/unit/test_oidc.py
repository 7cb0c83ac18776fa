"""What a provider's answer has to be to be believed, and what its claims mean, played at the HTTP port."""

import asyncio
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey
from pydantic import ValidationError

from neuropod.accounts.oidc.claims import identity_of, value_at
from neuropod.accounts.oidc.provider import Provider
from neuropod.kit.errors import UnauthenticatedError, UnavailableError
from neuropod.settings import OidcSettings
from neuropod.words import Role
from support.clocks import ManualClock

ISSUER = "https://id.example.org"
KEY = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
OTHER = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
NEW = RSAKey.generate_key(2048, {"kid": "two"}, private=True)


class Played:
    """A provider whose every answer can be made wrong."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.keys = [KEY]
        self.signs, self.header = KEY, {"alg": "RS256", "kid": "one"}
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            "userinfo_endpoint": f"{ISSUER}/userinfo",
        }
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {"sub": "s-1", "email": "ada@example.org", "email_verified": True}
        self.answers: dict[str, httpx.Response] = {}
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return httpx.Response(200, json=self.metadata)
        if path == "/jwks":
            return httpx.Response(200, json=KeySet(self.keys).as_dict(private=False))
        if path == "/userinfo":
            return httpx.Response(200, json=self.userinfo)
        now = int(self.clock.now().timestamp())
        claims = {"iss": ISSUER, "sub": "s-1", "aud": "us", "exp": now + 60, "iat": now, "nonce": "n"} | self.claims
        token = jwt.encode(self.header, {k: v for k, v in claims.items() if v is not None}, self.signs)
        return httpx.Response(200, json={"access_token": "at", "token_type": "Bearer", "id_token": token})


@pytest.fixture
def played() -> Played:
    return Played(ManualClock())


def _provider(played: Played, **values: Any) -> Provider:
    settings = OidcSettings(**({"issuer": ISSUER, "client_id": "us", "client_secret": "s", "name": "Example"} | values))
    return Provider(
        settings, played.clock, redirect_url="https://app.example/cb", transport=httpx.MockTransport(played)
    )


async def _finish(played: Played, **values: Any):
    return await _provider(played, **values).finish("code", nonce="n", verifier="v" * 43)


async def test_a_good_answer_says_who_it_is_with_the_userinfo_where_the_token_is_short(played: Played):
    identity = await _finish(played)

    assert (identity.issuer, identity.subject, identity.email) == (ISSUER, "s-1", "ada@example.org")


@pytest.mark.parametrize(
    "claims",
    [{"iss": "https://evil.example"}, {"aud": "others"}, {"aud": ["us", "others"]}, {"azp": "others"}, {"nonce": "x"},
     {"nonce": None}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"exp": 1}, {"exp": None}, {"iat": None},
     {"iat": 4_000_000_000}, {"nbf": 4_000_000_000}, {"at_hash": "wrong"}],
    ids=str,
)  # fmt: skip
async def test_a_token_that_is_not_for_us_now_is_not_believed(played: Played, claims: dict[str, Any]):
    played.claims = claims

    with pytest.raises(UnauthenticatedError) as refused:
        await _finish(played)

    assert refused.value.code == "provider_refused"


async def test_a_token_signed_by_another_key_is_not_believed(played: Played):
    played.signs = OTHER

    with pytest.raises(UnauthenticatedError):
        await _finish(played)


async def test_a_token_signed_with_what_everybody_knows_is_not_believed(played: Played):
    """HS256 with the public key or the client's secret as the secret, and no signature at all."""
    played.signs, played.header = OctKey.import_key("s" * 32), {"alg": "HS256", "kid": "one"}
    with pytest.raises(UnauthenticatedError):
        await _finish(played)

    played.answers["/token"] = httpx.Response(200, json={"id_token": "eyJhbGciOiJub25lIn0.e30.", "access_token": "x"})
    with pytest.raises(UnauthenticatedError):
        await _finish(played)


async def test_userinfo_about_somebody_else_is_not_believed(played: Played):
    played.userinfo["sub"] = "s-2"

    with pytest.raises(UnauthenticatedError):
        await _finish(played)


async def test_userinfo_does_not_replace_what_the_token_says(played: Played):
    played.claims = {"email": "token@example.org", "email_verified": True}
    played.userinfo |= {"email": "userinfo@example.org", "groups": ["lab"]}

    identity = await _finish(played, allowed_claim="groups", allowed_values=("lab",))

    assert (identity.email, identity.refused) == ("token@example.org", None)


async def test_keys_that_have_changed_are_read_again_but_not_for_every_forged_token(played: Played):
    provider = _provider(played)
    await provider.finish("code", nonce="n", verifier="v")
    played.keys, played.signs, played.header = [NEW], NEW, {"alg": "RS256", "kid": "two"}

    with pytest.raises(UnauthenticatedError):
        await provider.finish("code", nonce="n", verifier="v")
    await played.clock.advance(31)
    identity = await provider.finish("code", nonce="n", verifier="v")

    assert identity.subject == "s-1"
    assert played.asked.count("/jwks") == 2


async def test_what_it_publishes_is_read_once_an_hour_however_many_come(played: Played):
    provider = _provider(played)

    await asyncio.gather(*(provider.start() for _ in range(5)))
    await played.clock.advance(3601)
    await provider.start()

    assert played.asked.count("/.well-known/openid-configuration") == 2


@pytest.mark.parametrize(
    "wrong",
    [{"issuer": "https://other.example"}, {"token_endpoint": "http://id.example.org/token"}, {"jwks_uri": None},
     {"authorization_endpoint": 7}],
    ids=str,
)  # fmt: skip
async def test_a_provider_that_publishes_nonsense_is_not_used(played: Played, wrong: dict[str, Any]):
    played.metadata |= wrong

    with pytest.raises(UnavailableError):
        await _provider(played).start()


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/.well-known/openid-configuration", httpx.Response(502)), ("/jwks", httpx.Response(200, text="<html>")),
     ("/jwks", httpx.Response(200, json={"keys": "none"})), ("/token", httpx.Response(500, json={})),
     ("/token", httpx.Response(200, json=[])), ("/token", httpx.Response(200, text="no JSON")),
     ("/userinfo", httpx.Response(403))],
    ids=lambda value: value if isinstance(value, str) else str(value.status_code),
)  # fmt: skip
async def test_a_provider_that_fails_is_unavailable_and_tries_again_next_time(played: Played, path: str, answer: Any):
    provider = _provider(played)
    played.answers[path] = answer

    with pytest.raises(UnavailableError):
        await provider.finish("code", nonce="n", verifier="v")
    del played.answers[path]

    assert (await provider.finish("code", nonce="n", verifier="v")).subject == "s-1"


async def test_a_code_that_the_provider_does_not_know_is_a_refusal(played: Played):
    played.answers["/token"] = httpx.Response(400, json={"error": "invalid_grant"})

    with pytest.raises(UnauthenticatedError):
        await _finish(played)


# Claims


@pytest.mark.parametrize(
    ("claims", "path", "value"),
    [({"groups": ["a"]}, "groups", ["a"]), ({"a.b": 1, "a": {"b": 2}}, "a.b", 1), ({"a": {"b": [2]}}, "a.b", [2]),
     ({"a": "text"}, "a.b", None), ({}, "groups", None)],
)  # fmt: skip
def test_a_claim_is_named_by_its_name_or_by_names_with_dots(claims, path, value):
    assert value_at(claims, path) == value


@pytest.mark.parametrize(
    ("told", "role"),
    [(["root", "x"], Role.ADMIN), ("root", Role.ADMIN), (["Root"], Role.CLIENT), ([], Role.CLIENT), (None, Role.CLIENT),
     ({"root": True}, Role.CLIENT), (["root "], Role.CLIENT), ("rooted", Role.CLIENT)],
)  # fmt: skip
def test_only_the_very_value_makes_an_administrator(told, role):
    settings = OidcSettings(admin_claim="groups", admin_values=("root",))

    assert identity_of({"iss": "i", "sub": "s", "groups": told}, settings).role is role


def test_without_a_claim_for_it_roles_are_left_to_the_administrators():
    assert identity_of({"iss": "i", "sub": "s", "groups": ["root"]}, OidcSettings()).role is None


def test_both_rules_have_to_hold():
    settings = OidcSettings(allowed_email_domains=("example.org",), allowed_claim="staff", allowed_values=("true",))
    good = {"iss": "i", "sub": "s", "email": "a@EXAMPLE.org", "email_verified": True, "staff": True}

    assert identity_of(good, settings).may_join
    assert identity_of(good | {"staff": False}, settings).refused
    assert identity_of(good | {"email_verified": "false"}, settings).refused


@pytest.mark.parametrize(
    ("name", "kept"), [("  Ada\x1b[31m\n", "Ada[31m"), ("", None), (7, None), ("x" * 300, "x" * 100)]
)
def test_a_name_is_one_that_may_be_shown(name, kept):
    assert identity_of({"iss": "i", "sub": "s", "name": name}, OidcSettings()).name == kept


@pytest.mark.parametrize(
    "values",
    [{"issuer": ISSUER}, {"client_id": "us"}, {"issuer": "http://id.example.org", "client_id": "us"},
     {"allowed_claim": "groups"}, {"allowed_values": ("x",)}, {"admin_claim": "groups"}, {"admin_values": ("x",)}],
    ids=str,
)  # fmt: skip
def test_settings_that_do_not_belong_together_are_refused(values):
    with pytest.raises(ValidationError):
        OidcSettings(**values)
