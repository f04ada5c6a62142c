"""The shape of the source: imports point one way, nothing unsafe is called, functions and files stay readable.

Everything is read from the syntax tree, so imports inside functions and under `TYPE_CHECKING` count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "afina"

# A module may import from rooms on floors below its own, and from its own room; rooms of one floor don't meet.
FLOORS = (
    ("errors",),
    ("config",),
    ("data", "metrics", "kernels"),
    ("models",),
    ("tasks", "techniques"),
    ("training",),
    ("evaluation", "runs"),
    ("advice",),
    ("pipeline",),
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
    "afina.api", "afina.config", "afina.data.examples", "afina.errors", "afina.models.inspect", "afina.models.resolve",
    "afina.pipeline.prepare", "afina.runs",
)  # fmt: skip
HEAVY_FOR_READING = frozenset({
    "accelerate", "bitsandbytes", "datasets", "pandas", "peft", "scipy", "sklearn", "torch", "transformers",
})  # fmt: skip

UNSAFE_MODULES = frozenset({"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"})
UNSAFE_CALLS = frozenset({"eval", "exec", "compile", "__import__", "torch.load", "os.system", "os.popen"})
UNSAFE_YAML = frozenset({"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"})
# (module, loader): subclasses of SafeLoader, which construct data and nothing else.
SAFE_YAML_LOADERS = {("afina.config.load", "_UniqueKeyLoader")}

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
    allowed = {"afina", "afina.errors"}
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
def test_nothing_unsafe_is_called(module: Module) -> None:
    wrong = [f"line {line}: {what}" for line, what in find_unsafe(module)]
    assert not wrong, f"{module.path}\n" + "\n".join(wrong)


def find_unsafe(module: Module) -> Iterator[tuple[int, str]]:
    """Line and words of each thing that could run code out of a file."""
    for found in list_imports(module):
        if found.name.split(".")[0] in UNSAFE_MODULES:
            yield found.line, found.name
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg == "shell" and not is_constant(node.value, False):
            yield node.value.lineno, "shell="
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and not is_constant(node.value, False):
            yield node.value.lineno, "trust_remote_code="
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and is_constant(key, "trust_remote_code") and not is_constant(value, False):
                    yield node.lineno, "trust_remote_code:"
        if isinstance(node, ast.keyword) and node.arg == "weights_only" and is_constant(node.value, False):
            yield node.value.lineno, "weights_only=False"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in UNSAFE_CALLS:
                yield node.lineno, name
            if name in UNSAFE_YAML and not uses_safe_loader(module, node):
                yield node.lineno, name


def is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value


def uses_safe_loader(module: Module, call: ast.Call) -> bool:
    """Whether the call names a loader that is listed, and that loader is a SafeLoader."""
    loaders = [keyword.value.id for keyword in call.keywords if isinstance(keyword.value, ast.Name)]
    bases = {
        node.name: [ast.unparse(base) for base in node.bases]
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    return any((module.name, name) in SAFE_YAML_LOADERS and bases.get(name) == ["yaml.SafeLoader"] for name in loaders)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "eval(text)",
        "exec(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text, Loader=_UniqueKeyLoader)",
        "yaml.unsafe_load(text)",
        "subprocess.run(command, shell=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=wanted)",
        'options = {"trust_remote_code": True}',
    ],
)
def test_unsafe_code_is_found(code: str) -> None:
    assert list(find_unsafe(Module("afina.models.load", Path("load.py"), ast.parse(code))))


def test_safe_code_is_not_found() -> None:
    code = 'model.eval()\nOPTIONS = {"trust_remote_code": False}\nre.compile(text)\nyaml.safe_load(text)'
    assert not list(find_unsafe(Module("afina.models.load", Path("load.py"), ast.parse(code))))


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
