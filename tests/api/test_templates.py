"""Templates that people write: kept rules, rights, copies, and pods that go on with what they were launched from."""

import pytest
from httpx import Response

from neuropod.templates.records import TemplateRow
from support.api import ApiWorld
from support.workloads import workload_of

MINE = {"name": "mine", "title": "Mine", "image": "plain", "env": {"A": "b"}, "volume_gb": None}


async def test_a_template_is_written_changed_and_deleted_and_its_pod_goes_on_as_it_was(world: ApiWorld):
    owner = await world.browser("owner")

    made = await owner.post("/api/v1/templates", json=MINE | {"ports": [{"port": 8000}]})
    pod = await owner.post("/api/v1/pods", json={"name": "lab", "template": "mine"})
    changed = await owner.patch("/api/v1/templates/mine", json={"image": "other", "name": "renamed"})
    gone = await owner.delete("/api/v1/templates/renamed")

    assert (made.status_code, pod.status_code, changed.status_code, gone.status_code) == (201, 201, 200, 204), made.text
    assert made.json()["author"] == world.person("owner").id
    assert (changed.json()["image"], changed.json()["env"]) == ("other", {"A": "b"})
    kept = (await owner.get("/api/v1/pods/lab")).json()
    assert (kept["image"], kept["template"]) == ("plain", "mine")
    assert (await owner.get("/api/v1/templates/renamed")).status_code == 404
    restarted = await owner.post("/api/v1/pods/lab/restart")
    assert restarted.status_code == 200


