"""Time zones a session may have: SYSTEM, or an offset such as ``+05:30``.

Named zones need the tables mysqld keeps in its mysql schema; without them it knows the same two forms.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_OFFSET = re.compile(r"([+-])(\d{1,2}):([0-5]\d)")
_LEAST, _MOST = timedelta(hours=-13, minutes=-59), timedelta(hours=14)  # MySQL's range since 8.0.19


def is_time_zone(zone: str) -> bool:
    return zone.upper() == "SYSTEM" or _offset(zone) is not None


def local_time(seconds: float, zone: str) -> str:
    """The moment ``seconds`` after 1970 as ``YYYY-MM-DD HH:MM:SS`` in ``zone``."""
    offset = _offset(zone)
    moment = datetime.fromtimestamp(seconds, None if offset is None else timezone(offset))
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def seconds_of(moment: datetime, zone: str) -> float:
    """Seconds after 1970 of a moment without a zone of its own."""
    offset = _offset(zone)
    return (moment if offset is None else moment.replace(tzinfo=timezone(offset))).timestamp()


def _offset(zone: str) -> timedelta | None:
    found = _OFFSET.fullmatch(zone)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    offset = -offset if sign == "-" else offset
    return offset if _LEAST <= offset <= _MOST else None
