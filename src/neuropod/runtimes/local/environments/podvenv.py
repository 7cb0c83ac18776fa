"""A pod's own venv over its recipe's environment, laid out without a subprocess in a few milliseconds.

Called by the launcher inside the sandbox after the drop of privileges (or by the shim, in mode `none`): it writes only
below `venv`, which lies on the container disk. This module imports nothing of ours, so that it can be bound into a
sandbox as a single file.

The pod's venv is first on PATH and its packages come first on `sys.path`; the environment's stand behind them, as a
system's do under `--system-site-packages`. Every script of the environment gets a twin here that starts the pod's
interpreter, so `jupyter`, `pip` and the kernels all see what `pip install` brought. Packages are not copied.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

VENV_PATH = "/opt/neuropod/venv"
"""Where the pod's own venv stands in every sandboxed pod: shebangs name it."""

_LINK_FILE = "neuropod_environment.pth"
_ACTIVATE = """\
# bash: source this; it only sets what a pod's processes have anyway
export VIRTUAL_ENV="{venv}"
export PATH="{venv}/bin:{environment}/bin:$PATH"
unset PYTHONHOME
hash -r 2>/dev/null
"""


def lay_out_pod_venv(environment: Path, venv: Path) -> None:
    """Write the venv at `venv`, over the environment at `environment`, both named as the pod's processes see them.

    A venv that is there already is left as it is: it holds what the user installed.
    """
    config = (environment / "pyvenv.cfg").read_text()
    if (venv / "pyvenv.cfg").exists():
        return
    found = re.search(r"^version_info = (\d+\.\d+)", config, re.MULTILINE)
    if found is None:
        raise ValueError(f"{environment} is not an environment of ours")
    python = f"python{found[1]}"
    packages = venv / "lib" / python / "site-packages"
    scripts = venv / "bin"
    packages.mkdir(parents=True)
    scripts.mkdir()
    for name, target in (
        ("lib64", "lib"),
        ("bin/python", (environment / "bin/python").readlink()),
        ("bin/python3", "python"),
        (f"bin/{python}", "python"),
    ):
        (venv / name).symlink_to(target)
    behind = environment / "lib" / python / "site-packages"
    (packages / _LINK_FILE).write_text(f"import site; site.addsitedir({str(behind)!r})\n")
    _twin_scripts(environment, scripts, f"{venv}/bin/python")
    _copy_settings(environment / "etc", venv / "etc")
    (scripts / "activate").write_text(_ACTIVATE.format(venv=venv, environment=environment))
    # Last: its presence says that the rest is complete.
    (venv / "pyvenv.cfg").write_text(config)


def _twin_scripts(environment: Path, scripts: Path, interpreter: str) -> None:
    """Write each Python script of the environment again, started by the pod's own interpreter."""
    old = os.fsencode(environment / "bin")
    for entry in os.scandir(environment / "bin"):
        if not entry.is_file(follow_symlinks=False) or not os.access(entry.path, os.X_OK):
            continue
        text = Path(entry.path).read_bytes()
        first, newline, rest = text.partition(b"\n")
        if first.startswith(b"#!" + old + b"/python"):
            first = b"#!" + interpreter.encode()
        elif first == b"#!/bin/sh" and rest.startswith(b"'''exec' "):  # what is written where the path is long
            rest = rest.replace(old + b"/python", interpreter.encode(), 1)
        else:
            continue
        twin = scripts / entry.name
        twin.write_bytes(first + newline + rest)
        twin.chmod(0o755)


def _copy_settings(source: Path, target: Path) -> None:
    """Copy the environment's etc/ (a few small files), so that the owner can change what it says."""
    for folder, _, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir()
        for name in files:
            (here / name).write_bytes(Path(folder, name).read_bytes())


def pod_environment(
    environment: str, venv: str, *, index_url: str | None, ca_bundle: str | None, path: str = "/usr/bin:/bin"
) -> Mapping[str, str]:
    """Return the variables of a pod that runs on a recipe; what the owner sets comes over them.

    `index_url` is None where pods shall use pip's own default; credentials in it must have been taken out.
    """
    variables = {
        "PATH": f"{venv}/bin:{environment}/bin:{path}",
        "VIRTUAL_ENV": venv,
        # Jupyter looks below sys.prefix, which is the venv; what the environment brought lies beside it.
        "JUPYTER_PATH": f"{environment}/share/jupyter",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    if index_url is not None:
        variables |= {"PIP_INDEX_URL": index_url, "UV_DEFAULT_INDEX": index_url}
    if ca_bundle is not None:
        variables |= {"SSL_CERT_FILE": ca_bundle, "PIP_CERT": ca_bundle, "REQUESTS_CA_BUNDLE": ca_bundle}
    return variables
