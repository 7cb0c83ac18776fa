"""`template create`, `edit`, `duplicate`, `rm`: files into requests, as far as a played server sees them."""

from pathlib import Path
from typing import Any

from support.commands import CommandLine, PlayedServer


def template_json(**changes: Any) -> dict[str, Any]:
    made = {"id": "tpl_1", "name": "mine", "title": "Mine", "description": "", "readme": "", "author": "usr_1",
            "public": False, "image": None, "command": None, "env": {}, "ports": [], "gpu_type": "cpu",
            "container_disk_gb": 10, "volume_gb": 10, "jupyter": "off", "runnable": True}  # fmt: skip
    return made | changes


def test_a_toml_file_becomes_a_template(line: CommandLine, played: PlayedServer, tmp_path: Path):
    played.on("POST", "/templates", template_json(), status=201)
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\ntitle = "Mine"\n[recipe]\npackages = ["idna==3.10"]\ncommand = ["python3"]\n'
        '[[ports]]\nport = 8000\nname = "Web"\n'
    )

    ran = line.run("template", "create", "--file", str(file))

    assert (ran.exit_code, ran.out) == (0, "mine: written\n")
    assert played.bodies("POST", "/templates") == [
        {"name": "mine", "title": "Mine", "recipe": {"packages": ["idna==3.10"], "command": ["python3"]},
         "ports": [{"port": 8000, "name": "Web"}]}
    ]  # fmt: skip


def test_only_fields_in_the_file_are_changed(line: CommandLine, played: PlayedServer, tmp_path: Path):
    played.on("PATCH", "/templates/mine", template_json(title="Other"))
    file = tmp_path / "changes.json"
    file.write_text('{"title": "Other", "image": null}')

    assert line.run("template", "edit", "mine", "-f", str(file)).exit_code == 0
    assert played.bodies("PATCH", "/templates/mine") == [{"title": "Other", "image": None}]


def test_a_file_that_is_wrong_is_told_before_anything_is_sent(line: CommandLine, played: PlayedServer, tmp_path: Path):
    unknown, broken = tmp_path / "unknown.toml", tmp_path / "broken.toml"
    unknown.write_text('name = "mine"\ntitle = "Mine"\nowner = "me"\n')
    broken.write_text("name = \n")

    ran = [line.run("template", "create", "--file", str(file)) for file in (unknown, broken, tmp_path / "none.toml")]

    assert [one.exit_code != 0 for one in ran] == [True, True, True]
    assert "owner" in ran[0].err
    assert "cannot be understood" in ran[1].err
    assert "cannot be read" in ran[2].err
    assert played.bodies("POST", "/templates") == []


def test_templates_are_duplicated_and_deleted(line: CommandLine, played: PlayedServer):
    played.on("POST", "/templates/jupyterlab/duplicate", template_json(), status=201)
    played.on("DELETE", "/templates/mine", None, status=204)

    copied = line.run("template", "duplicate", "jupyterlab", "mine")
    deleted = line.run("template", "rm", "mine")

    assert copied.out == "mine: a copy of jupyterlab\n"
    assert played.bodies("POST", "/templates/jupyterlab/duplicate") == [{"name": "mine"}]
    assert deleted.out == "mine: deleted\n"


def test_a_template_that_names_secrets_is_written_and_shown(line: CommandLine, played: PlayedServer, tmp_path: Path):
    env = {"A": "b", "TOKEN": {"secret": "HF_TOKEN"}}
    played.on("POST", "/templates", template_json(env=env), status=201)
    played.on("GET", "/templates/mine", template_json(env=env))
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ntitle = "Mine"\nimage = "x"\n[env]\nA = "b"\nTOKEN = {secret = "HF_TOKEN"}\n')

    written = line.run("template", "create", "--file", str(file))
    shown = line.run("template", "show", "mine")

    assert written.exit_code == 0, written.err
    assert played.bodies("POST", "/templates")[0]["env"] == env
    assert "A=b, TOKEN (your secret HF_TOKEN)" in shown.out
    assert "its author and administrators" in shown.out
