"""The provider: its addresses and keys, where a browser is sent, and what comes back. Made once by server.

Authlib builds the requests and checks the claims of the ID token; this holds what it is checked against. Authorization
code with PKCE (RFC 7636), state and nonce; asymmetric signatures only. Called by the API with no session open, since
all of it waits for another server. What is wrong with an answer goes into the log, not to the browser.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from neuropod.accounts.oidc.claims import Identity, identity_of, value_at
from neuropod.kit.clock import Clock
from neuropod.kit.errors import UnauthenticatedError, UnavailableError
from neuropod.kit.identifiers import new_token
from neuropod.settings import OidcSettings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")

_KEPT = timedelta(hours=1)
_KEYS_AGAIN = timedelta(seconds=30)  # how soon keys are asked for again when a token names one that is not known
_LEEWAY_SECONDS = 120  # between the provider's clock and ours
_TIMEOUT = httpx.Timeout(10, connect=5)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Where the browser is sent, and what has to be known when it comes back. Never printed."""

    url: str
    state: str
    nonce: str
    verifier: str

    def __repr__(self) -> str:
        return "Start(***)"


@dataclass(frozen=True, slots=True)
class _Known:
    """What the provider publishes."""

    metadata: Mapping[str, Any]
    keys: KeySet
    read_at: datetime


