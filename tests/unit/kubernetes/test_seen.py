"""What a Pod's object means, from objects as API servers tell them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from neuropod.runtimes.contract import Phase
from neuropod.runtimes.kubernetes.reasons import Free, Hints
from neuropod.runtimes.kubernetes.seen import is_ended, moment, seen_of, written
from neuropod.runtimes.kubernetes.shapes import EventShape, PodShape, Reference
from neuropod.words import Reason

T0 = datetime(2026, 11, 28, 11, 0, 0, tzinfo=UTC)


def at(seconds: int) -> str:
    return (T0 + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    *,
    node: str = "node-1",
    phase: str = "Running",
    state: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    status: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> PodShape:
    told: dict[str, Any] = {
        "metadata": {
            "name": "lab-abcdefgh",
            "namespace": "neuropod-abcdefgh",
            "uid": "uid-1",
            "creationTimestamp": at(0),
            "labels": {
                "neuropod.io/installation": "ins_1",
                "neuropod.io/pod": "pod_1",
                "neuropod.io/incarnation": "2",
            },
            "annotations": annotations or {},
            **(metadata or {}),
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {"image": "example.org/lab:1", "resources": {"requests": {"cpu": "2", "memory": "4000000000"}}}
            ],
        },
        "status": {
            "phase": phase,
            "podIP": "10.1.0.7",
            "conditions": conditions or [],
            "containerStatuses": [] if state is None else [{"name": "main", "state": state}],
            **(status or {}),
        },
    }
    if not node:
        del told["spec"]["nodeName"]
    return msgspec.convert(told, PodShape)


RUNNING = {"running": {"startedAt": at(3)}}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": at(3),
            "finishedAt": at(9),
        }
    }


def event(reason: str, message: str, seconds: int = 5, kind: str = "Normal") -> EventShape:
    told = {
        "metadata": {"name": reason.lower()},
        "reason": reason,
        "message": message,
        "type": kind,
        "lastTimestamp": at(seconds),
    }
    return msgspec.convert(told, EventShape)


def test_it_is_named_by_its_labels_and_known_by_its_uid():
    seen = seen_of(pod(state=RUNNING))

    assert seen is not None
    assert (seen.id.installation, seen.id.pod, seen.id.incarnation) == ("ins_1", "pod_1", 2)
    assert (seen.identity, seen.address) == ("uid-1", "10.1.0.7")


def test_what_does_not_carry_our_labels_is_none_of_ours():
    assert seen_of(pod(metadata={"labels": {"app": "lab"}})) is None
    assert seen_of(pod(metadata={"labels": {"neuropod.io/installation": "ins_1", "neuropod.io/pod": "p"}})) is None


class TestReady:
    def test_one_that_is_ready_as_a_process_is_ready_when_it_runs(self):
        seen = seen_of(pod(state=RUNNING, annotations={"neuropod.io/ready-when": "process"}))

        assert seen is not None
        assert (seen.phase, seen.reason) == (Phase.READY, Reason.READY)
        assert seen.started_at == seen.ready_at == T0 + timedelta(seconds=3)

    def test_one_that_is_ready_by_its_port_is_not_before_it_was_written_down(self):
        seen = seen_of(pod(state=RUNNING, annotations={"neuropod.io/ready-when": "http:8888"}))

        assert seen is not None
        assert (seen.phase, seen.reason, seen.ready_at) == (Phase.PENDING, Reason.NOT_READY, None)

    def test_and_stays_ready_at_that_moment_after_its_end(self):
        ready_at = T0 + timedelta(seconds=4, microseconds=250)
        marks = {"neuropod.io/ready-when": "http:8888", "neuropod.io/ready-at": written(ready_at)}

        running = seen_of(pod(state=RUNNING, annotations=marks))
        over = seen_of(pod(phase="Succeeded", state=ended(0, "Completed"), annotations=marks))

        assert running is not None
        assert over is not None
        assert running.ready_at == over.ready_at == ready_at

    def test_one_whose_container_ended_and_whose_node_says_no_more_yet_goes_on_as_it_was(self):
        seen = seen_of(pod(state=ended(0), annotations={"neuropod.io/ready-when": "process"}))

        assert seen is not None
        assert seen.phase is Phase.READY


class TestPending:
    @pytest.mark.parametrize(
        ("message", "hints", "reason", "words"),
        [
            (None, Hints(), Reason.STARTING, ""),
            (None, Hints(now=datetime(2026, 1, 1, tzinfo=UTC)), Reason.SCHEDULING, ""),
            (
                "0/1 nodes are available: 1 Insufficient cpu.",
                Hints(free={"node-1": Free(500, 10**10, 10**10, {})}),
                Reason.UNSCHEDULABLE,
                "it needs 2 CPU cores, and no node has more than 0.5 CPU cores free",
            ),
            (
                "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
                Hints(free={"a": Free(500, 10**10, 10**10, {}), "b": Free(4000, 10**9, 10**10, {})}),
                Reason.UNSCHEDULABLE,
                "no node has all of it free: 2 CPU cores and 4.0 GB of memory",
            ),
            ("0/0 nodes are available.", Hints(free={}), Reason.UNSCHEDULABLE, "no node takes pods now"),
            (
                "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }.",
                Hints(free={"node-1": Free(4000, 10**10, 10**10, {})}),
                Reason.UNSCHEDULABLE,
                "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }",
            ),
            (
                "pod has unbound immediate PersistentVolumeClaims. not found",
                Hints(claim_events=[event("ProvisioningFailed", "no space left on the array", kind="Warning")]),
                Reason.VOLUME_WAITS,
                "no space left on the array",
            ),
        ],
    )
    def test_without_a_node_it_says_what_is_short_and_how_much_is_free(self, message, hints, reason, words):
        told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message or ""}

        seen = seen_of(pod(node="", phase="Pending", conditions=[told] if message else []), hints)

        assert seen is not None
        assert (seen.phase, seen.reason, seen.message) == (Phase.PENDING, reason, words)

    def test_a_pull_says_for_how_long_it_has_been_going_on_and_moves_on_with_time(self):
        creating = {"waiting": {"reason": "ContainerCreating"}}
        pulling = [event("Scheduled", "assigned", 3), event("Pulling", 'Pulling image "example.org/lab:1"', 2)]

        looks = [
            seen_of(pod(phase="Pending", state=creating), Hints(events=pulling, now=T0 + timedelta(seconds=seconds)))
            for seconds in (12, 42)
        ]

        assert [(look.reason, look.message) for look in looks if look] == [
            (Reason.PULLING, "example.org/lab:1, for 10 s so far"),
            (Reason.PULLING, "example.org/lab:1, for 40 s so far"),
        ]
        assert looks[0].progress != looks[1].progress

    @pytest.mark.parametrize(
        ("waiting", "message", "reason"),
        [
            (
                "ErrImagePull",
                'rpc error: code = NotFound desc = failed to pull: "x": not found',
                Reason.IMAGE_NOT_FOUND,
            ),
            ("ErrImagePull", "unexpected status from HEAD request: 401 Unauthorized", Reason.PULL_DENIED),
            ("ErrImagePull", "pull access denied, repository does not exist or may require", Reason.PULL_DENIED),
            ("ErrImagePull", "dial tcp: lookup registry: i/o timeout", Reason.PULLING),
            ("InvalidImageName", 'couldn\'t parse image name "UPPER": invalid', Reason.IMAGE_NOT_FOUND),
            ("CreateContainerConfigError", 'secret "lab-env" not found', Reason.STARTING),
        ],
    )
    def test_a_pull_that_failed_says_whether_it_is_worth_another_try(self, waiting, message, reason):
        seen = seen_of(pod(phase="Pending", state={"waiting": {"reason": waiting, "message": message}}))

        assert seen is not None
        assert (seen.phase, seen.reason) == (Phase.PENDING, reason)
        assert seen.message

    @pytest.mark.parametrize(
        ("seconds", "reason"), [(None, Reason.PULLING), (5, Reason.PULLING), (25, Reason.PULL_DENIED)]
    )
    def test_a_pod_with_credentials_is_denied_at_its_second_try(self, seconds, reason):
        """Its node may not have read them in time for the first one, and then asks without."""
        message = "pull access denied, repository does not exist or may require authorization"
        plain = pod(
            phase="Pending",
            state={"waiting": {"reason": "ErrImagePull", "message": message}},
            conditions=[{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(1)}],
        )
        keeps = msgspec.structs.replace(
            plain, spec=msgspec.structs.replace(plain.spec, image_pull_secrets=(Reference(name="lab-registry"),))
        )
        hints = Hints(now=None if seconds is None else T0 + timedelta(seconds=seconds))

        seen, without = seen_of(keeps, hints), seen_of(plain, hints)

        assert seen is not None
        assert seen.reason is reason
        assert message in seen.message
        assert without is not None
        assert without.reason is Reason.PULL_DENIED

    def test_a_back_off_is_explained_by_the_event_before_it(self):
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "example.org/lab:1"'}}
        events = [event("Failed", 'Failed to pull image "example.org/lab:1": unexpected status 403 Forbidden', 4)]

        seen = seen_of(pod(phase="Pending", state=waiting), Hints(events=events))

        assert seen is not None
        assert seen.reason is Reason.PULL_DENIED

    def test_a_volume_that_cannot_be_mounted_is_the_reason(self):
        events = [event("FailedMount", "MountVolume.SetUp failed for volume", 7, "Warning")]

        seen = seen_of(pod(phase="Pending", state={"waiting": {"reason": "ContainerCreating"}}), Hints(events=events))

        assert seen is not None
        assert (seen.reason, seen.message) == (Reason.VOLUME_WAITS, "MountVolume.SetUp failed for volume")


class TestEnd:
    @pytest.mark.parametrize(
        ("phase", "state", "status", "reason", "message", "code"),
        [
            ("Succeeded", ended(0, "Completed"), {}, Reason.EXITED, "", 0),
            ("Failed", ended(3, message="one\ntwo\nthree\nno such file\n"), {}, Reason.CRASHED, "two / three / no such file", 3),
            ("Failed", ended(137, "OOMKilled"), {}, Reason.OUT_OF_MEMORY, "", 137),
            (
                "Failed",
                None,
                {"reason": "Evicted", "message": "Pod ephemeral local storage usage exceeds the total limit of 1Gi. "},
                Reason.DISK_FULL,
                "Pod ephemeral local storage usage exceeds the total limit of 1Gi",
                None,
            ),
            (
                "Failed",
                ended(137),
                {"reason": "Evicted", "message": "The node was low on resource: memory."},
                Reason.EVICTED,
                "The node was low on resource: memory",
                137,
            ),
            (
                "Failed",
                {"terminated": {"exitCode": 128, "reason": "StartError", "message": 'exec: "nope": not found',
                                "startedAt": "1970-01-01T00:00:00Z", "finishedAt": at(4)}},
                {},
                Reason.REJECTED,
                'exec: "nope": not found',
                None,
            ),
            ("Failed", None, {"reason": "OutOfcpu", "message": "Pod was rejected: no cpu"}, Reason.EVICTED, "Pod was rejected: no cpu", None),
        ],
    )  # fmt: skip
    def test_it_is_told_with_what_there_is(self, phase, state, status, reason, message, code):
        seen = seen_of(pod(phase=phase, state=state, status=status))

        assert seen is not None
        assert (seen.phase, seen.reason, seen.message, seen.exit_code) == (Phase.EXITED, reason, message, code)
        assert seen.finished_at is not None or state is None

    def test_one_that_we_stopped_ended_for_our_reason_whatever_its_code(self):
        marks = {"neuropod.io/stop-reason": "idle", "neuropod.io/stopping-at": written(T0 + timedelta(seconds=8.5))}

        running = seen_of(pod(state=RUNNING, annotations=marks))
        over = seen_of(pod(phase="Failed", state=ended(143), annotations=marks, status={"reason": "DeadlineExceeded"}))

        assert running is not None
        assert over is not None
        assert (running.phase, running.reason) == (Phase.STOPPING, Reason.IDLE)
        assert (over.phase, over.reason, over.exit_code) == (Phase.EXITED, Reason.IDLE, 143)
        assert running.stopping_at == over.stopping_at == T0 + timedelta(seconds=8.5)
        assert over.finished_at == T0 + timedelta(seconds=9)

    def test_an_end_within_the_second_in_which_it_was_stopped_comes_after_the_stop(self):
        stopped_at = T0 + timedelta(seconds=9, milliseconds=700)
        marks = {"neuropod.io/stop-reason": "requested", "neuropod.io/stopping-at": written(stopped_at)}

        seen = seen_of(pod(phase="Failed", state=ended(0), annotations=marks))

        assert seen is not None
        assert seen.finished_at is not None
        assert stopped_at < seen.finished_at < stopped_at + timedelta(seconds=1)

    def test_what_explained_that_it_never_ran_is_told_after_its_stop(self):
        marks = {
            "neuropod.io/stop-reason": "image_not_found",
            "neuropod.io/stop-message": "example.org/lab:1 (not found)",
            "neuropod.io/stopping-at": written(T0),
        }

        seen = seen_of(pod(phase="Failed", state={"waiting": {"reason": "ErrImagePull"}}, annotations=marks))

        assert seen is not None
        assert (seen.phase, seen.reason, seen.started_at) == (Phase.EXITED, Reason.IMAGE_NOT_FOUND, None)
        assert seen.message == "example.org/lab:1 (not found)"

    def test_one_that_still_terminates_has_not_ended_although_its_phase_says_so(self):
        seen = seen_of(pod(phase="Failed", state=RUNNING, annotations={"neuropod.io/stopping-at": written(T0)}))

        assert seen is not None
        assert seen.phase is Phase.STOPPING

    def test_a_deletion_by_somebody_else_is_told_as_that(self):
        gone = {"deletionTimestamp": at(38), "deletionGracePeriodSeconds": 30}

        going = seen_of(pod(state=RUNNING, metadata=gone))
        over = seen_of(pod(phase="Failed", state=ended(143), metadata=gone))

        assert going is not None
        assert over is not None
        assert (going.phase, going.reason) == (Phase.STOPPING, Reason.DELETED_OUTSIDE)
        assert going.stopping_at == T0 + timedelta(seconds=8)
        assert (over.phase, over.reason, over.exit_code) == (Phase.EXITED, Reason.DELETED_OUTSIDE, 143)

    def test_one_that_is_deleted_before_it_had_a_node_has_ended(self):
        waiting = pod(node="", phase="Pending")
        deleted = pod(node="", phase="Pending", metadata={"deletionTimestamp": at(5), "deletionGracePeriodSeconds": 0})

        assert not is_ended(waiting)
        assert is_ended(deleted)

    def test_one_whose_node_was_given_up_has_ended_whatever_its_container_was_last_seen_doing(self):
        lost = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": "PodGC"}
        told = {"type": "Ready", "status": "False", "lastTransitionTime": at(100)}

        seen = seen_of(
            pod(phase="Failed", state=RUNNING, conditions=[lost, told], metadata={"deletionTimestamp": at(300)})
        )

        assert seen is not None
        assert (seen.phase, seen.reason) == (Phase.EXITED, Reason.NODE_LOST)
        assert seen.finished_at is not None
        assert seen.finished_at >= T0 + timedelta(seconds=100)


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-13-01"])
def test_a_time_that_is_none_is_none(text):
    assert moment(text) is None


def test_a_time_of_ours_comes_back_exactly():
    now = T0 + timedelta(microseconds=123456)

    assert moment(written(now)) == now
