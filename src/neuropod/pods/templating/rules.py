"""The rules for what a template may say, field by field, pure. Called by service, which gathers all that is wrong.

Where a field is a pod's, the pod's own rule holds (`pods.rules`).
"""

import re
from collections.abc import Sequence

from neuropod.kit.errors import FieldError
from neuropod.kit.identifiers import POD_NAME_RULE, is_pod_name
from neuropod.kit.secrets import Secret
from neuropod.pods import rules
from neuropod.pods.launch import PortRequest
from neuropod.templates.snapshot import LocalRecipe, TemplateSnapshot
from neuropod.words import ReadyWhen

MAX_TITLE = 80
MAX_DESCRIPTION = 300
MAX_README_BYTES = 32 * 1024
MAX_PACKAGES = 500
VOLUME_GB = (1, 150)
LIMIT_SECONDS = (60, 366 * 24 * 3600)

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
_PACKAGE = re.compile(rf"{_NAME}(?:\[{_NAME}(?:,{_NAME})*\])?==[0-9A-Za-z][0-9A-Za-z.!+]{{0,62}}")


def wrong_texts(title: str, description: str, readme: str) -> Sequence[FieldError]:
    """Check the texts for people."""
    wrong: list[FieldError] = []
    if not (0 < len(title) <= MAX_TITLE and title.isprintable() and title.strip() == title):
        rule = f"a title has 1 to {MAX_TITLE} printable characters, no blanks at its ends"
        wrong.append(FieldError("title", "pattern", rule))
    if len(description) > MAX_DESCRIPTION or not (description.isprintable() or not description):
        rule = f"a description is one line of at most {MAX_DESCRIPTION} printable characters"
        wrong.append(FieldError("description", "pattern", rule))
    if "\0" in readme or len(readme.encode(errors="replace")) > MAX_README_BYTES:
        rule = f"a readme has at most {MAX_README_BYTES // 1024} KiB and no null byte"
        wrong.append(FieldError("readme", "too_large", rule))
    return wrong


def wrong_snapshot(asked: TemplateSnapshot, *, port_limit: int) -> Sequence[FieldError]:
    """Check what the template says of a pod."""
    wrong: list[FieldError] = []
    if not is_pod_name(asked.name):
        wrong.append(FieldError("name", "pattern", f"a template's name is {POD_NAME_RULE}"))
    if asked.image is None and asked.recipe is None:
        sentence = "a template has an image, a recipe, or both"
        wrong += [FieldError("image", "one_of", sentence), FieldError("recipe", "one_of", sentence)]
    if asked.image is not None:
        wrong += rules.wrong_image(asked.image)
    wrong += rules.wrong_command(asked.command)
    wrong += _wrong_recipe(asked.recipe)
    wrong += rules.wrong_env({name: Secret(value) for name, value in asked.env.items()}, asked.env_secrets)
    for variable, secret in asked.env_secrets.items():
        wrong += rules.wrong_variable(secret, f"env.{variable}.secret")
    wrong += rules.wrong_ports(
        [PortRequest(port.port, port.name or None, port.access) for port in asked.ports], limit=port_limit
    )
    wrong += rules.wrong_range("container_disk_gb", asked.container_disk_gb, rules.CONTAINER_DISK_GB, " GB")
    if asked.volume_gb is not None:
        wrong += rules.wrong_range("volume_gb", asked.volume_gb, VOLUME_GB, " GB")
    for field in ("stop_after_seconds", "idle_stop_after_seconds"):
        value = getattr(asked, field)
        if value is not None:
            wrong += rules.wrong_range(field, value, LIMIT_SECONDS, " seconds")
    return [*wrong, *_wrong_readiness(asked)]


def _wrong_recipe(recipe: LocalRecipe | None) -> Sequence[FieldError]:
    if recipe is None:
        return ()
    wrong: list[FieldError] = []
    for index, package in enumerate(recipe.packages[:MAX_PACKAGES]):
        if not _PACKAGE.fullmatch(package):
            rule = "a package is its name and exact version, name==1.2.3: no address, path or option"
            wrong.append(FieldError(f"recipe.packages.{index}", "pattern", rule))
    if len(recipe.packages) > MAX_PACKAGES:
        wrong.append(FieldError("recipe.packages", "too_many", f"a recipe has at most {MAX_PACKAGES} packages"))
    wrong.extend(
        FieldError(f"recipe.{error.field}", error.code, error.message) for error in rules.wrong_command(recipe.command)
    )
    return wrong


def _wrong_readiness(asked: TemplateSnapshot) -> Sequence[FieldError]:
    if asked.ready_when is ReadyWhen.PORT and asked.ready_port is None:
        return (FieldError("ready_port", "missing", "ready_when 'port' needs ready_port"),)
    if asked.ready_when is not ReadyWhen.PORT and asked.ready_port is not None:
        return (FieldError("ready_port", "unused", "ready_port counts only where ready_when is 'port'"),)
    if asked.ready_port is not None:
        return rules.wrong_range("ready_port", asked.ready_port, (1, 65535))
    return ()
