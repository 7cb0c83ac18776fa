"""The profile file, and which server and key a command takes."""

import stat
from pathlib import Path

import pytest

from neuropod.client.profile import MACHINE, Profile, ProfileError, ProfileFile, normal_url
from neuropod.kit.errors import InvalidInputError, NotFoundError, UnauthenticatedError

HERE = Profile("http://127.0.0.1:8080", "npk_here")
WORK = Profile("https://app.example.org", "npk_work")


@pytest.fixture
def file(tmp_path: Path) -> ProfileFile:
    return ProfileFile(tmp_path / "config" / "neuropod" / "profile.toml")


def test_it_is_readable_by_its_owner_alone_and_nothing_else_is_left(file: ProfileFile):
    file.save("work", WORK)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.path.parent.iterdir()] == ["profile.toml"]


def test_what_was_saved_is_read_again_whatever_the_key_holds(file: ProfileFile):
    odd = Profile("https://ä.example.org", 'q"\\\n\x7f\x01é')

    file.save("work", odd)

    assert file.read().by_name == {"work": odd}


def test_a_file_that_others_can_read_is_refused_with_what_to_do(file: ProfileFile):
    file.save("work", WORK)
    file.path.chmod(0o644)

    with pytest.raises(ProfileError, match="chmod 600"):
        file.read()


def test_a_damaged_file_is_said_to_be_damaged(file: ProfileFile):
    file.save("work", WORK)
    file.path.write_text("current = [")

    with pytest.raises(ProfileError, match="damaged"):
        file.read()


def test_the_machines_own_server_is_in_force_where_nothing_else_was_chosen(file: ProfileFile):
    first = file.save_machine(HERE)
    again = file.save_machine(Profile("http://127.0.0.1:9090", "npk_new"))

    assert (first, again) == (True, True)
    assert file.target(environ={}).url == "http://127.0.0.1:9090"


def test_the_machines_own_server_does_not_push_a_chosen_one_aside(file: ProfileFile):
    file.save("work", WORK)

    in_force = file.save_machine(HERE)

    assert not in_force
    assert file.target(environ={}).url == WORK.url
    assert file.target(MACHINE, {}).key == HERE.key


def test_another_server_can_be_put_in_force_and_dropped(file: ProfileFile):
    file.save_machine(HERE)
    file.save("work", WORK)

    file.use(MACHINE)
    assert file.target(environ={}).profile == MACHINE
    file.drop(MACHINE)
    assert file.target(environ={}).profile == "work"
    file.drop("work")
    with pytest.raises(UnauthenticatedError):
        file.target(environ={})


def test_the_environment_comes_before_the_file(file: ProfileFile):
    file.save("work", WORK)
    environ = {"NEUROPOD_URL": "https://ci.example.org/", "NEUROPOD_API_KEY": "npk_ci"}

    target = file.target(environ=environ)

    assert (target.url, target.key, target.profile) == ("https://ci.example.org", "npk_ci", None)


def test_a_profiles_key_goes_to_no_other_address(file: ProfileFile):
    file.save("work", WORK)

    assert file.target(environ={"NEUROPOD_URL": "https://evil.example.org"}).key is None
    assert file.target(environ={"NEUROPOD_URL": "https://app.example.org:8443"}).key is None
    assert file.target(environ={"NEUROPOD_URL": "https://app.example.org/api/v1"}).key == WORK.key


def test_a_named_profile_comes_before_the_environment(file: ProfileFile):
    file.save("work", WORK)
    environ = {"NEUROPOD_URL": "https://ci.example.org", "NEUROPOD_API_KEY": "npk_ci"}

    assert file.target("work", environ).key == WORK.key
    assert file.target(environ={"NEUROPOD_PROFILE": "work"}).key == WORK.key
    with pytest.raises(NotFoundError, match="there: work"):
        file.target("nowhere", environ)


def test_a_relative_config_folder_is_ignored_as_the_specification_says(tmp_path: Path):
    file = ProfileFile.of_user({"XDG_CONFIG_HOME": "config", "HOME": str(tmp_path)})

    assert file.path == tmp_path / ".config/neuropod/profile.toml"


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("app.neuropod.localhost:8080", "http://app.neuropod.localhost:8080"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("app.example.org", "https://app.example.org"),
        ("HTTPS://App.Example.org/api/v1/", "https://app.example.org"),
        (" http://lab:8080/ ", "http://lab:8080"),
    ],
)
def test_an_address_is_taken_as_people_type_it(typed, url):
    assert normal_url(typed) == url


@pytest.mark.parametrize("typed", ["", "ftp://example.org", "https://user:pw@example.org", "https://", "http://a:b"])
def test_what_is_no_address_of_a_server_is_refused(typed):
    with pytest.raises(InvalidInputError):
        normal_url(typed)


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", 'a"]\n'])
def test_a_name_that_could_be_something_else_is_refused(file: ProfileFile, name):
    with pytest.raises(InvalidInputError):
        file.save(name, WORK)


def test_a_key_does_not_print_itself():
    assert "npk_work" not in repr(WORK)
