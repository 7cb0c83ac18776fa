"""Points of usage: rates from counts, packing that loses little, rows that join to one series."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from neuropod.ids import InstallationId, PodId
from neuropod.pods.usage.series import Meter, Point, Recorder, joined, pack, unpack
from neuropod.runtimes.contract import WorkloadId
from neuropod.runtimes.usage import GpuUsage, Usage

T = datetime(2026, 1, 1, 12, tzinfo=UTC)
POD = PodId("pod_1")
ONE = WorkloadId(InstallationId("npd_test"), POD, 1)
FULL = Point(T, 1.5, 4096 * 10, 8192, 4096, 37, 4096 * 3)


def after(seconds: float) -> datetime:
    return T + timedelta(seconds=seconds)


def usage(cpu_seconds: float | None) -> Usage:
    return Usage(cpu_seconds, 1000)


def rates(meter: Meter, *readings: tuple[float, float | None], otherwise: float | None = None) -> list[float | None]:
    return [meter.point(ONE, usage(cpu), after(seconds), otherwise=otherwise).cpu_cores for seconds, cpu in readings]


def test_a_rate_is_what_was_added_since_the_reading_before():
    assert rates(Meter(), (0, 10), (60, 40), (120, 160)) == [None, 0.5, 2]


def test_a_first_reading_takes_what_is_known_otherwise_and_one_that_comes_at_once_the_rate_before():
    meter = Meter()

    assert rates(meter, (0, 10), otherwise=0.7) == [0.7]
    assert rates(meter, (2, 11), (2.1, 11.9), (4, 12)) == [0.5, 0.5, 0.5]


def test_a_count_that_went_back_or_is_not_told_makes_no_rate_below_nothing():
    assert rates(Meter(), (0, 10), (60, 4), (120, None), (180, 64)) == [None, 0, None, 0.5]


def test_a_reading_of_long_ago_makes_no_rate_of_now():
    assert rates(Meter(greatest_seconds=90), (0, 10), (1000, 500), (1010, 510)) == [None, None, 1]


def test_a_meter_remembers_no_more_than_it_may():
    meter = Meter(most=2)
    others = [replace(ONE, incarnation=number) for number in (2, 3)]
    for workload in (ONE, *others):
        meter.point(workload, usage(0), T)

    assert meter.point(ONE, usage(60), after(60)).cpu_cores is None
    assert meter.point(others[1], usage(60), after(60)).cpu_cores == 1


def test_gpus_are_averaged_and_their_memory_added_up():
    gpus = (GpuUsage("a", 10, 100), GpuUsage("b", 25, 200), GpuUsage("c", None, None))

    point = Meter().point(ONE, Usage(0, 1, gpus=gpus), T)

    assert (point.gpu_percent, point.gpu_memory_bytes) == (18, 300)


@pytest.mark.parametrize(
    "point",
    [FULL, Point(T, None, None, None, None, None, None), Point(T, 0, 0, 0, 0, 0, 0), replace(FULL, gpu_percent=100)],
)
def test_a_point_survives_packing(point: Point):
    assert unpack(pack(point)) == [point]


def test_packing_rounds_and_never_overflows():
    point = Point(T + timedelta(milliseconds=700), 0.12345, 5000, 10**16, None, 300, 1)

    (packed,) = unpack(pack(point))

    assert packed.at == T
    assert packed.cpu_cores == 0.123
    assert packed.memory_bytes == 8192
    assert packed.container_disk_bytes is not None
    assert packed.gpu_percent == 100


def test_a_row_that_was_cut_short_gives_its_whole_points():
    assert unpack(pack(FULL) + pack(FULL)[:7]) == [FULL]


def test_a_recorder_fills_an_hour_per_row_and_forgets_what_is_over():
    recorder = Recorder()
    for minute in range(61):
        recorder.add({POD: replace(FULL, at=after(60 * minute))})

    assert recorder.chunks[POD].began_at == after(3600)
    assert len(unpack(bytes(recorder.chunks[POD].points))) == 1

    recorder.add({})
    assert recorder.chunks == {}


def test_rows_join_in_order_without_what_is_too_old_or_measured_twice():
    minutes = [replace(FULL, at=after(60 * minute)) for minute in range(5)]
    twice = replace(FULL, at=after(60 * 3 + 10))
    rows = [pack(minutes[3]) + pack(minutes[4]), pack(twice), b"".join(map(pack, minutes[:3]))]

    points = joined(rows, since=after(60), apart=timedelta(minutes=1))

    assert [point.at for point in points] == [point.at for point in minutes[1:]]
