"""Building, keeping and sharing recipe environments; the pod's venv over them."""

import ensurepip
import fcntl
import os
import signal
import stat
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuropod.runtimes.local.environments import (
    ENVIRONMENT_PATH,
    VENV_PATH,
    EnvironmentPlan,
    PrepareFailedError,
    environment_plan,
    host_index_url,
    lay_out_pod_venv,
    pod_environment,
    without_credentials,
)
from neuropod.runtimes.local.environments.build import seal
from neuropod.runtimes.local.environments.cache import evict
from neuropod.runtimes.local.environments.plan import PYPI, locked_list, system_interpreter
from neuropod.runtimes.local.plan import Plan
from support.package_index import Builder, PackageIndex, modes, wheel

HELLO = "hello-1.0-py3-none-any.whl"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    index = PackageIndex()
    yield index
    index.close()


@pytest.fixture
def builders(index: PackageIndex) -> Iterator[Callable[[str], Builder]]:
    made: list[Builder] = []

    def make(mode: str) -> Builder:
        made.append(Builder(mode, index))
        return made[-1]

    yield make
    for builder in made:
        builder.close()


@pytest.fixture(params=modes())
def builder(request: pytest.FixtureRequest, builders: Callable[[str], Builder]) -> Builder:
    return builders(request.param)


@pytest.fixture
def strongest(builders: Callable[[str], Builder]) -> Builder:
    return builders(modes()[0])


@pytest.fixture
def plain(builders: Callable[[str], Builder]) -> Builder:
    return builders("none")


def until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shim_plan(**fields: object) -> Plan:
    values: dict[str, object] = {
        "installation": "npd_1",
        "pod": "pod_1",
        "incarnation": 1,
        "pod_name": "lab",
        "owner": "user_1",
        "owner_hash": "abcdefgh",
        "mode": "root",
        "uid": 100000,
        "gid": 100000,
        "data_dir": "/data",
        "command": ("python3",),
    }
    return Plan(**{**values, **fields})  # type: ignore[arg-type]


