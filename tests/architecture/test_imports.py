"""The shape of the source: imports point one way, functions and files stay readable.

Everything is read from the syntax tree, so imports inside functions and under `TYPE_CHECKING` count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import pytest

from afina.config.techniques import TRAITS
from afina.runs import names

SOURCE = Path(__file__).parents[2] / "src" / "afina"

# A module may import from rooms on floors below its own, and from its own room; rooms of one floor don't meet.
FLOORS = (
    ("durable", "terminal", "wording"),
    ("errors", "summary"),
    ("isolation",),
    ("config",),
    ("data", "metrics", "kernels"),
    ("models",),
    ("tasks", "techniques"),
    ("training",),
    ("evaluation", "runs"),
    ("advice",),
    ("pipeline",),
    ("finished",),
    ("api",),
    ("searches", "reproductions"),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Stands beside the house: users build their own tests on it, and nothing of the library needs it.
BESIDE = "testing"
# (importing module, imported module): why it may be.
EXCEPTIONS: dict[tuple[str, str], str] = {}

HEAVY = frozenset({
    "accelerate", "bitsandbytes", "datasets", "huggingface_hub", "jinja2", "numpy", "optuna", "pandas", "peft",
    "psutil", "pyarrow", "pydantic", "rich", "safetensors", "scipy", "sentence_transformers", "sklearn", "sqlalchemy",
    "tokenizers", "torch", "transformers", "yaml",
})  # fmt: skip
# Modules that decide whether the user's input is right must not wait for torch.
LIGHT = (
    "afina.api", "afina.config", "afina.data.examples", "afina.errors", "afina.finished", "afina.models.inspect",
    "afina.models.resolve", "afina.pipeline.prepare", "afina.runs",
)  # fmt: skip
HEAVY_FOR_READING = frozenset({
    "accelerate", "bitsandbytes", "datasets", "pandas", "peft", "scipy", "sklearn", "torch", "transformers",
})  # fmt: skip

LONGEST_FUNCTION = 60
LONGEST_FILE = 400


@dataclass(frozen=True)
class Module:
    """A file of the source."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The first part of the name below the package; empty for the package itself."""
        return self.name.removeprefix("afina").lstrip(".").partition(".")[0]


@dataclass(frozen=True)
class Import:
    """One module that is imported, and where."""

    name: str
    line: int
    is_top_level: bool


def read_modules() -> list[Module]:
    modules = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"))))
    return modules


MODULES = read_modules()
NAMES = {module.name for module in MODULES}
named = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def list_imports(module: Module) -> Iterator[Import]:
    """Every import of the module; those that run when it is imported are `is_top_level`."""
    top = set(map(id, iterate_top_level(module.tree.body)))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in top)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.path}:{node.lineno}: imports are absolute"
            origin = str(node.module)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield Import(inner if inner in NAMES else origin, node.lineno, id(node) in top)


