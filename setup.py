"""The hot modules, compiled where that is possible; pyproject.toml says everything else.

Without a C compiler, or with BINLOGD_PURE=1, the same files are installed as the Python they are.
"""

import os

from setuptools import Extension, setup

HOT = ("walk", "framing", "excerpt")
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # the .pxd files say what is C; annotations speak to people and mypy
    "boundscheck": False,  # the modules check before they read
    "wraparound": False,
    "initializedcheck": False,
    "nonecheck": False,
    "cdivision": True,
}


def extensions() -> list[Extension]:
    if os.environ.get("BINLOGD_PURE", "0") not in ("", "0"):
        return []
    from Cython.Build import cythonize

    found = [
        Extension(
            f"binlogd.binlog.{name}",
            [f"src/binlogd/binlog/{name}.py"],
            depends=[f"src/binlogd/binlog/machine.{kind}" for kind in ("h", "pxd")],
            include_dirs=["src/binlogd/binlog"],
            extra_compile_args=["-O3", "-g0"],
        )
        for name in HOT
    ]
    made: list[Extension] = cythonize(found, build_dir="build/cython", compiler_directives=DIRECTIVES)
    for extension in made:
        extension.optional = True  # cythonize forgets it: without a compiler the build goes on
    return made


setup(ext_modules=extensions())
