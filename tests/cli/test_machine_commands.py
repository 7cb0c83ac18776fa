"""The machine's commands on a real server process, with the fake runtime so that launching costs nothing."""

import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import httpx
import pytest

from neuropod.kit.terminal.exits import Exit
from neuropod.operate.asked import passed_over
from support.servers import Server, running_server, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("machine-commands")]


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(mkdtemp(prefix="npm"))  # short, since sockets live below it
    yield folder
    rmtree(folder)


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    folder = Path(mkdtemp(prefix="npm"))
    with running_server(folder / "data", fake_runtime="true") as server:
        yield server
    rmtree(folder)


@pytest.fixture
def server(one_server: Server) -> Server:
    """A running server; started anew where an earlier test ended it, since starting takes seconds."""
    if _process(one_server).poll() is not None:
        one_server.start()
    return one_server


@pytest.fixture
def no_server(folder: Path) -> Iterator[Server]:
    """A data directory on which no server runs, and none ever did."""
    server = Server(folder / "data", fake_runtime="true")
    yield server
    server.api.close()


def _said(server: Server) -> str:
    return server.log.read_text()


def _profile(server: Server) -> Path:
    return server.data_dir.parent / "config" / "neuropod" / "profile.toml"


def _sign_in(server: Server, link: str) -> int:
    """Use a one-time link as the page that it opens does; return the status."""
    url, _, token = link.partition("#")
    host = url.split("/")[2]
    answer = httpx.post(
        f"{server.url}/sign-in/link", data={"token": token}, headers={"Host": host, "Origin": f"http://{host}"}
    )
    return answer.status_code


def _process(server: Server) -> subprocess.Popen[bytes]:
    assert server.process is not None
    return server.process


def test_what_a_person_does_from_up_to_down(server: Server):
    said = wait_for(lambda: _said(server) if "Ctrl-C" in _said(server) else None, "what `up` says")

    # up prints the address, a link that works once, what the machine isolates, and lets the commands in
    assert f"http://app.neuropod.localhost:{server.port}" in said
    assert "mode fake" in said
    link = re.search(r"http\S+/sign-in/link#\S+", said)
    assert link is not None
    assert [_sign_in(server, link.group()), _sign_in(server, link.group())] == [303, 401]
    assert stat.S_IMODE(_profile(server).stat().st_mode) == 0o600

    # the commands work without further ado, also by the name that only browsers resolve
    created = server.run("pod", "create", "lab", "--template", "jupyterlab", "--wait")
    assert (created.returncode, created.stderr.splitlines()[-3:][0]) == (0, "lab: ready"), created
    listed = server.run("pod", "ls")
    assert re.search(r"^lab +running", listed.stdout, re.MULTILINE), listed
    opened = server.run("pod", "open", "lab", "8888")
    assert re.fullmatch(r"http://lab-\w{8}-8888\.neuropod-pods\.localhost:\d+/lab\?token=\S+\n", opened.stdout)
    server.env |= {"NEUROPOD_URL": f"http://app.neuropod.localhost:{server.port}"}
    assert server.run("whoami").returncode == Exit.NOT_SIGNED_IN  # another address gets no key
    server.env["NEUROPOD_API_KEY"] = server.env["NEUROPOD_ADMIN_API_KEY"]
    assert server.run("whoami").returncode == 0
    del server.env["NEUROPOD_URL"], server.env["NEUROPOD_API_KEY"]

    # stop and start: the same address
    assert server.run("pod", "stop", "lab", "--wait").returncode == 0
    assert server.run("pod", "start", "lab", "--wait").returncode == 0
    assert server.run("pod", "open", "lab", "8888").stdout == opened.stdout

    # a shell completes names of commands and pods
    completing = {"_NEUROPOD_COMPLETE": "bash_complete", "COMP_WORDS": "neuropod pod show ", "COMP_CWORD": "3"}
    server.env |= completing
    assert server.run().stdout == "plain,lab\n"
    for name in completing:
        del server.env[name]

    # Ctrl-C leaves pods running, and says so
    server.stop()
    assert _process(server).returncode == 0
    assert "Pods run on" in _said(server)
    unreachable = server.run("pod", "ls")
    assert (unreachable.returncode, "neuropod up" in unreachable.stderr) == (Exit.UNREACHABLE, True)

    # without a server the same acts work on the installation
    assert server.run("admin", "sign-in-link").stdout.startswith("http://app.neuropod.localhost")
    assert "not running" in server.run("doctor").stdout

    # up again: the same pods; down ends workloads and server, and leaves the wish
    server.start()
    down = server.run("down")
    assert (down.returncode, _process(server).wait(30)) == (0, 0), down
    assert "All workloads were ended" in _said(server)
    server.start()
    server.wait_for_status("lab", "running")

    # down --stop-pods leaves them stopped
    stopped = server.run("down", "--stop-pods", "--json")
    assert json.loads(stopped.stdout)["pods_stopped"] == 1
    _process(server).wait(30)
    server.start()
    assert server.pod("lab")["want"] == "stopped"
    assert server.run("pod", "rm", "lab", "--wait").returncode == 0


