"""How long a sign-in must wait after failed ones, pure (SECURITY 31).

Three counts over the last quarter of an hour, of tries that did not succeed:

1. this account from this address: five are free, then the wait doubles from 30 s up to the quarter of an hour;
2. this address, any account: after thirty, one a minute (somebody tries a list of people);
3. this account, any address: after fifty, one in 30 s (many machines try one person), unless the person has signed in
   from this address before: strangers cannot lock them out.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(minutes=15)

_FREE = 5
_FIRST_WAIT = timedelta(seconds=30)
_ADDRESS_FREE = 30
_ADDRESS_WAIT = timedelta(seconds=60)
_ACCOUNT_FREE = 50
_ACCOUNT_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Tries:
    """How many there were, and when the last was."""

    count: int
    last_at: datetime | None


def wait_seconds(*, both: Tries, of_address: Tries, of_account: Tries, familiar_address: bool, now: datetime) -> int:
    """Return the seconds until the next try is looked at; 0: now."""
    waits = [_wait(of_address, _ADDRESS_FREE, _ADDRESS_WAIT, now)]
    doublings = min(max(both.count - _FREE, 0), 10)
    waits.append(_wait(both, _FREE, min(_FIRST_WAIT * 2**doublings, WINDOW), now))
    if not familiar_address:
        waits.append(_wait(of_account, _ACCOUNT_FREE, _ACCOUNT_WAIT, now))
    return max(waits)


def _wait(tries: Tries, free: int, wait: timedelta, now: datetime) -> int:
    if tries.count < free or tries.last_at is None:
        return 0
    left = (tries.last_at + wait - now).total_seconds()
    return max(0, int(left) + (left % 1 > 0))


def counted_address(address: str) -> str:
    """Return what counts as one address: an IPv6 customer has a whole /64."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
