"""Fill the cache before the tests: ``python -m testbed.prepare``.

pytest-xdist's workers would download what they lack by themselves, but silently and waiting for each other. One
process does it first and says what it does. Everything is kept; with a full cache this takes a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from testbed import chromium, distributions, packages
from testbed.distributions import Distribution
from testbed.packages import Unavailable, Unsupported, progress

EXIT_UNAVAILABLE = 2

DISTRIBUTIONS: tuple[tuple[str, Callable[[], Distribution]], ...] = (
    ("MySQL", distributions.mysql),
    ("MariaDB 11.8", lambda: distributions.mariadb(packages.MARIADB_11_8)),
    ("MariaDB 10.11", lambda: distributions.mariadb(packages.MARIADB_10_11)),
    ("MySQL 5.6", distributions.mysql_56),
)


def main() -> int:
    """Prepare every server and tool of the tests; 2 when one that is needed cannot be had."""
    for name, find in DISTRIBUTIONS:
        try:
            distribution = find()
            distribution.template()
        except Unsupported as error:
            progress(f"{name} is left out, its tests are skipped: {error}")
        except Unavailable as error:
            progress(f"{name} cannot be had: {error}")
            return EXIT_UNAVAILABLE
        else:
            progress(f"{distribution.label} is ready")
    for tool in (packages.SYSBENCH, packages.STRACE, packages.PROMETHEUS):
        try:
            packages.fetch(tool)
        except Unavailable as error:
            progress(f"{tool.name} cannot be had: {error}")
            return EXIT_UNAVAILABLE
        progress(f"{tool.name} is ready")
    try:
        progress(f"Chromium {chromium.find().version()} is ready")
    except Unsupported as error:
        progress(f"Chromium is left out, its tests are skipped: {error}")
    except Unavailable as error:
        progress(f"Chromium cannot be had: {error}")
        return EXIT_UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
