"""Writes docs/reference/errors.md: every code that callers of the API meet. `make reference`; a test compares.

The codes are found in the source, so that none can be forgotten; what each means is written here.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from neuropod.kit import errors
from neuropod.words import Reason

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "errors.md"
SOURCE = ROOT / "src" / "neuropod"

# Packages whose errors reach a caller of the API: all but those that call it, and the runtimes, whose errors become
# reasons of pods.
_ANSWERING = (
    "accounts", "api", "catalogue", "db", "gateway", "kit", "ledger", "pods", "reconcile", "server", "templates",
    "volumes",
)  # fmt: skip

CODES = {
    "admin_needed": "Only an administrator may do this.",
    "bad_json": "The body is not JSON.",
    "bad_request": "The request cannot be read; the sentence says what is wrong with it.",
    "claim_refused": "What the sign-in provider says of somebody does not meet the rules of the settings `oidc`.",
    "conflict": "Not in the present state, or somebody changed the same thing at this moment. Look again.",
    "disk_full": "The disk has no room for this, or the server cannot write to it; nothing was changed.",
    "forbidden": "The caller is known and may not do this at all.",
    "gpu_type_in_use": "Pods are of this GPU type. Withdraw it, and delete it when they are gone.",
    "gpu_type_unavailable": "The GPU type was taken off the list since; choose another.",
    "image_not_allowed": "The cluster that the pod is on no longer allows its image; choose another.",
    "idempotency_key_reused": "This Idempotency-Key was sent with another request; a new request needs a new key.",
    "identity_not_linked": "An account with this address exists, and this sign-in is not linked to it.",
    "internal": "A fault of the server; its log says more. Nothing was changed.",
    "invalid": "One or more fields break rules; all of them are in `fields`.",
    "last_administrator": "One active administrator has to be left; make somebody else one first.",
    "limit_reached": "There are as many as the setting `limits` allows; remove one first.",
    "link_gone": "The one-time link was used before, or is too old. Ask for another.",
    "name_taken": "The name is in use.",
    "no_account": "The sign-in provider knows them, there is no account here, and signing in makes none.",
    "no_isolation": "This machine cannot keep pods apart, so only administrators may launch (see `neuropod doctor`).",
    "no_platform_token": "The pod's Jupyter makes its own token, so none can be made anew for it.",
    "no_provider": "No sign-in provider is set (`oidc.issuer`).",
    "no_runtime": "Nothing that is connected here can do this: no machine or cluster of the kind that it needs.",
    "no_server": "No server serves the runtime that this pod is on, or that could run it, at the moment.",
    "no_token_yet": "Jupyter has not told its token yet; try again when the pod is ready.",
    "not_found": "It does not exist, or is not the caller's to see.",
    "not_running": "Commands run in a pod while its own process does, and it does not, or shall be stopped.",
    "not_supported": "What runs this pod does not have the ability.",
    "not_yours": "It is somebody else's, which the caller sees and may not change.",
    "not_yourself": "Nobody suspends or deletes themselves; another administrator can.",
    "owner_needed": "Who asks is no user, so it has to be said for whom the pod is.",
    "pod_deleting": "The pod is being deleted.",
    "preset_key": "This key comes from the setting `admin_api_key`; change it there.",
    "provider_refused": "The sign-in provider did not sign them in, or its answer cannot be believed.",
    "provider_unavailable": "The sign-in provider does not answer now.",
    "restart_required": "The change needs a new run of the pod; send `restart: true` to have it now.",
    "scope_missing": "The API key lacks the scope that this needs.",
    "secret_in_use": "Pods use the secret and would not start without it; the sentence names them. `force` deletes it.",
    "session_needed": "An API key cannot do this; it needs somebody signed in.",
    "sign_in_gone": "This sign-in was begun in another browser, or is too old. Begin it again.",
    "starter_template": "The template comes with Neuropod and stays as it is; duplicate it.",
    "suspended": "The account is suspended.",
    "throttled": "Too many tries; the header Retry-After says when the next one is looked at.",
    "too_large": "The body is larger than this route takes.",
    "too_many_execs": "As many commands and terminals as `limits.execs_per_pod` allows run in this pod; end one first.",
    "too_many_pods": "The owner has as many pods as the setting `limits.pods_per_user` allows.",
    "too_many_ports": "The pod has as many ports as the setting `limits.ports_per_pod` allows.",
    "too_many_registries": "The person has as many registries as the setting `limits.registries_per_user` allows.",
    "too_many_secrets": "The person has as many secrets as the setting `limits.secrets_per_user` allows.",
    "too_many_templates": "One keeps no more templates; delete one.",
    "too_many_volumes": "The person has as many volumes as the setting `limits.volumes_per_user` allows.",
    "unauthenticated": "Nobody known is asking: sign in, or send an API key.",
    "unavailable": "What would answer cannot be reached now; the request was all right.",
    "upgrade_required": "This is spoken over a WebSocket: send `Upgrade: websocket`.",
    "unknown_subprotocol": "The WebSocket was offered in subprotocols that are not spoken here; `neuropod.exec.v1` is.",
    "unstorable_text": "A text holds a null byte or half a character. Nothing here has such a name.",
    "user_deleting": "The user is being deleted; there is no way back.",
    "user_inactive": "The user is suspended; reinstate them first.",
    "volume_attached": "Pods attach the volume; the sentence names them. It can be deleted once none does.",
    "wrong_credentials": "E-mail address or password is wrong.",
    "wrong_host": "Signing in is done on the console's host, not on the API's.",
    "wrong_origin": "The request comes from a page of another origin (SECURITY 17).",
}

FIELD_CODES = {
    "cursor": "is not a cursor that this list gave",
    "elsewhere": "the volume is on another runtime than the pod",
    "email": "is no e-mail address",
    "empty": "needs at least one",
    "guessable": "is among the first passwords that somebody would try",
    "missing": "is needed",
    "name": "is no name: 1 to 100 printable characters",
    "no_runtime": "no runtime here can run this",
    "no_secret": "names a secret that the owner does not have",
    "not_allowed": "is not among what may be run there",
    "not_empty": "must be empty here",
    "not_one_of": "is none of the values that are known",
    "not_a_client": "pods are made for clients; administrators make their own",
    "null_byte": "holds a null byte",
    "one_of": "exactly one of these fields is needed",
    "past": "lies in the past",
    "pattern": "is not written as the rule says",
    "range": "is below the least or above the most",
    "reserved": "is a name that the platform keeps for itself",
    "role": "needs another role",
    "shrinks": "a volume cannot be made smaller",
    "size_differs": "the volume exists with another size; grow it by itself",
    "subject": "is no subject: 1 to 255 printable characters",
    "taken": "is in use",
    "too_large": "is too large in all",
    "too_long": "is too long",
    "too_many": "are too many",
    "too_short": "is too short",
    "twice": "is named twice",
    "type": "is not of the right type or form",
    "unused": "is named where nothing uses it",
    "unknown": "is not a field of this request, or names nothing that exists",
    "wrong": "is not the present one",
}

_HEAD = """\
# Errors