def iterate_top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import: not those of functions, nor those for the type checker alone."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from iterate_top_level(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            for name in ("body", "orelse", "finalbody"):
                yield from iterate_top_level(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from iterate_top_level(handler.body)


def is_allowed(importer: str, imported: str) -> bool:
    """Whether a room may import from another."""
    if importer == imported:
        return True
    if importer == BESIDE or imported == BESIDE:
        return importer == BESIDE and imported == "errors"
    return FLOOR_OF[imported] < FLOOR_OF[importer]


def test_the_source_was_found() -> None:
    assert {"afina", "afina.errors", "afina.config.run", "afina.api", "afina.cli.app", "afina.training.loop"} <= NAMES
    assert len(MODULES) > 80
    rooms = {module.room for module in MODULES} - {"", BESIDE}
    assert rooms <= set(FLOOR_OF), f"rooms without a floor: {sorted(rooms - set(FLOOR_OF))}"
    assert sum(len(list(list_imports(module))) for module in MODULES) > 500


def test_the_rule_tells_wrong_from_right() -> None:
    assert is_allowed("cli", "api")
    assert is_allowed("techniques", "models")
    assert not is_allowed("api", "cli")
    assert not is_allowed("tasks", "techniques")
    assert not is_allowed("techniques", "tasks")
    assert not is_allowed("errors", "config")
    assert not is_allowed("models", "testing")


@named
def test_imports_point_one_way(module: Module) -> None:
    wrong = []
    for found in list_imports(module):
        if not (found.name == "afina" or found.name.startswith("afina.")) or module.name == "afina":
            continue
        if found.name == "afina":
            # The package itself offers its version; its other names are for users.
            source = module.path.read_text(encoding="utf-8").splitlines()[found.line - 1]
            if source.strip() != "from afina import __version__":
                wrong.append(f"line {found.line}: {source.strip()}")
            continue
        room = found.name.split(".")[1]
        if not is_allowed(module.room, room) and (module.name, found.name) not in EXCEPTIONS:
            wrong.append(f"line {found.line}: {module.name} imports {found.name}")
    assert not wrong, "\n".join(wrong)


def test_exceptions_are_needed() -> None:
    present = {(module.name, found.name) for module in MODULES for found in list_imports(module)}
    assert set(EXCEPTIONS) <= present


@named
def test_cli_imports_nothing_heavy(module: Module) -> None:
    if module.room != "cli":
        return
    allowed = {"afina", "afina.errors", "afina.summary", "afina.terminal", "afina.wording"}
    for found in list_imports(module):
        if not found.is_top_level:
            continue
        assert found.name.split(".")[0] not in HEAVY, f"{module.name}:{found.line} imports {found.name}"
        inner = found.name.startswith("afina") and not found.name.startswith("afina.cli")
        assert not inner or found.name in allowed, f"{module.name}:{found.line} imports {found.name}"


def test_reading_imports_nothing_heavy() -> None:
    """Whatever these modules import, directly or through others, is done before the input was read."""
    graph = {module.name: {found.name for found in list_imports(module) if found.is_top_level} for module in MODULES}
    for start in (name for name in NAMES if name.startswith(LIGHT)):
        seen, waiting = set(), [start]
        while waiting:
            name = waiting.pop()
            assert name.split(".")[0] not in HEAVY_FOR_READING, f"{start} imports {name}"
            if name in seen or not name.startswith("afina"):
                continue
            seen.add(name)
            packages = {name.rpartition(".")[0]} if "." in name else set()
            waiting.extend(graph[name] | packages)


@named
def test_functions_and_files_are_short(module: Module) -> None:
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{module.path} has {lines} lines"
    long = [
        f"line {node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


@named
def test_every_module_says_what_it_is_for(module: Module) -> None:
    assert ast.get_docstring(module.tree), module.path


# Where they are made, and where one is recommended.
OF_TECHNIQUES = ("afina.techniques.", "afina.config.techniques", "afina.advice.choose")


@named
def test_techniques_are_told_apart_by_their_traits(module: Module) -> None:
    """A name that is compared is a case that the next technique is forgotten in."""
    if module.name.startswith(OF_TECHNIQUES):
        return
    compared = [
        (node.lineno, each.value)
        for node in ast.walk(module.tree) if isinstance(node, ast.Compare)
        for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value in TRAITS
    ]  # fmt: skip
    assert not compared


FILES = (".json", ".jsonl", ".yaml", ".html")
FILE_NAMES = {value for value in vars(names).values() if isinstance(value, str) and value.endswith(FILES)}


@named
def test_files_of_a_run_are_named_in_one_place(module: Module) -> None:
    """A file that is renamed where it is written, and not where it is looked for, is missed by nobody."""
    if module.room not in ("runs", "pipeline", "api", "searches", "reproductions") or module.name == names.__name__:
        return
    found = [(node.lineno, node.value) for node in ast.walk(module.tree) if is_text(node) and node.value in FILE_NAMES]
    assert not found


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
