"""What a runtime is asked to run, from rows and secrets."""

from typing import Any

from neuropod.ids import InstallationId, PodId, UserId, VolumeId
from neuropod.kit.secrets import Secret
from neuropod.pods.workload import Attached, Secrets, workload_of
from neuropod.runtimes.contract import Readiness, Recipe, VolumeMount, WorkloadId
from neuropod.templates.snapshot import LocalRecipe, TemplateSnapshot
from neuropod.volumes.records import VolumeRow
from neuropod.words import JupyterMode, ReadyWhen
from support.rows import NOW, pod_row, user_row

OWNER = user_row()
LAB = TemplateSnapshot(
    name="jupyterlab",
    title="JupyterLab",
    shared=True,
    image="lab:1",
    command=("start-lab",),
    recipe=LocalRecipe(("jupyterlab==4.0",), ("jupyter-lab",)),
    env={"A": "template", "B": "template"},
    jupyter=JupyterMode.PLATFORM,
    ready_when=ReadyWhen.PORT,
    ready_port=8888,
)


def workload(
    snapshot: TemplateSnapshot = LAB,
    attached: Attached | None = None,
    *,
    runs_recipes: bool = True,
    env: dict[str, str] | None = None,
    **values: Any,
):
    defaults = {"template": snapshot.to_json(), "image": snapshot.image, "jupyter": snapshot.jupyter}
    row = pod_row(OWNER, **(defaults | values))
    return workload_of(
        WorkloadId(InstallationId("npd_1"), PodId(row.id), 2),
        row,
        attached or Attached(OWNER.hash),
        Secrets({name: Secret(value) for name, value in (env or {}).items()}, Secret("tok")),
        runs_recipes=runs_recipes,
        stop_grace_seconds=30,
    )


def test_where_recipes_run_the_recipe_is_run():
    it = workload()

    assert it.recipe == Recipe(("jupyterlab==4.0",), ("jupyter-lab",), shared_cache=True, author=None)
    assert it.image is None
    assert it.command is None


def test_elsewhere_the_image_is_run_with_its_templates_command():
    it = workload(runs_recipes=False)

    assert (it.image, it.recipe, it.command) == ("lab:1", None, ("start-lab",))


def test_the_pods_own_command_replaces_both():
    assert workload(command=["sleep", "1"]).command == ("sleep", "1")
    assert workload(command=["sleep", "1"], runs_recipes=False).command == ("sleep", "1")


def test_another_image_than_the_templates_has_no_recipe():
    it = workload(image="other:2")

    assert (it.image, it.recipe) == ("other:2", None)


def test_a_clients_template_is_built_for_its_author_alone():
    own = TemplateSnapshot(name="x", title="x", author_id=UserId("usr_1"), recipe=LocalRecipe(("a==1",), ("a",)))

    it = workload(own)

    assert it.recipe == Recipe(("a==1",), ("a",), shared_cache=False, author=UserId("usr_1"))


def test_the_environment_is_the_templates_then_the_owners_then_the_platforms():
    it = workload(env={"B": "owner", "JUPYTER_TOKEN": "forged"}, name="lab")

    revealed = {name: value.reveal() for name, value in it.env.items()}
    assert revealed == {
        "A": "template",
        "B": "owner",
        "JUPYTER_TOKEN": "tok",
        "NEUROPOD_POD_ID": it.id.pod,
        "NEUROPOD_POD_NAME": "lab",
    }
    assert "tok" not in repr(it)


def test_without_jupyter_no_token_is_handed_in():
    assert "JUPYTER_TOKEN" not in workload(jupyter=JupyterMode.OFF).env
    assert "JUPYTER_TOKEN" not in workload(jupyter=JupyterMode.FROM_LOG).env


def test_sizes_are_bytes_and_devices_the_given_ones():
    volume = VolumeRow(id="vol_1", owner_id=OWNER.id, name="workspace", runtime_id="x", size_gb=7, created_at=NOW)

    it = workload(attached=Attached(OWNER.hash, volume, [8888, 80], ["gpu-a"]), memory_gb=4, container_disk_gb=3)

    assert it.resources.memory_bytes == 4 * 10**9
    assert it.resources.container_disk_bytes == 3 * 10**9
    assert it.resources.devices == ("gpu-a",)
    assert it.volume == VolumeMount(VolumeId("vol_1"), "workspace", 7 * 10**9)
    assert it.ports == (80, 8888)


def test_ready_is_what_the_template_says():
    plain = TemplateSnapshot(name="", title="x", image="x")

    assert workload().readiness == Readiness(ReadyWhen.PORT, 8888, http=True)
    assert workload(plain).readiness == Readiness(ReadyWhen.PROCESS)
    assert workload(plain, jupyter=JupyterMode.FROM_LOG).readiness == Readiness(ReadyWhen.PORT, 8888)
