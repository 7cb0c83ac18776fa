"""What to do about an error of the API: a line or two below the sentence, by its stable code."""

from collections.abc import Sequence

from neuropod.cli.commands import UserCall
from neuropod.client.localhost import is_loopback
from neuropod.kit.errors import InvalidInputError, NeuropodError, NotFoundError, UnauthenticatedError
from neuropod.kit.terminal.commands import Advice, Call

# Fields of requests and the options that fill them.
_OPTIONS = {
    "container_disk_gb": "--disk",
    "gpu_type": "--gpu-type",
    "gpu_count": "--gpu-count",
    "template": "--template",
    "image": "--image",
    "command": "--command",
    "volume": "--volume",
    "ports": "--port",
    "env": "--env",
    "jupyter": "--jupyter",
    "stop_after_seconds": "--stop-after",
    "idle_stop_after_seconds": "--idle-stop-after",
    "scopes": "--scope",
    "cpu_cores": "--cores",
    "memory_gb": "--memory",
    "gpus": "--gpus",
    "model_pattern": "--model",
    "gpu_resource": "--resource",
    "node_selector": "--node-label",
    "runtimes": "--runtime",
    "price": "--price",
    "username": "--username",
    "owner": "--for",
    "volumes": "--volumes",
}
_LISTS = {
    "template": "see which templates there are: neuropod template ls",
    "gpu_type": "see which types there are: neuropod gpu-type ls",
}
_MISSING = {
    "such pod": "see your pods: neuropod pod ls",
    "such user": "see which there are: neuropod user ls",
    "such session": "see which there are: neuropod session ls",
    "such template": "see which there are: neuropod template ls",
    "such port": "see which there are: neuropod port ls POD",
    "such registry": "see your registries: neuropod registry ls",
    "such secret": "see your secrets: neuropod secret ls",
    "such volume": "see your volumes: neuropod volume ls",
    "no key": "see which there are: neuropod key ls",
}
_OF_CODES = {
    "gpu_type_in_use": "withdraw it instead: neuropod gpu-type edit NAME --withdrawn",
    "name_taken": "choose another name, or look at what has it: neuropod pod ls",
    "secret_in_use": "delete it all the same: neuropod secret rm NAME --force",
    "volume_attached": "see them: neuropod pod ls; delete them, or: neuropod pod edit POD --volume OTHER --restart",
    "disk_full": "an administrator has to free some of the machine's disk",
    "restart_required": "say --restart to stop it and start it changed; what is on its container disk is lost",
    "limit_reached": "delete something that you do not need any more first",
    "session_needed": "this needs a person: do it in the browser",
    "wrong_host": "sign in at the console's own address",
    "not_neuropod": "is that the right address? neuropod profile ls",
    "admin_needed": "ask an administrator",
    "not_yourself": "let another administrator do it",
    "last_administrator": "make somebody else an administrator first: neuropod user role USER admin",
    "user_inactive": "let them in again: neuropod user reinstate USER",
    "preset_key": "it is set where the server is started",
}


def hints(error: NeuropodError, call: Call) -> Sequence[str]:
    """Return the lines."""
    assert isinstance(call, UserCall)
    if isinstance(error, InvalidInputError):
        return _about_fields(error)
    if error.code == "no_profile" and isinstance(error, NotFoundError):
        return ["see which there are: neuropod profile ls"]
    if isinstance(error, UnauthenticatedError):
        return _sign_in(call)
    if error.code == "unreachable":
        return _start(call)
    if error.code == "scope_missing":
        return ["see what this key may do: neuropod whoami", "get another one: neuropod login"]
    if isinstance(error, NotFoundError):
        return [hint for word, hint in _MISSING.items() if word in error.message]
    return [_OF_CODES[error.code]] if error.code in _OF_CODES else []


def _about_fields(error: InvalidInputError) -> list[str]:
    names = [wrong.field.partition(".")[0] for wrong in error.fields]
    lines = [_LISTS[name] for name in dict.fromkeys(names) if name in _LISTS]
    if any(wrong.code == "no_secret" for wrong in error.fields):
        lines.append("set it: neuropod secret set NAME; or give the variable a value: --env VARIABLE=VALUE")
    return lines


def _sign_in(call: UserCall) -> list[str]:
    try:
        target = call.target()
    except NeuropodError:
        return ["start a server on this machine: neuropod up", "or sign in to one that runs: neuropod login URL"]
    lines = [f"sign in: neuropod login {target.url}"]
    if is_loopback(target.url.partition("://")[2].rpartition(":")[0]):
        lines.append("or start this machine's server anew, which signs you in: neuropod up")
    return lines


def _start(call: UserCall) -> list[str]:
    try:
        target = call.target()
    except NeuropodError:
        return []
    if is_loopback(target.url.partition("://")[2].rpartition(":")[0]):
        return ["start it: neuropod up", "or talk to another server: neuropod profile ls"]
    return ["is the address right? neuropod profile ls"]


ADVICE = Advice(hints, _OPTIONS)
