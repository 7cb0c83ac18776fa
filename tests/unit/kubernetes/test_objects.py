"""What is made in a cluster for a workload and its owner."""

import base64
import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from neuropod.ids import InstallationId, PodId, UserId, VolumeId
from neuropod.kit.secrets import Secret
from neuropod.kube.kinds import kind_of
from neuropod.runtimes.contract import (
    Readiness,
    RegistryCredential,
    Resources,
    VolumeMount,
    Workload,
    WorkloadId,
)
from neuropod.runtimes.kubernetes import fences, names, objects
from neuropod.runtimes.kubernetes.capacity import TakenOfNodes, capacity_of, unplaced, with_coming
from neuropod.runtimes.kubernetes.fences import Fence, Tenant
from neuropod.runtimes.kubernetes.objects import Ways
from neuropod.runtimes.kubernetes.reasons import requests_of
from neuropod.runtimes.kubernetes.shapes import NodeShape, PodShape
from neuropod.words import ReadyWhen

WORKLOAD = Workload(
    id=WorkloadId(InstallationId("ins_1"), PodId("pod_1"), 3),
    pod_name="lab",
    owner=UserId("usr_1"),
    owner_hash="abcdefgh",
    image="example.org/lab:1",
    recipe=None,
    command=("sh", "-c", "echo $(hostname) $HOME $$"),
    env={"TOKEN": Secret("s3cret-value")},
    resources=Resources(cpu_cores=2, memory_bytes=4 * 10**9, container_disk_bytes=20 * 10**9),
    volume=None,
    ports=(8888,),
    readiness=Readiness(ReadyWhen.PORT, 8888),
    stop_grace_seconds=45,
)
TENANT = Tenant(InstallationId("ins_1"), UserId("usr_1"), "abcdefgh")


def container(workload: Workload, ways: Ways = Ways()) -> dict:  # noqa: B008 - a frozen value
    (one,) = objects.pod(workload, ways, claim=None)["spec"]["containers"]
    return one


