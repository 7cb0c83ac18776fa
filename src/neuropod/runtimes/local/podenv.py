"""What a pod finds inside: which folders are bound where, and the variables it starts with. Pure; called by `shim`.

On the container disk lie `home`, `tmp`, `var-tmp` and `venv`; the volume is bound at its own path. What the owner set
comes over our variables; names that are ours alone were refused long before (SECURITY 10).
"""

from dataclasses import dataclass
from pathlib import Path

from neuropod.runtimes.local.environments import ENVIRONMENT_PATH, VENV_PATH, pod_environment
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.sandbox import HOME, USER_NAME, Bind

_PATH = "/usr/local/bin:/usr/bin:/bin"
_CA_INSIDE = "/run/neuropod/ca.crt"
_SEEN_INSIDE = ("/etc/ssl/certs/", "/etc/pki/tls/certs/", "/usr/")  # bundles there are bound anyway

DISK_FOLDERS = ("home", "tmp", "var-tmp", "venv")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on the host."""

    disk: Path
    volume: Path | None
    environment: Path | None


def binds_of(plan: Plan, places: Places) -> tuple[Bind, ...]:
    """Return what appears inside the sandbox beyond the system."""
    disk = places.disk
    binds = [
        Bind(str(disk / "home"), HOME, writable=True),
        Bind(str(disk / "tmp"), "/tmp", writable=True),  # noqa: S108 - inside the pod, on its own disk
        Bind(str(disk / "var-tmp"), "/var/tmp", writable=True),  # noqa: S108
    ]
    if places.environment is not None:
        binds += [
            Bind(str(places.environment), ENVIRONMENT_PATH),
            Bind(str(disk / "venv"), VENV_PATH, writable=True),
        ]
    if places.volume is not None and plan.volume is not None:
        binds.append(Bind(str(places.volume), plan.volume.path, writable=True))
    if plan.ca_bundle is not None and _ca_inside(plan.ca_bundle) == _CA_INSIDE:
        binds.append(Bind(plan.ca_bundle, _CA_INSIDE))
    binds += [Bind(source, node, device=True) for source, node in zip(device_sources(plan), plan.devices, strict=True)]
    binds += [Bind(path, path) for path in plan.driver_files]
    return tuple(binds)


def device_sources(plan: Plan) -> tuple[str, ...]:
    """Return where the host has the pod's device files, in the order of `plan.devices`."""
    return tuple(f"{plan.device_root.rstrip('/')}{node}" for node in plan.devices)


def _ca_inside(path: str) -> str:
    return path if path.startswith(_SEEN_INSIDE) else _CA_INSIDE


@dataclass(frozen=True, slots=True)
class Start:
    """How the launcher starts the command."""

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    venv: tuple[str, str] | None  # (environment, venv) to lay out, as the pod sees them


def start_of(plan: Plan, places: Places, secrets: dict[str, str]) -> Start:
    """Return the command with its environment; as the pod sees paths, which in mode `none` are the host's."""
    if plan.mode == "none":
        home, venv, environment = str(places.disk / "home"), str(places.disk / "venv"), str(places.environment)
        volume = None if places.volume is None else str(places.volume)
    else:
        home, venv, environment = HOME, VENV_PATH, ENVIRONMENT_PATH
        volume = None if plan.volume is None else plan.volume.path
    env = {
        "PATH": _PATH,
        "HOME": home,
        "USER": USER_NAME,
        "LOGNAME": USER_NAME,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "NEUROPOD_POD": plan.pod,
        "NEUROPOD_POD_NAME": plan.pod_name,
    }
    ca_bundle = plan.ca_bundle
    if ca_bundle is not None:
        ca_bundle = ca_bundle if plan.mode == "none" else _ca_inside(ca_bundle)
        env |= {"SSL_CERT_FILE": ca_bundle, "REQUESTS_CA_BUNDLE": ca_bundle}
    has_environment = places.environment is not None
    if has_environment:
        env |= pod_environment(environment, venv, index_url=plan.pod_index_url, ca_bundle=ca_bundle, path=_PATH)
    env |= secrets
    env |= _gpu_variables(plan)
    command = plan.command
    if plan.mode == "none" and volume is not None and plan.volume is not None:
        # There is no mount there: a word that is the volume's path, or below it, means the folder itself.
        command = tuple(_moved(word, plan.volume.path, volume) for word in command)
    return Start(command, env, volume or home, (environment, venv) if has_environment else None)


def _gpu_variables(plan: Plan) -> dict[str, str]:
    """Return what programs read to find their GPUs.

    CUDA counts the GPUs that it can open, and in a sandbox those are the pod's alone: 0, 1, …, which every framework
    understands. Without a sandbox it counts all of the machine's, so there only the names are right.
    """
    named = ",".join(plan.gpus)
    counted = named if plan.mode == "none" else ",".join(str(number) for number in range(len(plan.gpus)))
    return {"NVIDIA_VISIBLE_DEVICES": named or "void", "CUDA_VISIBLE_DEVICES": counted}


def _moved(word: str, old: str, new: str) -> str:
    name, equals, value = word.rpartition("=")
    if value == old or value.startswith(f"{old}/"):
        return f"{name}{equals}{new}{value.removeprefix(old)}"
    return word
