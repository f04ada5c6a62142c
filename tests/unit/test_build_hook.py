"""What an installation compiles: a library where there is a compiler, else a word on why there is none."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from afina.kernels import native

ROOT = Path(__file__).parents[2]
HOOK = ROOT / "hatch_build.py"


class Application:
    """Takes what hatchling would print."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the hook, on a stand-in for hatchling's base class: tests run without the build's packages."""

    class Base:
        root: str
        app: Application

        def __class_getitem__(cls, item: object) -> type:
            return cls

    name = "hatchling.builders.hooks.plugin.interface"
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    sys.modules[name].BuildHookInterface = Base  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("hatch_build", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(hook: Any, tmp_path: Path) -> Path:
    """A folder with the sources, and a library of older ones."""
    (tmp_path / hook.FOLDER).mkdir(parents=True)
    for source in hook.list_sources(ROOT):
        shutil.copy(source, tmp_path / hook.FOLDER)
    (tmp_path / hook.LIBRARY).write_bytes(b"old")
    return tmp_path


def build(hook: Any, root: Path, version: str = "standard") -> tuple[dict[str, Any], list[str]]:
    """What hatchling is told, and what is printed."""
    made = hook.KernelBuildHook()
    made.root, made.app = str(root), Application()
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    made.initialize(version, data)
    return data, made.app.warnings


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs a C compiler on Linux")
@pytest.mark.parametrize("version", ["standard", "editable"])
def test_a_wheel_holds_the_library_and_is_for_this_system(
    hook: Any, root: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    data, warnings = build(hook, root, version)
    assert not warnings
    library = ctypes.CDLL(str(root / hook.LIBRARY))
    assert library.afina_take_blocks
    library.afina_source_hash.restype = ctypes.c_char_p
    assert library.afina_source_hash().decode() == native.hash_sources()
    if version == "editable":
        assert data == {"artifacts": [], "pure_python": True}
        return
    assert (data["artifacts"], data["pure_python"]) == ([str(hook.LIBRARY)], False)
    assert data["tag"].startswith("py3-none-linux_")


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        ("false", "false ended with 1: "),
        ("no-such-compiler -O1", "[Errno 2] No such file or directory: 'no-such-compiler'"),
        ("'", "No closing quotation"),
    ],
)
def test_without_a_compiler_the_package_is_installed_without_it(
    hook: Any, root: Path, compiler: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("CC", compiler)
    data, warnings = build(hook, root)
    assert data == {"artifacts": [], "pure_python": True}
    assert warnings == [f"afina is installed without its compiled kernels: {words}"]
    assert not (root / hook.LIBRARY).exists()


def test_other_systems_and_machines_without_a_compiler_have_none(
    hook: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert build(hook, root)[1] == ["afina is installed without its compiled kernels: no C compiler was found"]
    monkeypatch.setattr(sys, "platform", "win32")
    expected = "afina is installed without its compiled kernels: it is for Linux, and this is win32"
    assert build(hook, root)[1] == [expected]


@pytest.mark.parametrize("is_wide", [False, True])
def test_a_compiler_that_knows_one_target_only_is_enough(
    is_wide: bool, hook: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "has_wide_vectors", lambda: is_wide)
    compiler = root / "cc"
    compiler.write_text(
        '#!/bin/sh\nfor each in "$@"; do\n[ "$last" = -o ] && made="$each"\n'
        '[ "$each" = -DONE_TARGET ] && one=yes\n[ "$each" = -mavx512bw ] && wide=" for AVX512"\nlast="$each"\ndone\n'
        '[ -n "$one" ] && echo "library$wide" > "$made"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("CC", str(compiler))
    assert not build(hook, root)[1]
    assert (root / hook.LIBRARY).read_text() == ("library for AVX512\n" if is_wide else "library\n")


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs a C compiler on Linux")
def test_a_library_says_which_processors_it_was_compiled_for(hook: Any, root: Path, tmp_path: Path) -> None:
    import subprocess

    found = {}
    for name, target in (("several", ()), ("wide", hook.WIDE), ("any", hook.ANY)):
        made = tmp_path / f"{name}.so"
        sources = [str(tmp_path / hook.FOLDER / "threads.c")]
        subprocess.run(["cc", *hook.FLAGS, *target, '-DSOURCE_HASH="x"', "-o", str(made), *sources], check=True)
        found[name] = ctypes.CDLL(str(made)).afina_targets()
    assert found == {"several": 2, "wide": native.FOR_WIDE_VECTORS, "any": native.FOR_ANY}


@pytest.mark.parametrize(("targets", "is_wide", "layers"), [(2, True, True), (2, False, False), (0, True, False)])
def test_kernels_of_layers_want_a_library_that_knows_wide_vectors(
    targets: int, is_wide: bool, layers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library: Any = SimpleNamespace(afina_targets=lambda: targets)
    monkeypatch.setattr(native, "find_library", lambda: library)
    monkeypatch.setattr(native, "has_wide_vectors", lambda: is_wide)
    assert (native.load_layer_kernels() is library) == layers


@pytest.mark.parametrize("is_wide", [False, True])
def test_a_library_for_wide_vectors_alone_is_left_where_there_are_none(
    is_wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = SimpleNamespace(
        afina_source_hash=Answer(native.hash_sources().encode()), afina_targets=lambda: native.FOR_WIDE_VECTORS
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda path: known)
    monkeypatch.setattr(native, "has_wide_vectors", lambda: is_wide)
    assert (native.find_library.__wrapped__() is not None) == is_wide


class Answer:
    """A function of a library."""

    restype: Any = None

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value