def test_other_users_of_the_machine_find_no_way_to_peoples_files(folder: Path):
    data = folder / "data"
    data.mkdir()
    data.chmod(0o777)

    with running_server(data, fake_runtime="true"):
        open_to_others = [
            path.relative_to(folder)
            for path in (data, *data.iterdir(), Path(f"{data}.key"))
            if stat.S_IMODE(path.stat().st_mode) & 0o077 and path.name != "cache"
        ]

    assert open_to_others == []


def test_a_second_up_names_the_process_of_the_first(server: Server):
    second = server.run("up")
    elsewhere = subprocess.run(
        server.command("up"),
        env=server.env | {"NEUROPOD_DATA_DIR": str(server.data_dir.with_name("other"))},
        cwd=server.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert second.returncode == elsewhere.returncode == Exit.CONFLICT
    assert f"process {_process(server).pid}" in second.stderr
    assert f"port {server.port} of 127.0.0.1 is in use" in elsewhere.stderr
    assert "Traceback" not in second.stderr + elsewhere.stderr


def test_people_are_made_by_the_machines_owner(server: Server):
    made = server.run("admin", "create-user", "ada@example.org", "--json")
    again = server.run("admin", "create-user", "Ada@example.org")
    wrong = server.run("admin", "create-user", "ada")
    unknown = server.run("admin", "sign-in-link", "bob@example.org")
    link = server.run("admin", "sign-in-link", "ada@example.org")

    assert json.loads(made.stdout)["role"] == "client"
    assert [again.returncode, wrong.returncode, unknown.returncode] == [Exit.CONFLICT, Exit.USAGE, Exit.NOT_FOUND]
    assert "neuropod admin sign-in-link EMAIL" in again.stderr
    assert _sign_in(server, link.stdout.strip()) == 303


def test_after_a_restore_somebody_confirms_once(server: Server):
    server.stop()
    with sqlite3.connect(server.data_dir / "db" / "neuropod.sqlite3") as database:
        database.execute("UPDATE installation SET epoch = 3")
    database.close()

    first, second = server.run("admin", "confirm-epoch"), server.run("admin", "confirm-epoch")

    assert (first.returncode, second.returncode) == (0, 0)
    assert "Confirmed: epoch 3" in first.stdout
    assert "Nothing to confirm" in second.stdout


def test_a_running_server_answers_doctor_and_confirms_too(server: Server):
    seen = json.loads(server.run("doctor", "--json").stdout)

    assert seen["running"]
    assert {part["name"] for part in seen["parts"]} >= {"pods", "resync"}
    assert server.run("admin", "confirm-epoch").returncode == 0


def test_a_killed_server_is_no_server(server: Server):
    server.kill()

    link = server.run("admin", "sign-in-link")

    assert (link.returncode, "sign-in/link#" in link.stdout) == (0, True), link


def test_the_profile_in_force_is_not_pushed_aside(folder: Path):
    config = folder / "config" / "neuropod"
    config.mkdir(parents=True)
    chosen = 'current = "work"\n[profiles.work]\nurl = "https://app.example.org"\nkey = "npk_work"\n'
    (config / "profile.toml").write_text(chosen)
    (config / "profile.toml").chmod(0o600)

    with running_server(folder / "data", fake_runtime="true") as server:
        wait_for(lambda: "--profile machine" in _said(server), "the word about profiles")
        shown = json.loads(server.run("profile", "ls", "--json").stdout)
        assert server.run("pod", "ls", "--profile", "machine").returncode == 0

    assert [(one["name"], one["in_force"]) for one in shown] == [("work", True), ("machine", False)]


# Where no server runs


@pytest.mark.parametrize("words", [("down",), ("admin", "sign-in-link"), ("admin", "confirm-epoch")], ids=" ".join)
def test_nothing_is_made_where_there_is_no_installation(no_server: Server, words):
    ran = no_server.run(*words)

    assert ran.returncode == Exit.NOT_FOUND
    assert "neuropod up" in ran.stderr
    assert not no_server.data_dir.exists()


def test_doctor_on_a_fresh_machine_leaves_nothing_behind(no_server: Server):
    before = set(Path(os.environ.get("TMPDIR", "/tmp")).glob("npd*"))

    ran = no_server.run("doctor")

    assert ran.returncode == 0, ran
    assert "mode fake" in ran.stdout
    assert list(no_server.data_dir.parent.iterdir()) == []
    assert set(Path(os.environ.get("TMPDIR", "/tmp")).glob("npd*")) <= before


def test_wrong_settings_are_named_all_at_once(no_server: Server):
    no_server.env |= {"NEUROPOD_PORT": "99999", "NEUROPOD_LOCAL__MODE": "strong"}

    ran = no_server.run("up")

    assert ran.returncode == Exit.USAGE
    assert "NEUROPOD_PORT: " in ran.stderr
    assert "NEUROPOD_LOCAL__MODE: " in ran.stderr


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_was_meant():
    environ = dict.fromkeys(
        ["PATH", "NEUROPOD_PORT", "NEUROPOD_LOCAL__MODE", "NEUROPOD_URL", "NEUROPOD_TEST_SEED"], "1"
    )
    environ |= dict.fromkeys(["NEUROPOD_DATADIR", "NEUROPOD_PACKAGE_INDEX_URL", "NEUROPOD_COLOUR"], "secret")

    assert passed_over(environ) == [
        "NEUROPOD_COLOUR is no setting and counts for nothing",
        "NEUROPOD_DATADIR is no setting and counts for nothing; is NEUROPOD_DATA_DIR meant?",
        "NEUROPOD_PACKAGE_INDEX_URL is no setting and counts for nothing; is NEUROPOD_LOCAL__PACKAGE_INDEX_URL meant?",
    ]


def test_up_says_so_and_starts_all_the_same(folder: Path):
    server = Server(folder / "data", fake_runtime="true")
    server.env["NEUROPOD_DATADIR"] = "/elsewhere"
    server.start()
    try:
        assert "is NEUROPOD_DATA_DIR meant?" in wait_for(lambda: _said(server) or None, "what `up` says")
    finally:
        server.stop()
        server.api.close()


def test_a_file_of_settings_that_is_no_toml_is_named(no_server: Server):
    Path(no_server.env["NEUROPOD_CONFIG"]).write_text("port = ")

    ran = no_server.run("up")

    assert (ran.returncode, "neuropod.toml is not TOML" in ran.stderr) == (Exit.USAGE, True), ran.stderr


def test_plain_http_to_the_network_is_refused_with_what_to_do(no_server: Server):
    no_server.env["NEUROPOD_HOST"] = "0.0.0.0"

    ran = no_server.run("up")

    assert (ran.returncode, "NEUROPOD_TLS_CERT_FILE" in ran.stderr) == (Exit.FAILED, True), ran.stderr


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://neuropod:hunter2@127.0.0.1:9/neuropod", "127.0.0.1 port 9 "),
        ("postgresql://neuropod:hunter2@nowhere.invalid/neuropod", "nowhere.invalid port 5432 "),
        ("postgresql://neuropod:hunter2@/neuropod?host=/nowhere", "this machine "),
    ],
)
def test_a_postgresql_that_does_not_answer_is_named_without_its_password(no_server: Server, url: str, named: str):
    no_server.env |= {"NEUROPOD_DATABASE_URL": url, "NEUROPOD_KEY_FILE": str(no_server.data_dir.parent / "a.key")}

    ran = no_server.run("up")

    assert ran.returncode == Exit.UNREACHABLE, ran.stderr
    assert f"PostgreSQL on {named}" in ran.stderr
    assert "hunter2" not in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_gateway_needs_a_server(no_server: Server):
    ran = no_server.run("gateway", "--listen", "127.0.0.1:0")
    wrong = no_server.run("gateway", "--listen", "everywhere")

    assert (ran.returncode, wrong.returncode) == (Exit.UNREACHABLE, Exit.USAGE)
    assert "neuropod up" in ran.stderr


def test_ctrl_c_while_it_starts_ends_it_at_once(no_server: Server):
    # Its port is bound first; a listener that never answers keeps nothing up.
    process = subprocess.Popen(
        # As a terminal starts it: a shell lets what runs in the background, and so its children, ignore Ctrl-C.
        ["env", "--default-signal=INT", *no_server.command("up")],
        env=no_server.env,
        cwd=no_server.data_dir.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Starting Neuropod …\n"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) in {0, Exit.INTERRUPTED}, rest
    assert "Traceback" not in rest
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", no_server.port)) != 0