<!-- Made by tools/errors_reference.py; a test fails when it is not up to date. -->

An error is a problem as RFC 9457 has it (`application/problem+json`):

    {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "name 'lab' is taken", "code": "name_taken",
     "fields": [{"field": "name", "code": "taken", "message": "name 'lab' is taken"}]}

`code` is stable and for programs, `detail` is a sentence for people and may change. `fields` names every wrong field of
the request at once, by its path (`ports.0.port`). A request that is answered with an error changed nothing. Where the
framework itself refuses (a method that a path does not have), the code is the status's phrase: `method_not_allowed`.

## Codes

| code | status | meaning |
|---|---|---|
"""

_REASONS = """
## Reasons of pods

`status` says where a pod is, `reason` why, `message` the same in a sentence that may hold details.

| reason | meaning |
|---|---|
"""


def page() -> str:
    """Return the page."""
    statuses = _statuses()
    codes = "".join(f"| `{code}` | {statuses[code]} | {CODES[code]} |\n" for code in sorted(CODES))
    fields = "".join(f"| `{code}` | {told} |\n" for code, told in sorted(FIELD_CODES.items()))
    reasons = "".join(f"| `{name}` | {told} |\n" for name, told in reasons_told().items())
    return f"{_HEAD}{codes}\n## Codes of fields\n\n| code | the field |\n|---|---|\n{fields}{_REASONS}{reasons}"


def codes_in_source() -> set[str]:
    """Return every code of an error that the source can answer with."""
    return set(_statuses())


def field_codes_in_source() -> set[str]:
    """Return every code of a wrong field."""
    found = {"missing", "unknown", "not_one_of", "type"}  # what is made of the framework's own findings
    for call in _calls():
        if _name(call) == "FieldError" and len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
            found.add(str(call.args[1].value))
    return found


def reasons_told() -> dict[str, str]:
    """Return each reason with the remark beside it in the source."""
    told = {}
    for line in inspect.getsource(Reason).splitlines():
        name, _, rest = line.strip().partition(" = ")
        if name in Reason.__members__:
            value, _, remark = rest.partition("#")
            told[ast.literal_eval(value.strip())] = remark.strip()
    return told


def _statuses() -> dict[str, str]:
    """Return every code with the statuses it comes with."""
    classes = {
        name: one
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.NeuropodError)
    }
    found: dict[str, set[int]] = {}
    for one in classes.values():
        found.setdefault(one.code, set()).add(one.status)
    for call in _calls():
        if _name(call) in classes:
            for keyword in call.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    found.setdefault(str(keyword.value.value), set()).add(classes[_name(call)].status)
    found["internal"] = {500}  # set where they are made, in api
    found["too_large"] = {413}
    return {code: ", ".join(str(status) for status in sorted(statuses)) for code, statuses in found.items()}


def _calls() -> Iterator[ast.Call]:
    for package in _ANSWERING:
        for file in sorted((SOURCE / package).rglob("*.py")):
            yield from (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


if __name__ == "__main__":
    PAGE.write_text(page())
