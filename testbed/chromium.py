"""Chromium for the tests of the status page: Debian's chromium-headless-shell, driven by playwright.

It comes as the servers do, as packages unpacked into the cache folder, and nothing of the machine is touched. But it
starts itself again for each of its processes (/proc/self/exe), so it cannot be run through a loader of its own as they
are: it takes the libraries of the bundle by LD_LIBRARY_PATH, and the C library of the machine, of whose release the
bundle is. Of fonts it sees the bundle's alone, so that pictures are the same everywhere; and a home of its own.

BINLOGD_CHROMIUM names another Chromium, which is run as it is. Without it the tests are skipped where the machine's
release has no such package: Ubuntu's is a snap.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from testbed import packages
from testbed.packages import CHROMIUM, Unavailable, Unsupported

START_TIMEOUT = 60.0  # seconds; half a second on an idle machine
PROGRAM = "usr/lib/chromium/chromium-headless-shell"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
"""The sandbox needs a program that is setuid; what is shown is our own page."""

FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser that can be started: its program, and the bundle that it is from."""

    program: Path
    root: Path | None = None

    def environ(self, home: Path) -> dict[str, str]:
        """What it needs in its environment, with ``home`` to write into."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGD_")}
        environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
        if self.root is not None:
            triplet = f"{platform.machine()}-linux-gnu"
            folders = [self.root / base / triplet for base in ("usr/lib", "lib")]
            # Some libraries lie in folders of their own (nss, pulseaudio), which are known to others by absolute paths.
            folders += sorted({library.parent for library in folders[0].glob("*/lib*.so*")})
            environ["LD_LIBRARY_PATH"] = ":".join(str(folder) for folder in folders if folder.is_dir())
            fonts = home / "fonts.conf"
            fonts.write_text(FONTS.format(fonts=self.root / "usr/share/fonts", cache=home / "fonts"))
            environ["FONTCONFIG_FILE"] = str(fonts)
        return environ

    def version(self) -> str:
        """Its version: that it starts at all is shown by asking."""
        with tempfile.TemporaryDirectory(prefix="binlogd-chromium-", ignore_cleanup_errors=True) as home:
            done = subprocess.run(
                [self.program, "--version"],
                env=self.environ(Path(home)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=START_TIMEOUT,
                check=False,
            )
        if done.returncode:
            raise Unavailable(f"{self.program} does not start: {done.stderr.strip()[-500:]}")
        return done.stdout.strip().rpartition(" ")[2]


def find() -> Chromium:
    """BINLOGD_CHROMIUM, else the bundle, downloaded when it is not in the cache yet (20 s, 100 MB)."""
    if named := os.environ.get("BINLOGD_CHROMIUM"):
        return Chromium(Path(named))
    release = packages.os_release()
    if release.get("ID") != "debian":
        raise Unsupported(f"{release.get('NAME', 'this system')} has no package of it; name one with BINLOGD_CHROMIUM")
    root = packages.fetch(CHROMIUM).root
    return Chromium(root / PROGRAM, root)


@contextmanager
def browser() -> Iterator[Browser]:
    """A running browser, gone when the context ends."""
    chromium = find()
    with tempfile.TemporaryDirectory(prefix="binlogd-chromium-", ignore_cleanup_errors=True) as home:
        with sync_playwright() as playwright:
            running = playwright.chromium.launch(
                executable_path=chromium.program,
                args=list(ARGUMENTS),
                env={**chromium.environ(Path(home))},
                timeout=START_TIMEOUT * 1000,
            )
            try:
                yield running
            finally:
                running.close()