async def test_all_wrong_fields_stand_in_one_answer(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")

    answer = await owner.post(
        "/api/v1/templates",
        json={
            "name": "Not Good",
            "title": " ",
            "recipe": {"packages": ["numpy", "x @ https://evil.example/x.whl", "ok==1.0"], "command": []},
            "env": {"NVIDIA_VISIBLE_DEVICES": "all", "JUPYTER_TOKEN": "x"},
            "ports": [{"port": 0}],
            "container_disk_gb": 1000,
            "volume_gb": 0,
            "gpu_type": "none",
            "ready_when": "port",
            "readme": "x" * 40_000,
        },
    )

    assert answer.status_code == 422
    assert {field["field"]: field["code"] for field in answer.json()["fields"]} == {
        "name": "pattern",
        "title": "pattern",
        "recipe.packages.0": "pattern",
        "recipe.packages.1": "pattern",
        "recipe.command": "empty",
        "env.NVIDIA_VISIBLE_DEVICES": "reserved",
        "env.JUPYTER_TOKEN": "reserved",
        "ports.0.port": "range",
        "container_disk_gb": "range",
        "volume_gb": "range",
        "gpu_type": "unknown",
        "ready_port": "missing",
        "readme": "too_large",
    }


@pytest.mark.parametrize("field", ["owner", "author", "author_id", "shared", "id", "runtime"])
async def test_fields_that_are_not_ones_own_to_say_are_refused(sqlite_world: ApiWorld, field: str):
    owner = await sqlite_world.browser("owner")

    made = await owner.post("/api/v1/templates", json=MINE | {field: "x"})

    assert made.status_code == 422
    assert [(one["field"], one["code"]) for one in made.json()["fields"]] == [(field, "unknown")]


async def test_names_are_taken_per_person(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await owner.post("/api/v1/templates", json=MINE)

    again = await owner.post("/api/v1/templates", json=MINE)
    copy = await owner.post("/api/v1/templates/jupyterlab/duplicate", json={"name": "mine"})
    others = await outsider.post("/api/v1/templates", json=MINE)

    assert [one.json().get("code") for one in (again, copy)] == ["name_taken", "name_taken"]
    assert others.status_code == 201


async def test_private_ones_do_not_exist_for_others_and_public_ones_are_for_administrators_to_change(world: ApiWorld):
    owner, outsider, admin = [await world.browser(name) for name in ("owner", "outsider", "admin")]
    made = (await owner.post("/api/v1/templates", json=MINE)).json()
    path = f"/api/v1/templates/{made['id']}"

    hidden = [
        await outsider.get(path),
        await outsider.patch(path, json={"title": "x"}),
        await outsider.delete(path),
        await outsider.post(f"{path}/duplicate", json={"name": "x"}),
    ]
    denied = [
        await owner.patch(path, json={"public": True}),
        await owner.post("/api/v1/templates", json=MINE | {"name": "pub", "public": True}),
    ]
    published = await admin.patch(path, json={"public": True})
    seen = await outsider.get(path)
    after = [
        await outsider.patch(path, json={"title": "x"}),
        await outsider.delete(path),
        await owner.patch(path, json={"image": "evil"}),
    ]

    assert [one.status_code for one in hidden] == [404, 404, 404, 404]
    assert [one.json()["code"] for one in denied] == ["admin_needed", "admin_needed"]
    assert (published.status_code, seen.status_code) == (200, 200)
    assert [one.json()["code"] for one in after] == ["not_yours", "not_yours", "admin_needed"]


async def test_starters_stay_and_are_duplicated(sqlite_world: ApiWorld):
    admin, owner = await sqlite_world.browser("admin"), await sqlite_world.browser("owner")

    refused = [
        await admin.patch("/api/v1/templates/jupyterlab", json={"title": "x"}),
        await admin.delete("/api/v1/templates/jupyterlab"),
    ]
    copy = await owner.post("/api/v1/templates/jupyterlab/duplicate", json={"name": "my-lab"})
    changed = await owner.patch("/api/v1/templates/my-lab", json={"readme": "# Hi\n\n<script>alert(1)</script>"})

    assert [one.json()["code"] for one in refused] == ["starter_template", "starter_template"]
    shipped = (await owner.get("/api/v1/templates/jupyterlab")).json()
    assert copy.json()["recipe"] == shipped["recipe"]
    assert (copy.json()["public"], copy.json()["author"]) == (False, sqlite_world.person("owner").id)
    assert changed.json()["readme"].endswith("</script>")
    assert "<script" not in changed.json()["readme_html"]
    assert "<h1>Hi</h1>" in changed.json()["readme_html"]


async def test_only_what_an_administrator_wrote_shares_its_built_environment(sqlite_world: ApiWorld):
    owner, admin = await sqlite_world.browser("owner"), await sqlite_world.browser("admin")
    recipe = {"recipe": {"packages": ["idna==3.10"], "command": ["python3"]}, "image": None}

    of_owner = (await owner.post("/api/v1/templates", json=MINE | recipe)).json()["id"]
    copied = (await owner.post("/api/v1/templates/jupyterlab/duplicate", json={"name": "copy"})).json()["id"]
    of_admin = (await admin.post("/api/v1/templates", json=MINE | recipe)).json()["id"]
    adopted = (await admin.post(f"/api/v1/templates/{of_owner}/duplicate", json={"name": "adopted"})).json()["id"]
    await admin.patch(f"/api/v1/templates/{of_owner}", json={"title": "Touched"})

    async with sqlite_world.database.read() as session:
        shared = {
            one: (await session.get_one(TemplateRow, one)).snapshot["shared"]
            for one in (of_owner, copied, of_admin, adopted)
        }
    assert shared == {of_owner: False, copied: False, of_admin: True, adopted: False}


async def test_who_wrote_and_changed_what_stands_in_the_audit_log(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await owner.post("/api/v1/templates", json=MINE)
    await owner.patch("/api/v1/templates/mine", json={"title": "Other"})
    await owner.delete("/api/v1/templates/mine")

    acts = (await owner.get("/api/v1/audit")).json()["items"]

    assert [act["verb"] for act in acts[:3]] == ["delete_template", "edit_template", "create_template"]


async def test_a_template_names_secrets_and_each_pod_is_given_its_own_owners(world: ApiWorld):
    admin, owner, outsider = [await world.browser(name) for name in ("admin", "owner", "outsider")]
    env = {"A": "plain", "HF_TOKEN": {"secret": "HF_TOKEN"}, "WANDB": {"secret": "WANDB_KEY"}}
    made = await admin.post("/api/v1/templates", json=MINE | {"env": env, "public": True})
    template = made.json()["id"]
    for person, value in ((owner, "the owner's"), (outsider, "the outsider's")):
        await person.put("/api/v1/secrets/HF_TOKEN", json={"value": value})

    lacking = await owner.post("/api/v1/pods", json={"name": "lab", "template": template})
    given = {
        person: await person.post("/api/v1/pods", json={"name": "lab", "template": template, "env": {"WANDB": ""}})
        for person in (owner, outsider)
    }

    assert made.status_code == 201, made.text
    assert made.json()["env"] == (await owner.get(f"/api/v1/templates/{template}")).json()["env"] == env
    assert {one["field"]: one["code"] for one in lacking.json()["fields"]} == {"env.WANDB": "no_secret"}
    assert await _given(world, given[owner]) == {"A": "plain", "HF_TOKEN": "the owner's", "WANDB": ""}
    assert await _given(world, given[outsider]) == {"A": "plain", "HF_TOKEN": "the outsider's", "WANDB": ""}
    assert (await owner.get("/api/v1/secrets")).json()["items"][0]["pods"][0]["name"] == "lab"


async def test_what_an_edit_replaces_are_the_pods_own_variables_and_the_templates_stay(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.put("/api/v1/secrets/TOKEN", json={"value": "kept"})
    await owner.post("/api/v1/templates", json=MINE | {"env": {"A": "b", "TOKEN": {"secret": "TOKEN"}}})
    await owner.post("/api/v1/pods", json={"name": "lab", "template": "mine", "env": {"TOKEN": "mine", "B": "c"}})
    await owner.patch("/api/v1/templates/mine", json={"env": {}})

    edited = await owner.patch("/api/v1/pods/lab", json={"env": {"C": "d"}, "restart": True})

    assert await _given(world, edited) == {"A": "b", "TOKEN": "kept", "C": "d"}
    assert (await owner.get("/api/v1/templates/mine")).json()["env"] == {}


async def test_wrong_names_of_secrets_in_a_template_are_named(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    env = {"NVIDIA_X": {"secret": "A"}, "B": {"secret": "not-a-name"}, "C": {"secret": "JUPYTER_TOKEN"}, "D": 5}

    wrong = await owner.post("/api/v1/templates", json=MINE | {"env": env})
    del env["D"]
    named = await owner.post("/api/v1/templates", json=MINE | {"env": env})

    assert [one["field"] for one in wrong.json()["fields"]] == ["env.D"]
    assert {one["field"]: one["code"] for one in named.json()["fields"]} == {
        "env.NVIDIA_X": "reserved",
        "env.B.secret": "pattern",
        "env.C.secret": "reserved",
    }


async def _given(world: ApiWorld, pod: Response) -> dict[str, str]:
    """Return the variables that the pod's first run is given, but for those of the platform."""
    assert pod.is_success, pod.text
    workload = await workload_of(world.database, world.parts.pods, pod.json()["id"])
    return {name: value.reveal() for name, value in workload.env.items() if not name.startswith("NEUROPOD_")}
