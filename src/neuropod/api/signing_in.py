"""A password sign-in as one step for routes and pages: count the try, verify with no session open, make the session."""

from neuropod.accounts.service import SignedIn
from neuropod.accounts.signing_in import LINK_GONE, WRONG, NewSession
from neuropod.api.deps import Asking
from neuropod.kit.errors import FieldError, InvalidInputError, NeuropodError, UnauthenticatedError


async def sign_in_with_password(asking: Asking, email: str, password: str) -> NewSession:
    """Return a new session. Raises UnauthenticatedError, ThrottledError; both take as long for unknown people."""
    accounts = asking.parts.accounts
    outcomes = asking.parts.metrics.counter("sign_ins_total", "Sign-ins by way and outcome.", ("way", "outcome"))
    browser = asking.browser
    try:
        async with asking.writing() as session:
            begun = await accounts.sign_ins.begin(session, email, browser=browser)
        right = await accounts.passwords.verify(begun.password_hash, password)
        if not right or begun.password_hash is None:
            raise UnauthenticatedError(WRONG, code="wrong_credentials")
        better = None
        if accounts.passwords.needs_rehash(begun.password_hash):
            better = await accounts.passwords.hash(password)
        async with asking.writing() as session:
            made = await accounts.sign_ins.finish(session, begun, browser=browser, better_hash=better)
    except NeuropodError as error:
        outcomes.labels("password", error.code).inc()
        raise
    outcomes.labels("password", "ok").inc()
    return made


async def sign_in_with_link(asking: Asking, token: str) -> NewSession:
    """Return a new session for a one-time link. Raises UnauthenticatedError."""
    sign_ins = asking.parts.accounts.sign_ins
    async with asking.reading() as reading:
        if not await sign_ins.link_waits(reading, token):
            raise UnauthenticatedError(LINK_GONE, code="link_gone")
    async with asking.writing() as session:
        return await sign_ins.use_link(session, token, browser=asking.browser)


async def change_password(asking: Asking, signed_in: SignedIn, new_password: str, current_password: str | None) -> None:
    """Set a new password. The current one is needed where there is one, unless a link just began the session."""
    accounts = asking.parts.accounts
    accounts.check_new_password(signed_in, new_password)
    stored = signed_in.user.password_hash
    if stored is not None and not accounts.may_set_unproven(signed_in):
        await _prove(asking, signed_in, stored, current_password)
    new_hash = await accounts.passwords.hash(new_password)
    async with asking.writing() as session:
        await accounts.set_password(session, new_hash, actor=signed_in.actor)
        await accounts.sign_ins.forget_tries(session, signed_in.user.email, browser=asking.browser)


async def _prove(asking: Asking, signed_in: SignedIn, stored: str, current_password: str | None) -> None:
    """Check the present password, counted and throttled like a sign-in: a stolen cookie must not try on."""
    accounts = asking.parts.accounts
    async with asking.writing() as session:
        await accounts.sign_ins.begin(session, signed_in.user.email, browser=asking.browser)
    if not await accounts.passwords.verify(stored, current_password or ""):
        wrong = FieldError("current_password", "wrong", "this is not your present password")
        raise InvalidInputError(wrong.message, fields=[wrong])
