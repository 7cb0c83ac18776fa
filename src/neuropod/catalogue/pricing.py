"""What running costs, as a pure function of a price and of times. Used by ledger and pods; knows no session, no clock.

A whole time is rounded once, half up. A window is the difference of two rounded totals, so that however a time is cut
into windows, they sum to exactly what the whole costs: no micro-unit is lost or charged twice.
"""

from datetime import datetime, timedelta

from neuropod.kit.money import Micros

_HOUR = 3_600_000_000  # microseconds
_MICROSECOND = timedelta(microseconds=1)


def price_of(unit_price: Micros, count: int) -> Micros:
    """Return the hour's price of `count` units of a type."""
    return Micros(unit_price * count)


def disk_price(price_micros_per_gb_hour: Micros, size_gb: int) -> Micros:
    """Return the hour's price of a disk."""
    return Micros(price_micros_per_gb_hour * size_gb)


def cost(price_micros_per_hour: Micros, duration: timedelta) -> Micros:
    """Return what `duration` costs at an hour's price; a negative time (a clock that was set back) costs nothing."""
    microseconds = max(duration // _MICROSECOND, 0)
    return Micros((2 * price_micros_per_hour * microseconds + _HOUR) // (2 * _HOUR))


def window_cost(
    price_micros_per_hour: Micros, started_at: datetime, window_from: datetime, window_to: datetime
) -> Micros:
    """Return what the window adds to what was charged since `started_at`: total to its end less total to its start."""
    to_end = cost(price_micros_per_hour, window_to - started_at)
    to_start = cost(price_micros_per_hour, window_from - started_at)
    return Micros(to_end - to_start)
