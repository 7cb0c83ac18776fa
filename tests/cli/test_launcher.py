"""`./neuropod` and the choice between the user's and the machine's commands."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neuropod.__main__ import MACHINE_COMMANDS, ring_of
from neuropod.cli.main import MACHINE_COMMANDS as TOLD
from neuropod.operate.main import root as machine_root

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("sqlalchemy", "fastapi", "starlette", "uvicorn", "alembic", "cryptography", "structlog", "pydantic_settings")


@pytest.mark.parametrize(
    ("words", "environ", "ring"),
    [
        ([], {}, "cli"),
        (["pod", "ls"], {}, "cli"),
        (["--help"], {}, "cli"),
        (["up"], {}, "operate"),
        (["admin", "sign-in-link"], {}, "operate"),
        (["pod", "show", "up"], {}, "cli"),
        ([], {"_NEUROPOD_COMPLETE": "bash_complete", "COMP_WORDS": "neuropod admin "}, "operate"),
        ([], {"_NEUROPOD_COMPLETE": "bash_complete", "COMP_WORDS": "neuropod po"}, "cli"),
    ],
)
def test_the_first_word_chooses(words, environ, ring):
    assert ring_of(words, environ) == ring


def test_all_machine_commands_are_known_to_the_launcher_and_told_in_the_users_help():
    assert MACHINE_COMMANDS == set(TOLD) == set(machine_root.list_commands(None))


def test_the_users_commands_load_neither_a_web_framework_nor_the_database():
    code = (
        "import sys; from neuropod.__main__ import ring_of\n"
        "import neuropod.cli.main, neuropod.cli.pods, neuropod.cli.keys, neuropod.cli.signing_in\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert ran.stdout == "[]\n", ran.stderr


def test_choosing_loads_nothing_of_ours():
    code = "import sys, neuropod.__main__; print(sorted(name for name in sys.modules if name.startswith('neuropod')))"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert ran.stdout == "['neuropod', 'neuropod.__main__']\n", ran.stderr


# The script


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the launcher and an interpreter that tells how it was called."""
    (tmp_path / "checkout" / ".venv" / "bin").mkdir(parents=True)
    launcher = tmp_path / "checkout" / "neuropod"
    launcher.write_bytes((ROOT / "neuropod").read_bytes())
    launcher.chmod(0o755)
    (tmp_path / "checkout" / ".venv" / ".ready").touch()  # what `make` writes when set-up came to its end
    return tmp_path / "checkout"


def _interpreter(checkout: Path, script: str) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def _run(*words: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", **environ}
    return subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("interpreter", [False, True])
def test_it_says_what_to_run_where_set_up_did_not_come_to_its_end(checkout: Path, tmp_path: Path, interpreter: bool):
    (checkout / ".venv" / ".ready").unlink()
    if interpreter:  # no network, or Ctrl-C: the interpreter is there and its packages are not
        _interpreter(checkout, "echo 'No module named neuropod' >&2; exit 1")

    ran = _run(checkout / "neuropod", "pod", "ls", cwd=tmp_path)

    assert ran.returncode == 1
    assert "is not set up yet" in ran.stderr
    assert "make up" in ran.stderr
    assert str(checkout) in ran.stderr


def test_it_needs_no_activated_environment_and_passes_words_and_exit_code_on(checkout: Path, tmp_path: Path):
    _interpreter(checkout, 'for word in "$@"; do echo "[$word]"; done; echo "$NEUROPOD_PROGRAM"; exit 7')

    ran = _run(checkout / "neuropod", "pod", "create", "two words", "", "*", cwd=tmp_path)

    words = ["-I", "-m", "neuropod", "pod", "create", "two words", "", "*"]
    assert ran.returncode == 7
    assert ran.stdout.splitlines() == [*(f"[{word}]" for word in words), str(checkout / "neuropod")]


def test_it_finds_its_checkout_through_links(checkout: Path, tmp_path: Path):
    _interpreter(checkout, "echo found")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "first").symlink_to("../checkout/neuropod")
    (tmp_path / "bin" / "neuropod").symlink_to("first")

    assert _run(tmp_path / "bin" / "neuropod", cwd=Path("/")).stdout == "found\n"


def test_it_is_replaced_by_the_program_so_that_signals_reach_it(checkout: Path, tmp_path: Path):
    _interpreter(checkout, 'trap "echo got it; exit 5" TERM; echo $$; while :; do sleep 0.05; done')

    with subprocess.Popen([checkout / "neuropod"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{process.pid}\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == "got it\n"
            assert process.wait(10) == 5
        finally:
            process.kill()


def test_the_folder_one_stands_in_decides_nothing(tmp_path: Path):
    (tmp_path / "neuropod").mkdir()
    (tmp_path / "neuropod" / "__init__.py").write_text("print('hijacked')")
    (tmp_path / "click.py").write_text("print('hijacked')")

    ran = _run(ROOT / "neuropod", "--version", cwd=tmp_path, HOME=str(tmp_path), PYTHONPATH=str(tmp_path))

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("neuropod, version ")


def test_a_pipe_that_is_closed_ends_it_quietly(tmp_path: Path):
    command = f"{sys.executable} -m neuropod --help | true; echo ${{PIPESTATUS[0]}}"

    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "Traceback" not in ran.stderr
    assert ran.stdout.strip() in {"0", "1"}
