"""Compiles the kernels in src/afina/kernels/*.c when the package is installed, where that is possible.

Without a C compiler, or on another system than Linux, the package is installed without it, and training takes torch's
own operations: the same up to rounding, and slower. `CC` names the compiler, as for other builds; CC=false leaves the
kernels out.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/afina/kernels")
LIBRARY = FOLDER / "libkernels.so"
# Each operation rounded by itself, and a root that needs to set no errno; nothing that changes a number.
FLAGS = ("-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
# Not every compiler and assembler knows AMX, nor can all of them and all C libraries hold code for several processors
# in one function: gcc before its version 12 can't. Then it is compiled for AVX512 if this machine has that, else for
# any processor; the library says which it is, and `afina.kernels.native` looks.
TARGETS: tuple[tuple[str, ...], ...] = ((), ("-DNO_TILES",))
AVX512 = tuple(f"-mavx512{unit}" for unit in ("f", "bw", "cd", "dq", "vl"))
WIDE = ("-DONE_TARGET", *AVX512, "-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe")
WIDE_UNITS = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
ANY = ("-DONE_TARGET",)
# A minute on an idle machine of two cores; on a busy one several.
LONGEST_SECONDS = 900


class KernelBuildHook(BuildHookInterface[Any]):
    """What hatchling calls before it builds a wheel, an editable one too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        failure = compile_kernel(root)
        if failure:
            self.app.display_warning(f"afina is installed without its compiled kernels: {failure}")
            return
        if version == "standard":  # an editable installation finds it beside the source
            build_data["artifacts"].append(LIBRARY.as_posix())
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_kernel(root: Path) -> str:
    """Put the library beside its source; gives why that is impossible, or an empty string."""
    try:
        (root / LIBRARY).unlink(missing_ok=True)  # a process that has it open keeps it
        if sys.platform != "linux":
            return f"it is for Linux, and this is {sys.platform}"
        compiler = find_compiler()
        return run_compiler(compiler, root) if compiler else "no C compiler was found"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)


def find_compiler() -> list[str]:
    """The command of the compiler: what `CC` says, else the first of the usual ones."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), [])


def run_compiler(compiler: list[str], root: Path) -> str:
    """What it says that goes wrong, with each set of targets; an empty string where one of them does."""
    sources = [str(path) for path in list_sources(root) if path.suffix == ".c"]
    digest = hash_sources(root)
    failure = ""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, LIBRARY.name)
        for target in (*TARGETS, *([WIDE] if has_wide_vectors() else []), ANY):
            command = [*compiler, *FLAGS, *target, f'-DSOURCE_HASH="{digest}"', "-o", str(made), *sources, "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
            if done.returncode == 0:
                shutil.copyfile(made, root / LIBRARY)
                return ""
            failure = f"{compiler[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
    return failure


def has_wide_vectors() -> bool:
    """Whether this machine has AVX512."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\nflags")[2].partition("\n")[0]
    except OSError:
        return False
    return set(flags.split()) >= WIDE_UNITS


def list_sources(root: Path) -> list[Path]:
    """The files that the library is made of, in the order in which they are hashed."""
    return sorted(path for path in (root / FOLDER).iterdir() if path.suffix in (".c", ".h"))


def hash_sources(root: Path) -> str:
    """As `afina.kernels.native` hashes them."""
    digest = hashlib.sha256()
    for path in list_sources(root):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