class TestPod:
    def test_it_is_called_and_labelled_as_an_operator_expects(self):
        made = objects.pod(WORKLOAD, Ways(), claim=None)["metadata"]

        assert (made["name"], made["namespace"]) == ("lab-abcdefgh", "neuropod-abcdefgh")
        assert made["labels"] == {
            "app": "lab",
            "user": "abcdefgh",
            "neuropod.io/installation": "ins_1",
            "neuropod.io/pod": "pod_1",
            "neuropod.io/incarnation": "3",
        }
        assert names.workload_of(made["labels"]) == WORKLOAD.id
        assert made["finalizers"] == ["neuropod.io/end"]

    def test_it_has_no_right_that_it_does_not_need(self):
        spec, one = objects.pod(WORKLOAD, Ways(user_namespaces=True), claim=None)["spec"], container(WORKLOAD)

        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["hostUsers"] is False
        assert spec["restartPolicy"] == "Never"
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert one["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert not {"NET_RAW", "SYS_ADMIN", "MKNOD", "NET_ADMIN"} & set(one["securityContext"]["capabilities"]["add"])
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()

    def test_its_secrets_are_in_the_secret_alone(self):
        whole = json.dumps(objects.pod(WORKLOAD, Ways(), claim=None))
        secret = objects.env_secret(WORKLOAD)

        assert "s3cret-value" not in whole
        assert base64.b64encode(b"s3cret-value").decode() not in whole
        assert base64.b64decode(secret["data"]["TOKEN"]) == b"s3cret-value"
        assert container(WORKLOAD)["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]

    def test_its_command_is_not_read_by_kubernetes(self):
        assert container(WORKLOAD)["command"] == ["sh", "-c", "echo $$(hostname) $$HOME $$$$"]

    def test_an_image_runs_its_own_command_unless_another_is_given(self):
        assert "command" not in container(replace(WORKLOAD, command=None))

    def test_limits_are_its_types_and_requests_what_is_not_promised_twice(self):
        told = container(WORKLOAD, Ways(cpu_overcommit=4, disk_overcommit=2))["resources"]

        assert told["limits"] == {"cpu": "2", "memory": "4000000000", "ephemeral-storage": "20000000000"}
        assert told["requests"] == {"cpu": "500m", "memory": "4000000000", "ephemeral-storage": "10000000000"}

    def test_without_a_gpu_it_sees_none(self):
        assert container(WORKLOAD)["env"] == [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}]

    def test_with_gpus_it_asks_for_as_many_on_the_machine_that_has_them(self):
        devices = ("node-2/nvidia.com/gpu/0", "node-2/nvidia.com/gpu/3")
        resources = replace(
            WORKLOAD.resources,
            devices=devices,
            gpu_resource="nvidia.com/gpu",
            node_selector={"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"},
        )
        workload = replace(WORKLOAD, resources=resources)
        made = objects.pod(workload, Ways(), claim=None)

        assert container(workload)["resources"]["limits"]["nvidia.com/gpu"] == "2"
        assert "env" not in container(workload)
        assert made["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"}
        assert json.dumps(made["spec"]["affinity"]).count('"node-2"') == 1
        assert made["metadata"]["annotations"][names.DEVICES] == ",".join(devices)

    def test_an_image_with_credentials_is_asked_for_at_each_start(self):
        credential = RegistryCredential("ghcr.io", "me", Secret("pass-word"))
        workload = replace(WORKLOAD, pull_credential=credential)
        secret = objects.registry_secret(workload, credential)
        config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))

        assert container(workload)["imagePullPolicy"] == "Always"
        assert "imagePullPolicy" not in container(WORKLOAD)
        assert objects.pod(workload, Ways(), claim=None)["spec"]["imagePullSecrets"] == [
            {"name": secret["metadata"]["name"]}
        ]
        assert config["auths"]["ghcr.io"]["auth"] == base64.b64encode(b"me:pass-word").decode()

    @pytest.mark.parametrize(
        ("readiness", "mark"),
        [
            (Readiness(ReadyWhen.PROCESS), "process"),
            (Readiness(ReadyWhen.PORT, 22, http=False), "tcp:22"),
            (Readiness(ReadyWhen.PORT, 8888), "http:8888"),
        ],
    )
    def test_it_says_when_it_is_ready(self, readiness, mark):
        assert objects.ready_when(replace(WORKLOAD, readiness=readiness)) == mark


def test_claims_are_named_by_volume_and_owner_but_by_id_where_data_outlive_them():
    workspace = VolumeMount(VolumeId("vol_01abc"), "workspace", 10**10)

    assert names.claim_of(workspace, "abcdefgh") == "workspace-abcdefgh"
    assert names.claim_of(workspace, "abcdefgh", by_id=True) == "workspace-01abc"