class Provider:
    """One provider, by the settings. `transport` is for tests."""

    def __init__(
        self,
        settings: OidcSettings,
        clock: Clock,
        *,
        redirect_url: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if settings.issuer is None or settings.client_id is None:
            raise ValueError("no provider is set")
        self.name = settings.name
        self.issuer = settings.issuer
        self._client_id = settings.client_id
        self._settings = settings
        self._clock = clock
        self._redirect_url = redirect_url
        self._transport = transport
        self._known: _Known | None = None
        self._reading = asyncio.Lock()

    async def start(self) -> Start:
        """Return where to send a browser. Raises UnavailableError."""
        async with self._http() as http:
            known = await self._published(http)
        state, nonce, verifier = new_token(), new_token(), new_token(48)
        url, _ = self._client().create_authorization_url(
            known.metadata["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
        )
        return Start(url, state, nonce, verifier)

    async def finish(self, code: str, *, nonce: str, verifier: str) -> Identity:
        """Return who came back with a code. Raises UnavailableError, and UnauthenticatedError."""
        async with self._http() as http:
            known = await self._published(http)
            tokens = await self._tokens(http, known, code, verifier)
            claims = await self._verified(http, known, tokens, nonce)
            claims = await self._completed(http, known, tokens, claims)
        return identity_of(claims, self._settings)

    def _client(self) -> OAuth2Client:
        return OAuth2Client(
            session=None,
            client_id=self._client_id,
            redirect_uri=self._redirect_url,
            scope=" ".join(self._settings.scopes),
            code_challenge_method="S256",
        )

    def _http(self) -> httpx.AsyncClient:
        here = urlsplit(self.issuer).hostname in {"localhost", "127.0.0.1", "::1"}
        return httpx.AsyncClient(timeout=_TIMEOUT, transport=self._transport, trust_env=not here)

    # What it publishes

    async def _published(self, http: httpx.AsyncClient) -> _Known:
        async with self._reading:
            known = self._known
            if known is None or self._clock.now() - known.read_at > _KEPT:
                known = self._known = await self._read(http)
            return known

    async def _read(self, http: httpx.AsyncClient) -> _Known:
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        metadata = await self._json(http, "GET", url)
        if metadata.get("issuer") != self.issuer:
            raise self._unusable(f"it says to be {metadata.get('issuer')!r}, not {self.issuer!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            endpoint = metadata.get(name)
            if not isinstance(endpoint, str) or (
                self.issuer.startswith("https:") and not endpoint.startswith("https:")
            ):
                raise self._unusable(f"its {name} is {endpoint!r}")
        return _Known(metadata, await self._keys(http, metadata), self._clock.now())

    async def _keys(self, http: httpx.AsyncClient, metadata: Mapping[str, Any]) -> KeySet:
        published = await self._json(http, "GET", str(metadata["jwks_uri"]))
        try:
            return KeySet.import_key_set({"keys": list(published["keys"])})
        except (KeyError, TypeError, ValueError, JoseError) as error:
            raise self._unusable(f"its keys cannot be read: {error}") from error

    async def _json(self, http: httpx.AsyncClient, method: str, url: str, **values: Any) -> dict[str, Any]:
        try:
            response = await http.request(method, url, **values)
            response.raise_for_status()
            answer = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._unusable(f"{urlsplit(url).path}: {error or type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise self._unusable(f"{urlsplit(url).path}: no JSON object")
        return answer

    def _unusable(self, why: str) -> UnavailableError:
        _log.warning("the sign-in provider cannot be used now", issuer=self.issuer, why=why)
        sentence = f"{self.name} cannot be reached now; try again, or sign in another way"
        return UnavailableError(sentence, code="provider_unavailable")

    # What comes back

    async def _tokens(self, http: httpx.AsyncClient, known: _Known, code: str, verifier: str) -> Mapping[str, Any]:
        url = str(known.metadata["token_endpoint"])
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "code_verifier": verifier,
        }
        headers = {"Accept": "application/json"}
        secret = self._settings.client_secret
        methods = known.metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret is None:
            form["client_id"] = self._client_id
        elif "client_secret_basic" in methods:
            auth = ClientAuth(self._client_id, secret.get_secret_value(), "client_secret_basic")
            _, headers, _ = auth.prepare("POST", url, headers, "")
        else:
            form |= {"client_id": self._client_id, "client_secret": secret.get_secret_value()}
        try:
            response = await http.post(url, data=form, headers=headers)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._unusable(f"{urlsplit(url).path}: {error or type(error).__name__}") from error
        if response.status_code >= 500 or not isinstance(answer, dict):
            raise self._unusable(f"{urlsplit(url).path}: status {response.status_code}")
        if not response.is_success or not isinstance(answer.get("id_token"), str):
            raise self._untrue(f"no ID token, but {answer.get('error') or response.status_code!r}")
        return answer

    async def _verified(
        self, http: httpx.AsyncClient, known: _Known, tokens: Mapping[str, Any], nonce: str
    ) -> Mapping[str, Any]:
        id_token = str(tokens["id_token"])
        try:
            token = jwt.decode(id_token, known.keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError) as error:
            keys = await self._newer_keys(http, known)
            if keys is None:
                raise self._untrue(f"its ID token: {error or type(error).__name__}") from error
            try:
                token = jwt.decode(id_token, keys, algorithms=ALGORITHMS)
            except (JoseError, ValueError) as still:
                raise self._untrue(f"its ID token: {still or type(still).__name__}") from still
        from authlib.oidc.core import CodeIDToken  # noqa: PLC0415 - a server without a provider needs it not

        claims = CodeIDToken(
            token.claims,
            token.header,
            options={
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "value": self._client_id},
                "sub": {"essential": True},
            },
            params={"nonce": nonce, "client_id": self._client_id, "access_token": tokens.get("access_token")},
        )
        try:
            claims.validate(now=int(self._clock.now().timestamp()), leeway=_LEEWAY_SECONDS)
        except (JoseError, ValueError) as error:
            raise self._untrue(f"its ID token: {error}") from error
        if not isinstance(claims["sub"], str) or not 1 <= len(claims["sub"]) <= 255:
            raise self._untrue("its ID token: sub")
        return dict(claims)

    async def _newer_keys(self, http: httpx.AsyncClient, known: _Known) -> KeySet | None:
        """Return the keys read anew, for a provider that has changed them; None if they were read just now."""
        if self._clock.now() - known.read_at < _KEYS_AGAIN:
            return None
        keys = await self._keys(http, known.metadata)
        self._known = _Known(known.metadata, keys, self._clock.now())
        return keys

    async def _completed(
        self, http: httpx.AsyncClient, known: _Known, tokens: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Add what only the userinfo endpoint tells; the ID token's own claims stay."""
        settings = self._settings
        wanted = ["email", *(path for path in (settings.allowed_claim, settings.admin_claim) if path is not None)]
        endpoint, token = known.metadata.get("userinfo_endpoint"), tokens.get("access_token")
        if all(value_at(claims, path) is not None for path in wanted) or not endpoint or not token:
            return claims
        told = await self._json(http, "GET", str(endpoint), headers={"Authorization": f"Bearer {token}"})
        if told.get("sub") != claims["sub"]:
            raise self._untrue("its userinfo is about somebody else")
        return {**told, **claims}

    def _untrue(self, why: str) -> UnauthenticatedError:
        _log.warning("a sign-in by the provider is not accepted", issuer=self.issuer, why=why)
        return UnauthenticatedError(f"what {self.name} answered cannot be accepted; try again", code="provider_refused")
