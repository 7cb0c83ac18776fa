"""The rules for what a launch or an edit may say, field by field, pure.

Called by drafts and service, which gather all that is wrong into one answer; what needs the database (taken names,
types on offer, volumes) is asked there.
"""

import re
from collections.abc import Mapping, Sequence

from neuropod.kit.errors import FieldError
from neuropod.kit.identifiers import POD_NAME_RULE, is_pod_name
from neuropod.kit.secrets import Secret
from neuropod.pods.launch import PortRequest
from neuropod.templates.snapshot import TemplatePort
from neuropod.words import Access, JupyterMode

CONTAINER_DISK_GB = (1, 100)
GPU_COUNT = (1, 16)
JUPYTER_PORT = 8888
JUPYTER_PORT_NAME = "Jupyter Lab"
MAX_PORT_NAME = 40
MAX_IMAGE = 512
MAX_COMMAND_PARTS = 100
MAX_COMMAND_BYTES = 16 * 1024
MAX_ENV = 100
MAX_ENV_NAME = 128
MAX_ENV_BYTES = 64 * 1024

RESERVED_ENV = frozenset({"CUDA_VISIBLE_DEVICES", "JUPYTER_TOKEN"})
RESERVED_ENV_PREFIXES = ("NVIDIA_", "NEUROPOD_")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# The reference grammar of OCI registries (distribution/reference): host and port, lower-case path, tag, digest.
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?/)"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"{_HOST}?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)


def wrong_name(name: str) -> Sequence[FieldError]:
    """Check a pod's name."""
    return () if is_pod_name(name) else (FieldError("name", "pattern", f"a pod's name is {POD_NAME_RULE}"),)


def wrong_image(image: str) -> Sequence[FieldError]:
    """Check the syntax of an image's reference; whether it exists is found out when it is pulled."""
    if len(image) <= MAX_IMAGE and _IMAGE.fullmatch(image):
        return ()
    return (FieldError("image", "pattern", "an image is written like registry.example.org/name:tag or name:tag"),)


def wrong_command(command: Sequence[str] | None) -> Sequence[FieldError]:
    """Check a command: a list of arguments, no shell."""
    if command is None:
        return ()
    if not command or not command[0]:
        return (FieldError("command", "empty", "a command has at least the program; null takes the image's own"),)
    if len(command) > MAX_COMMAND_PARTS or sum(len(part.encode()) for part in command) > MAX_COMMAND_BYTES:
        sentence = f"a command has at most {MAX_COMMAND_PARTS} parts and {MAX_COMMAND_BYTES // 1024} KiB"
        return (FieldError("command", "too_long", sentence),)
    if any("\0" in part for part in command):
        return (FieldError("command", "null_byte", "a command cannot hold a null byte"),)
    return ()


def wrong_range(field: str, value: int, limits: tuple[int, int], unit: str = "") -> Sequence[FieldError]:
    """Check a number."""
    least, most = limits
    return () if least <= value <= most else (FieldError(field, "range", f"{field} is {least} to {most}{unit}"),)


def reserved_env(name: str) -> bool:
    """Tell whether a variable is set by Neuropod or decides over GPUs, and so cannot be given (SECURITY 10)."""
    return name.upper() in RESERVED_ENV or name.upper().startswith(RESERVED_ENV_PREFIXES)


def wrong_variable(name: str, field: str) -> Sequence[FieldError]:
    """Check a variable's name; secrets are named by the same rule."""
    if len(name) > MAX_ENV_NAME or not _ENV_NAME.fullmatch(name):
        rule = f"a variable's name is letters, digits and _, not a digit first, at most {MAX_ENV_NAME} characters"
        return (FieldError(field, "pattern", rule),)
    if reserved_env(name):
        rule = "NVIDIA_*, NEUROPOD_*, CUDA_VISIBLE_DEVICES and JUPYTER_TOKEN are set by Neuropod"
        return (FieldError(field, "reserved", rule),)
    return ()