class TestFences:
    def test_a_namespace_is_adopted_only_if_user_and_installation_match(self):
        made = fences.namespace(TENANT)

        assert fences.belongs(made, TENANT)
        assert not fences.belongs(made, replace(TENANT, owner=UserId("usr_2")))
        assert not fences.belongs(made, replace(TENANT, installation=InstallationId("ins_2")))
        assert not fences.belongs({"metadata": {"name": "neuropod-abcdefgh"}}, TENANT)

    @pytest.mark.parametrize(
        "address",
        ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "100.64.0.1", "203.0.113.5"],
    )
    def test_what_is_private_or_of_the_cluster_is_not_reached(self, address):
        policy = fences.policy_spec(Fence(cluster_networks=("203.0.113.5/32", "10.244.1.0/24")))
        blocks = [peer["ipBlock"] for rule in policy["egress"] for peer in rule.get("to", ()) if "ipBlock" in peer]

        reached = [
            block
            for block in blocks
            if ip_network(block["cidr"]).version == 4
            and ip_address(address) in ip_network(block["cidr"])
            and not any(ip_address(address) in ip_network(cidr) for cidr in block["except"])
        ]

        assert reached == []

    def test_every_exception_lies_within_its_block(self):
        policy = fences.policy_spec(Fence(cluster_networks=("203.0.113.5/32", "2001:db8::5/128")))

        for rule in policy["egress"]:
            for peer in rule["to"]:
                for cidr in peer.get("ipBlock", {}).get("except", ()):
                    assert ip_network(cidr).subnet_of(ip_network(peer["ipBlock"]["cidr"]))  # type: ignore[arg-type]

    def test_in_come_the_gateway_and_nobody_else(self):
        nobody = fences.policy_spec(Fence())
        gateway = fences.policy_spec(Fence("neuropod", {"app": "gateway"}, gateway_networks=("192.0.2.7/32",)))

        assert nobody["ingress"] == []
        assert gateway["ingress"] == [
            {
                "from": [
                    {"ipBlock": {"cidr": "192.0.2.7/32"}},
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "neuropod"}},
                        "podSelector": {"matchLabels": {"app": "gateway"}},
                    },
                ]
            }
        ]

    def test_all_of_it_is_ours_and_of_a_kind_that_we_know(self):
        server = {"kind": "ServiceAccount", "namespace": "neuropod", "name": "server"}
        made = fences.fences(TENANT, Fence(cpu_cores=8, memory_bytes=10**10, server=server))

        assert {kind_of(one).kind for one in made} == {
            "RoleBinding",
            "NetworkPolicy",
            "ServiceAccount",
            "ResourceQuota",
            "LimitRange",
        }
        assert all(one["metadata"]["namespace"] == "neuropod-abcdefgh" for one in made)
        assert all(one["metadata"]["labels"]["neuropod.io/installation"] == "ins_1" for one in made)