def processes_naming(text: str) -> list[int]:
    """Which processes have `text` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_an_environment_is_built_and_its_scripts_run_where_pods_see_it(builder: Builder) -> None:
    environment = builder.build(builder.plan())

    seen_at = str(environment) if builder.mode == "none" else ENVIRONMENT_PATH
    assert builder.inside(environment, f"{seen_at}/bin/hello") == "hello\n"
    asked = "import hello, sys; print(hello.__file__, hello.__cached__, sys.version_info[:2] >= (3, 11))"
    file, cached, new_enough = builder.inside(environment, f"{seen_at}/bin/python", "-c", asked).split()
    assert Path(file).is_relative_to(seen_at)
    assert (environment / Path(cached).relative_to(seen_at)).exists()
    assert new_enough == "True"


def test_a_finished_environment_is_nobodys_to_change(builder: Builder) -> None:
    environment = builder.build(builder.plan())

    everything = [environment, *(Path(folder, name) for folder, d, f in os.walk(environment) for name in (*d, *f))]
    facts = [path.lstat() for path in everything]
    assert {fact.st_uid for fact in facts} == {0 if builder.mode == "root" else builder.uid}
    assert not [fact for fact in facts if not stat.S_ISLNK(fact.st_mode) and fact.st_mode & 0o6022]


def test_a_second_pod_takes_what_is_there_and_asks_no_index(builder: Builder, index: PackageIndex) -> None:
    first = builder.build(builder.plan())
    asked = len(index.requests)

    second = builder.start(builder.plan())

    assert second.result() == first
    assert len(index.requests) == asked
    assert len(second.said) == 1  # no progress: there was nothing to do


def test_two_pods_wait_for_one_build_and_both_see_its_progress(builder: Builder, index: PackageIndex) -> None:
    index.hold()
    first = builder.start(builder.plan())
    first.until_step("downloading packages")
    second = builder.start(builder.plan())
    second.until_step("downloading packages")
    index.release()

    assert first.result() == second.result()
    assert index.downloads(HELLO) == 1


def test_a_killed_build_leaves_nothing_half_and_the_next_one_succeeds(builder: Builder, index: PackageIndex) -> None:
    index.hold()
    killed = builder.start(builder.plan())
    killed.until_step("downloading packages")

    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    until(lambda: not processes_naming(str(builder.folder)))
    index.release()

    plan = builder.plan()
    assert not builder.cache("environments", plan.scope, plan.key).exists()
    environment = builder.build(plan)
    assert (environment / "bin" / "hello").exists()
    assert sorted(path.name for path in environment.parent.iterdir()) == [plan.key, f"{plan.key}.lock"]


def test_a_pod_that_is_stopped_meanwhile_ends_its_build(strongest: Builder, index: PackageIndex) -> None:
    index.hold()
    stopping = strongest.start(strongest.plan())
    stopping.until_step("downloading packages")

    stopping.process.send_signal(signal.SIGINT)  # KeyboardInterrupt out of `report` or wherever it is

    stopping.process.wait(timeout=30)  # it waits itself, for ten seconds at most, until all of the build is dead
    until(lambda: not processes_naming(str(strongest.folder)))
    assert not list(strongest.cache("environments", "shared").glob("*.new"))


def test_a_failed_build_says_what_uv_said_and_those_who_waited_fail_with_it(
    builder: Builder, index: PackageIndex
) -> None:
    index.hold()
    plan = builder.plan("hello==1.0", "broken==1.0")
    index.add(wheel("hello", "1.0", {}), "broken-1.0-py3-none-any.whl")  # another name inside: uv refuses it
    index.files = _HeldFiles(index)  # else uv has refused it before the second waits
    first = builder.start(plan)
    first.until_step("resolving packages")
    second = builder.start(plan)
    second.until_step("resolving packages")
    until(lambda: any("broken" in path for path in index.requests))
    index.release()

    assert "broken" in first.failure()
    assert second.failure() == first.said[-1]["failed"]
    assert sorted(path.suffix for path in builder.cache("environments", "shared").iterdir()) == [".lock"]


class _HeldFiles(dict[str, bytes]):
    """What an index offers, of which metadata waits too while the index holds."""

    def __init__(self, index: PackageIndex) -> None:
        super().__init__(index.files)
        self._open = index._open

    def __getitem__(self, name: str) -> bytes:
        self._open.wait()
        return super().__getitem__(name)


def test_an_unknown_version_fails_with_a_sentence_that_names_it(strongest: Builder) -> None:
    failure = strongest.start(strongest.plan("hello==9.9")).failure()

    assert "hello==9.9" in failure
    assert "Creating virtual environment" not in failure


def test_an_index_that_does_not_answer_is_named_first(strongest: Builder) -> None:
    failure = strongest.start(strongest.plan(index_url="http://127.0.0.1:9/simple")).failure()

    assert failure.startswith("error:")
    assert "http://127.0.0.1:9/simple" in failure


def test_a_build_that_takes_too_long_is_ended(builder: Builder, index: PackageIndex) -> None:
    index.hold()

    failure = builder.start(builder.plan(timeout_seconds=1.5)).failure()

    assert "took longer than 2 s" in failure
    until(lambda: not processes_naming(str(builder.folder / "uv")))
    assert not list(builder.cache("environments", "shared").glob("*.new"))


def test_a_build_that_would_fill_the_data_disk_is_ended(strongest: Builder) -> None:
    failure = strongest.start(strongest.plan(reserve_bytes=1 << 60)).failure()

    assert failure == "the data disk has no room for this environment"


def test_what_decides_an_environment_decides_its_key(strongest: Builder) -> None:
    plan = strongest.plan("hello==1.0", "other==2.0")

    assert plan.key == strongest.plan("other==2.0", "hello==1.0").key
    others = {
        strongest.plan("hello==1.0", "other==2.1").key,
        strongest.plan("hello==1.0", "other==2.0", scope="user_a").key,
        strongest.plan("hello==1.0", "other==2.0", index_url="https://index.example/simple").key,
        strongest.plan("hello==1.0", "other==2.0", interpreter_tag="another").key,
    }
    assert len(others | {plan.key}) == 5


def test_eviction_takes_the_oldest_but_none_that_a_pod_holds(plain: Builder, index: PackageIndex) -> None:
    for version in ("1.1", "1.2", "1.3"):
        index.add(wheel("hello", version, {"hello.py": version}), f"hello-{version}-py3-none-any.whl")
    processes = {v: plain.start(plain.plan(f"hello=={v}")) for v in ("1.0", "1.1", "1.2", "1.3")}
    paths = {version: process.result() for version, process in processes.items()}
    for age, version in enumerate(("1.3", "1.2", "1.1", "1.0")):
        os.utime(f"{paths[version]}.lock", (1000 - age, 1000 - age))
    for version in ("1.1", "1.2", "1.3"):
        processes[version].end()

    evict(paths["1.0"].parent, keep=1, but="another")

    assert {version for version, path in paths.items() if path.exists()} == {"1.0", "1.3"}  # held; used last


def test_a_plan_for_the_shim_becomes_a_plan_for_the_build() -> None:
    plan = shim_plan(
        packages=("NumPy==2.4.6",),
        cache_author="user_1",
        package_index_url="https://index.example/simple",
        tools={"bwrap": ["/usr/bin/bwrap"]},
    )

    built = environment_plan(plan)

    assert built.packages == ("NumPy==2.4.6", locked_list(())[0])
    assert (built.scope, built.cache_dir, built.mode) == ("user_1", "/data/cache", "root")
    assert (built.bwrap, built.index_url) == (("/usr/bin/bwrap",), "https://index.example/simple")
    assert EnvironmentPlan.from_json(built.to_json()) == built


@pytest.mark.parametrize("author", ["shared", "../x", "a/b", "", "."])
def test_an_author_never_names_a_folder_that_is_not_theirs(author: str) -> None:
    plan = shim_plan(mode="none", cache_author=author)

    with pytest.raises(PrepareFailedError):
        environment_plan(plan)


def test_the_interpreter_is_the_systems_and_never_below_a_home(tmp_path: Path) -> None:
    home = tmp_path / "home" / "bin"
    home.mkdir(parents=True)
    (home / "python3.12").write_text("#!/bin/sh\n")
    (home / "python3.12").chmod(0o755)
    (home / "python3").symlink_to(home / "python3.12")

    assert system_interpreter([str(home / "python3"), "/usr/bin/python3"]) == Path("/usr/bin/python3")
    with pytest.raises(PrepareFailedError, match=r"3\.11"):
        system_interpreter([str(home / "python3")])


def test_the_index_is_that_of_the_hosts_own_pip(tmp_path: Path) -> None:
    user, system = tmp_path / "user.conf", tmp_path / "system.conf"
    user.write_text("[global]\nindex-url = https://user.example/simple\n")
    system.write_text("[install]\nindex-url = https://system.example/simple\n")

    assert host_index_url({"PIP_INDEX_URL": "https://env.example/simple"}, [user]) == "https://env.example/simple"
    assert host_index_url({}, [tmp_path / "none", user, system]) == "https://user.example/simple"
    assert host_index_url({}, [system]) == "https://system.example/simple"
    assert host_index_url({}, []) == PYPI


def test_an_index_loses_its_credentials_before_a_pod_sees_it() -> None:
    assert without_credentials("https://me:secret@index.example:8443/simple") == "https://index.example:8443/simple"


@pytest.mark.parametrize("link", ["/etc/passwd", "../outside", "sub/../../outside", ".."])
def test_a_tree_with_a_link_that_leads_out_is_refused(tmp_path: Path, link: str) -> None:
    (tmp_path / "here").symlink_to(link)

    with pytest.raises(PrepareFailedError, match="leads out"):
        seal(tmp_path, interpreter="/usr/bin/python3", owner=None)


def test_a_tree_with_a_pipe_or_without_an_end_is_refused(tmp_path: Path) -> None:
    pipe, deep = tmp_path / "pipe", tmp_path / "deep"
    pipe.mkdir()
    os.mkfifo(pipe / "x")
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    with pytest.raises(PrepareFailedError, match="no file"):
        seal(pipe, interpreter="/usr/bin/python3", owner=None)
    with pytest.raises(PrepareFailedError, match="too deep"):
        seal(deep, interpreter="/usr/bin/python3", owner=None)
    subprocess.run(["rm", "-rf", deep], check=True)


def test_what_the_shim_imports_is_light_and_needs_nothing_but_the_standard_library(strongest: Builder) -> None:
    program = (
        "import sys, neuropod.runtimes.local.environments\n"
        "print('asyncio' in sys.modules, [m for m in sys.modules if 'site-packages' in str(sys.modules[m])])"
    )

    done = subprocess.run(
        [str(system_interpreter()), "-S", "-c", program],
        env={"PYTHONPATH": str(strongest.folder / "source")}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "False []\n"


def test_a_pods_venv_is_laid_out_at_once_and_takes_what_pip_installs(
    plain: Builder, index: PackageIndex, tmp_path: Path
) -> None:
    index.files[f"pip-{locked_list(())[0].partition('==')[2]}-py3-none-any.whl"] = _this_machines_pip()
    index.add(
        wheel("hello", "1.1", {"hello.py": "def main():\n    print('newer')\n"}, {"hello": "hello:main"}),
        "hello-1.1-py3-none-any.whl",
    )
    index.add(
        wheel("setting", "1.0", {"setting-1.0.data/data/etc/jupyter/server.d/setting.json": "{}"}),
        "setting-1.0-py3-none-any.whl",
    )
    environment = plain.build(plain.plan("hello==1.0", "setting==1.0"))
    venv = tmp_path / "venv"
    venv.mkdir()

    lay_out_pod_venv(environment, venv)
    seconds = min(_seconds_to_lay_out(environment, tmp_path / f"venv-{number}") for number in range(5))

    environ = pod_environment(str(environment), str(venv), index_url=index.url, ca_bundle=None)

    def run(*argv: str) -> str:
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("python", "-c", "import sys, hello; print(sys.prefix, hello.__file__)").split() == [
        str(venv),
        str(next(environment.glob("lib/python3*/site-packages/hello.py"))),
    ]
    assert run("hello") == "hello\n"
    assert (venv / "etc" / "jupyter" / "server.d" / "setting.json").read_text() == "{}"
    run("pip", "install", "--no-cache-dir", "hello==1.1")
    assert run("hello") == "newer\n"
    assert run("python", "-c", "import hello; print(hello.__file__)").startswith(str(venv))
    assert seconds < 0.1


def test_a_venv_that_is_there_keeps_what_was_installed(plain: Builder, tmp_path: Path) -> None:
    environment = plain.build(plain.plan())
    lay_out_pod_venv(environment, tmp_path / "venv")
    (tmp_path / "venv" / "bin" / "hello").write_text("mine")

    lay_out_pod_venv(environment, tmp_path / "venv")

    assert (tmp_path / "venv" / "bin" / "hello").read_text() == "mine"


@pytest.mark.parametrize("mode", [mode for mode in modes() if mode != "none"])
def test_a_pods_venv_works_at_the_paths_of_a_sandbox(mode: str, builders: Callable[[str], Builder]) -> None:
    builder = builders(mode)
    environment = builder.build(builder.plan())
    venv = builder.folder / "venv"
    venv.mkdir()
    lay_out = (
        f"import sys; sys.path.insert(0, {str(builder.folder / 'source')!r}); from pathlib import Path;"
        "from neuropod.runtimes.local.environments.podvenv import lay_out_pod_venv;"
        f"lay_out_pod_venv(Path({ENVIRONMENT_PATH!r}), Path({VENV_PATH!r}))"
    )

    builder.inside(environment, str(system_interpreter()), "-c", lay_out, venv=venv)

    assert builder.inside(environment, f"{VENV_PATH}/bin/hello", venv=venv) == "hello\n"
    assert (venv / "bin" / "hello").read_text().startswith(f"#!{VENV_PATH}/bin/python\n")


def test_a_real_package_of_the_hosts_index_is_built(strongest: Builder) -> None:
    real = environment_plan(
        shim_plan(
            mode=strongest.mode,
            data_dir=str(strongest.folder / "data"),
            packages=("markupsafe==3.0.4",),
            tools={"bwrap": list(strongest.plan().bwrap)},
        )
    )

    environment = strongest.build(real)

    asked = "import markupsafe, pip; print(markupsafe.__version__, markupsafe._speedups.__name__, pip.__version__)"
    python = f"{environment if strongest.mode == 'none' else ENVIRONMENT_PATH}/bin/python"
    said = strongest.inside(environment, python, "-W", "ignore", "-c", asked).split()
    assert said[:2] == ["3.0.4", "markupsafe._speedups"]


def test_the_lock_of_a_built_environment_is_held_until_its_process_ends(strongest: Builder) -> None:
    building = strongest.start(strongest.plan())
    environment = building.result()

    with Path(f"{environment}.lock").open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        building.end()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _seconds_to_lay_out(environment: Path, venv: Path) -> float:
    venv.mkdir()
    started = time.perf_counter()
    lay_out_pod_venv(environment, venv)
    return time.perf_counter() - started


def _this_machines_pip() -> bytes:
    """The wheel of the pip that ships with the interpreter, under the version that environments ask for."""
    import io  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    version = locked_list(())[0].partition("==")[2]
    # Where ensurepip takes it from: a distribution such as Debian keeps its wheels in a folder of their own.
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
    bundled = next(Path(folder).glob("pip-*.whl"))
    files = {}
    with zipfile.ZipFile(io.BytesIO(bundled.read_bytes())) as archive:
        for name in archive.namelist():
            if ".dist-info/" not in name and not name.endswith(".exe"):
                files[name] = archive.read(name).decode(errors="surrogateescape")
    return wheel("pip", version, files, {"pip": "pip._internal.cli.main:main"})