def wrong_value(value: Secret, field: str) -> Sequence[FieldError]:
    """Check a variable's value. It is not repeated in the error."""
    if "\0" in value.reveal():
        return (FieldError(field, "null_byte", "a value cannot hold a null byte"),)
    return ()


def wrong_env(env: Mapping[str, Secret], env_secrets: Mapping[str, str] | None = None) -> Sequence[FieldError]:
    """Check names, values and size of the environment; whether its secrets are there is asked elsewhere."""
    env_secrets = env_secrets or {}
    wrong: list[FieldError] = []
    for name in (*env, *env_secrets):
        wrong += wrong_variable(name, f"env.{name[:MAX_ENV_NAME]}")
    for name, value in env.items():
        wrong += wrong_value(value, f"env.{name[:MAX_ENV_NAME]}")
    size = sum(len(name.encode()) + len(value.reveal().encode(errors="replace")) + 2 for name, value in env.items())
    if len(env) + len(env_secrets) > MAX_ENV or size > MAX_ENV_BYTES:
        rule = f"at most {MAX_ENV} variables and {MAX_ENV_BYTES // 1024} KiB in all"
        wrong.append(FieldError("env", "too_large", rule))
    return wrong


def wrong_ports(ports: Sequence[PortRequest], *, limit: int) -> Sequence[FieldError]:
    """Check the ports of a launch: numbers, names, each once, not too many."""
    wrong: list[FieldError] = []
    seen: set[int] = set()
    for index, port in enumerate(ports):
        wrong.extend(wrong_port(port, prefix=f"ports.{index}."))
        if port.port in seen:
            wrong.append(FieldError(f"ports.{index}.port", "twice", f"port {port.port} is named twice"))
        seen.add(port.port)
    if len(ports) > limit:
        wrong.append(FieldError("ports", "too_many", f"a pod exposes at most {limit} ports"))
    return wrong


def wrong_port(port: PortRequest, *, prefix: str = "") -> Sequence[FieldError]:
    """Check one port."""
    wrong: list[FieldError] = []
    if not 1 <= port.port <= 65535:
        wrong.append(FieldError(f"{prefix}port", "range", "a port is 1 to 65535"))
    if port.name is not None:
        wrong.extend(wrong_port_name(port.name, prefix=prefix))
    return wrong


def wrong_port_name(name: str, *, prefix: str = "") -> Sequence[FieldError]:
    """Check a port's name: it stands in lists, so it is short, printable, and not blank."""
    if 0 < len(name) <= MAX_PORT_NAME and name.isprintable() and name.strip() == name:
        return ()
    rule = f"a port's name has 1 to {MAX_PORT_NAME} printable characters, no blanks at its ends"
    return (FieldError(f"{prefix}name", "pattern", rule),)


def ports_with_defaults(
    asked: Sequence[PortRequest] | None, template: Sequence[TemplatePort], jupyter: JupyterMode
) -> Sequence[TemplatePort]:
    """Return the ports of a new pod with names and access filled in.

    None asked: the template's, and Jupyter's where it is on and the template opens nothing.
    """
    if asked is None:
        if template or jupyter is JupyterMode.OFF:
            return tuple(template)
        asked = [PortRequest(JUPYTER_PORT)]
    ports: list[TemplatePort] = []
    names = {port.name for port in asked if port.name is not None}
    for port in asked:
        ports.append(port_with_defaults(port, template, jupyter, names))
        names.add(ports[-1].name)
    return ports


def port_with_defaults(
    asked: PortRequest, template: Sequence[TemplatePort], jupyter: JupyterMode, names: set[str]
) -> TemplatePort:
    """Return a port with its name (the template's, `Jupyter Lab`, else `Service N` not in `names`) and its access."""
    own = next((port for port in template if port.port == asked.port), None)
    name = asked.name or (own.name if own is not None else None)
    if name is None and asked.port == JUPYTER_PORT and jupyter is not JupyterMode.OFF:
        name = JUPYTER_PORT_NAME
    number = 1
    while name is None:
        if f"Service {number}" not in names:
            name = f"Service {number}"
        number += 1
    return TemplatePort(asked.port, name, asked.access or (own.access if own is not None else Access.PRIVATE))