class TestCapacity:
    @staticmethod
    def node(name: str, *, gpus: int = 0, ready: str = "True", cordoned: bool = False) -> NodeShape:
        told = {
            "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": "NVIDIA-RTX"} if gpus else {}},
            "spec": {"unschedulable": cordoned},
            "status": {
                "allocatable": {
                    "cpu": "4",
                    "memory": "8Gi",
                    "ephemeral-storage": "100G",
                    "pods": "110",
                    **({"nvidia.com/gpu": str(gpus)} if gpus else {}),
                },
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }
        return msgspec.convert(told, NodeShape)

    @staticmethod
    def pod(node: str, devices: str = "", phase: str = "Running", **requests: str) -> PodShape:
        told = {
            "metadata": {"name": "p", "annotations": {names.DEVICES: devices} if devices else {}},
            "spec": {"nodeName": node, "containers": [{"resources": {"requests": requests}}]},
            "status": {"phase": phase},
        }
        return msgspec.convert(told, PodShape)

    def test_it_is_what_nodes_have_less_what_others_take(self):
        others = [self.pod("a", cpu="1500m", memory="2Gi"), self.pod("gone", cpu="1")]

        told = capacity_of([self.node("a"), self.node("b")], others, [], Ways(), {})

        assert (told.cpu_cores, told.memory_bytes, told.disk_bytes) == (6, 14 * 2**30, 200 * 10**9)
        assert told.volumes_apart

    def test_nodes_that_take_no_pods_count_for_nothing(self):
        nodes = [self.node("a"), self.node("b", cordoned=True), self.node("c", ready="False")]

        assert capacity_of(nodes, [], [], Ways(), {}).cpu_cores == 4

    def test_gpus_are_named_by_node_and_those_of_others_are_left_out(self):
        others = [self.pod("a", **{"nvidia.com/gpu": "1"})]
        nodes = [self.node("a", gpus=3), self.node("b", gpus=1)]

        told = capacity_of(nodes, others, [], Ways(), {}).devices

        assert [device.name for device in told] == [
            "a/nvidia.com/gpu/0",
            "a/nvidia.com/gpu/1",
            "b/nvidia.com/gpu/0",
        ]
        assert {(device.model, device.resource) for device in told} == {("NVIDIA-RTX", "nvidia.com/gpu")}
        assert [device.host for device in told] == ["a", "a", "b"]

    def test_gpus_that_ours_have_stay_theirs_whatever_others_take_and_while_no_more_are_placed_there(self):
        ours = [self.pod("a", devices="a/nvidia.com/gpu/2", **{"nvidia.com/gpu": "1"})]
        others = [self.pod("a", **{"nvidia.com/gpu": "1"})]

        free = capacity_of([self.node("a", gpus=3)], others, ours, Ways(), {}).devices
        cordoned = capacity_of([self.node("a", gpus=3, cordoned=True)], [], ours, Ways(), {}).devices
        silent = capacity_of([self.node("a", gpus=3, ready="Unknown")], [], ours, Ways(), {}).devices

        assert [device.name for device in free] == ["a/nvidia.com/gpu/0", "a/nvidia.com/gpu/2"]
        assert [(device.name, device.trouble) for device in cordoned] == [("a/nvidia.com/gpu/2", "")]
        assert [(device.name, device.trouble) for device in silent] == [
            ("a/nvidia.com/gpu/2", "its node gives no answer")
        ]

    def test_each_node_has_its_own_amounts_less_what_ours_take_there_now(self):
        others = [self.pod("a", cpu="1500m")]
        ours = {"a": requests_of(self.pod("a", cpu="1", memory="1Gi")), "gone": requests_of(self.pod("gone", cpu="1"))}
        nodes = [self.node("a"), self.node("b"), self.node("c", cordoned=True)]

        hosts = capacity_of(nodes, others, [], Ways(cpu_overcommit=2, disk_overcommit=3), ours).hosts

        assert list(hosts) == ["a", "b"]
        assert (hosts["a"].whole.cpu_cores, hosts["a"].free.cpu_cores) == (5, 3)
        assert hosts["a"].whole.memory_bytes - hosts["a"].free.memory_bytes == 2**30
        assert (hosts["b"].whole, hosts["b"].free.disk_bytes) == (hosts["b"].free, 300 * 10**9)

    def test_pods_that_no_scheduler_has_looked_at_yet_count_where_they_will_likely_go(self):
        def coming(**more: Any) -> PodShape:
            told = {
                "metadata": {"name": "p", **more.get("metadata", {})},
                "spec": {"containers": [{"resources": {"requests": {"cpu": "3"}}}]},
                "status": more.get("status", {}),
            }
            return msgspec.convert(told, PodShape)

        capacity = capacity_of([self.node("a"), self.node("b", gpus=1)], [], [], Ways(), {})
        capacity = replace(capacity, volume_hosts={VolumeId("vol_1"): frozenset({"b"})})
        refused = coming(status={"conditions": [{"type": "PodScheduled", "status": "False"}]})
        going = coming(metadata={"deletionTimestamp": "2026-11-28T12:00:00Z"})
        with_gpu = coming(metadata={"annotations": {names.DEVICES: "b/nvidia.com/gpu/0"}})
        with_volume = coming(metadata={"labels": {names.VOLUME: "vol_1"}})

        def cores(*pods: PodShape) -> list[int]:
            return [there.free.cpu_cores for there in with_coming(capacity, unplaced(pods, Ways())).values()]

        assert cores(coming()) == [1, 4]
        assert cores(coming(), coming()) == [1, 1]
        assert cores(coming(), coming(), coming()) == [1, 1]  # it will find no room, and takes nothing
        assert cores(with_gpu) == cores(with_volume) == [4, 1]
        assert cores(refused, going, self.pod("a", cpu="3")) == [4, 4]

    def test_what_ours_take_is_counted_from_when_they_have_a_node_until_they_end(self):
        taken = TakenOfNodes()
        without, placed, ended = (
            self.pod("", cpu="1"),
            self.pod("a", cpu="1"),
            self.pod("a", phase="Failed", cpu="1"),
        )
        counts = []
        for change in ((None, without), (without, placed), (placed, placed), (None, placed), (placed, ended),
                       (ended, None), (placed, None)):  # fmt: skip
            taken.changed(*change)
            counts.append(taken.by_node["a"].cpu_milli if taken.by_node else 0)

        assert counts == [0, 1000, 1000, 2000, 1000, 1000, 0]
