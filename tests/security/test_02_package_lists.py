"""SECURITY 2: a template's package list cannot run code on the host, and two authors share nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuropod.runtimes.local.environments import PrepareFailedError
from neuropod.runtimes.local.environments.plan import locked_list
from support.package_index import Builder, PackageIndex, modes, source_package, wheel

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


@pytest.mark.parametrize(
    "requirement",
    [
        "https://evil.example/hello-1.0-py3-none-any.whl",
        "hello @ https://evil.example/hello-1.0.tar.gz",
        "hello @ file:///etc",
        "git+https://evil.example/hello.git",
        "hello==1.0 @ git+ssh://evil.example/hello",
        "/root/hello-1.0-py3-none-any.whl",
        "./hello",
        "../hello==1.0",
        ".",
        "~/hello",
        "--index-url=https://evil.example/simple",
        "-e .",
        "-r /etc/passwd",
        "--extra-index-url https://evil.example/simple hello==1.0",
        "hello==1.0 --config-settings=x",
        "hello==1.0; python_version > '3'",
        "hello==1.0;extra",
        "hello",
        "hello>=1.0",
        "hello==1.*",
        "hello===1.0",
        "hello==1.0,!=1.1",
        "hello ==1.0",
        "hello==1.0\n--index-url=https://evil.example",
        "hello==1.0\r",
        "hello==1.0\0",
        "hello[a;b]==1.0",
        "hello[a]]==1.0",
        "hello[]==1.0",
        "hello==1.0 # hash",
        "hello==1.0 --hash=sha256:00",
        "hello==${HOME}",
        "hello==$(id)",
        "héllo==1.0",
        "hello==\N{ARABIC-INDIC DIGIT ONE}.0",
        "",
        " ",
        "==1.0",
        "hello==",
        "-hello==1.0",
        "hello-==1.0",
        "hello==-1.0",
        "x" * 200 + "==1.0",
        "hello==" + "1" * 100,
    ],
)
def test_only_names_with_exact_versions_are_taken(requirement: str) -> None:
    with pytest.raises(PrepareFailedError):
        locked_list([requirement])


@pytest.mark.parametrize(
    "requirement",
    ["hello==1.0", "Hello_World.x-y==2.0.post1", "hello[a,b-c]==1!1.0", "torch==2.9.0+cpu", "x==1", "pip==26.0"],
)
def test_names_with_exact_versions_are_taken(requirement: str) -> None:
    assert requirement in locked_list([requirement])


def test_a_name_that_is_listed_twice_is_refused_however_it_is_written() -> None:
    with pytest.raises(PrepareFailedError, match="twice"):
        locked_list(["hello-world==1.0", "Hello_World==1.1"])


def test_a_list_without_an_end_is_refused() -> None:
    with pytest.raises(PrepareFailedError, match="at most"):
        locked_list([f"package-{number}==1.0" for number in range(1000)])


def test_an_evil_source_package_leaves_no_mark(builder: Builder, index: PackageIndex, tmp_path: Path) -> None:
    mark = builder.folder / "data" / "mark"
    index.add(source_package("evil", "1.0", {"setup.py": _leaves_marks(mark, index)}), "evil-1.0.tar.gz")

    failure = builder.start(builder.plan("evil==1.0")).failure()

    assert "evil" in failure
    assert not mark.exists()
    assert "/mark" not in index.requests
    assert list(builder.cache("environments", "shared").glob("*/")) == []


def test_a_wheel_that_wants_to_run_at_every_start_of_python_does_not_run_in_the_build(
    builder: Builder, index: PackageIndex
) -> None:
    mark = builder.folder / "data" / "mark"
    evil = {
        "evil.pth": f"import os; exec({_leaves_marks(mark, index)!r})\n",
        "sitecustomize.py": _leaves_marks(mark, index),
        "usercustomize.py": _leaves_marks(mark, index),
        "compileall.py": _leaves_marks(mark, index),
        "encodings/__init__.py": _leaves_marks(mark, index),
    }
    index.add(wheel("evil", "1.0", evil), "evil-1.0-py3-none-any.whl")

    environment = builder.build(builder.plan("evil==1.0"))

    assert next(environment.glob("lib/python3*/site-packages/evil.pth")).exists()
    assert not mark.exists()
    assert "/mark" not in index.requests


def test_a_wheel_whose_files_point_elsewhere_writes_nothing_there(builder: Builder, index: PackageIndex) -> None:
    outside = builder.folder / "data" / "outside"
    evil = wheel("evil", "1.0", {"../" * 40 + str(outside).lstrip("/"): "here", "../../../../bin/sneaked": "here"})
    index.add(evil, "evil-1.0-py3-none-any.whl")

    building = builder.start(builder.plan("evil==1.0"))

    building.until("path", "failed")
    assert not outside.exists()
    assert not list(builder.folder.rglob("sneaked"))


def test_two_authors_share_nothing(builder: Builder, index: PackageIndex) -> None:
    first = builder.build(builder.plan(scope="user_a"))
    second = builder.build(builder.plan(scope="user_b"))
    shared = builder.build(builder.plan())

    assert len({first, second, shared}) == 3
    assert index.downloads(HELLO) == 3  # each scope fetched it for itself
    inodes = [
        {path.lstat().st_ino for path in builder.cache(kind, scope).rglob("*") if path.is_file()}
        for kind in ("environments", "downloads")
        for scope in ("user_a", "user_b", "shared")
    ]
    assert sum(len(files) for files in inodes) == len(set.union(*inodes))  # no hard link between any two
    if builder.mode == "root":
        owners = {builder.cache("downloads", scope).stat().st_uid for scope in ("user_a", "user_b", "shared")}
        assert len(owners) == 3
        assert not owners & {0, builder.uid}


def test_one_authors_second_list_finds_their_own_downloads(builder: Builder, index: PackageIndex) -> None:
    index.add(wheel("more", "1.0", {"more.py": ""}), "more-1.0-py3-none-any.whl")
    builder.build(builder.plan(scope="user_a"))

    builder.build(builder.plan("hello==1.0", "more==1.0", scope="user_a"))

    assert index.downloads(HELLO) == 1


@pytest.mark.skipif("root" not in modes(), reason="needs root: there only is another uid to drop to")
def test_what_builds_has_no_rights_of_roots_and_none_of_its_files(
    builders: Callable[[str], Builder], index: PackageIndex
) -> None:
    builder = builders("root")
    index.hold()
    building = builder.start(builder.plan())
    building.until_step("downloading packages")

    uid = builder.cache("downloads", "shared").stat().st_uid
    pids = _processes_of(uid)

    assert len(pids) == 1
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pids[0]}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(uid)}
    assert status["Groups"].strip() == ""
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0
    root = Path(f"/proc/{pids[0]}/root")
    assert not (root / "root").exists()
    assert not (root / "home").exists()
    assert not (root / "etc" / "shadow").exists()
    assert Path(f"/proc/{pids[0]}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    index.release()
    building.result()


def test_nothing_of_the_hosts_environment_or_configuration_steers_the_build(
    builder: Builder, index: PackageIndex, tmp_path: Path
) -> None:
    builder.folder.joinpath("uv.toml").write_text('[[index]]\nurl = "http://127.0.0.1:9/simple"\ndefault = true\n')
    mark = builder.folder / "data" / "mark"

    building = builder.start(
        builder.plan(),
        UV_INDEX="http://127.0.0.1:9/simple",
        UV_DEFAULT_INDEX="http://127.0.0.1:9/simple",
        UV_CONFIG_FILE=str(builder.folder / "uv.toml"),
        UV_NO_BINARY="1",
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        HTTP_PROXY="http://127.0.0.1:9",
        ALL_PROXY="http://127.0.0.1:9",
        BASH_ENV=str(mark),
        PYTHONSTARTUP=str(mark),
    )

    assert building.result().exists()


def _leaves_marks(mark: Path, index: PackageIndex) -> str:
    """A program that leaves what marks it can: a file, and a request."""
    return (
        "import os, urllib.request\n"
        f"try: open({str(mark)!r}, 'w').close()\nexcept OSError: pass\n"
        f"try: urllib.request.urlopen({index.url.removesuffix('/simple') + '/mark'!r}, timeout=2)\nexcept OSError: pass\n"
    )


def _processes_of(uid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                found.append(int(entry.name))
        except OSError:
            continue
    return found
