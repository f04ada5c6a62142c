"""Nothing in the source can turn data into code: no pickle, no eval, no shell, no code out of a model's folder.

Everything is read from the syntax tree, and names are followed through imports (`import torch as t`, `from os import
system`), so that a call can't hide behind another name. What is proven here of our own lines, `tests/e2e/test_audit.py`
proves of a whole run, libraries included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "afina"
PATHS = sorted(SOURCE.rglob("*.py"))

UNSAFE_MODULES = frozenset({"cloudpickle", "code", "dill", "joblib", "marshal", "pickle", "runpy", "shelve"})
UNSAFE_CALLS = frozenset({
    "__import__", "compile", "eval", "exec",
    "importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader",
    "numpy.fromregex", "os.popen", "os.system",
    "pandas.eval", "pandas.read_pickle", "subprocess.getoutput", "subprocess.getstatusoutput",
    "torch.hub.load", "torch.jit.load", "torch.load", "torch.save", "torch.utils.cpp_extension.load",
    "yaml.full_load", "yaml.full_load_all", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all",
})  # fmt: skip
UNSAFE_PREFIXES = ("os.exec", "os.spawn", "os.posix_spawn")
# Keyword arguments, also as keys of a mapping that becomes keyword arguments, and the one value each may have.
ONLY_VALUE = {
    "allow_pickle": False,
    "shell": False,
    "trust_remote_code": False,
    "use_safetensors": True,
    "weights_only": True,
}
# (module, loader): subclasses of SafeLoader, which construct data and nothing else.
SAFE_YAML_LOADERS = {("config/load.py", "_UniqueKeyLoader")}
LOADERS_OF_WEIGHTS = ("AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
LOADERS = (*LOADERS_OF_WEIGHTS, "AutoConfig", "AutoTokenizer", "GenerationConfig")


def follow_imports(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: `{"t": "torch", "system": "os.system"}`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    names[alias.asname] = alias.name
                else:
                    names[alias.name.partition(".")[0]] = alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def spell_out(node: ast.expr, names: Mapping[str, str]) -> str:
    """The whole dotted name of what is called, such as `torch.load`."""
    first, dot, rest = ast.unparse(node).partition(".")
    return (names.get(first, first) + dot + rest).removeprefix("builtins.")


def find_unsafe(tree: ast.Module, path: str = "models/load.py") -> Iterator[tuple[int, str]]:
    """Line and words of each thing that could run code out of a file."""
    names = follow_imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from ((node.lineno, name) for name in modules if name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            yield from find_unsafe_call(node, spell_out(node.func, names), tree, path)
        elif isinstance(node, ast.Name | ast.Attribute) and is_unsafe(spell_out(node, names)):
            yield node.lineno, spell_out(node, names)  # handed on without being called
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            named = ((key.value, value) for key, value in pairs if isinstance(key, ast.Constant))
            yield from ((node.lineno, f"{key}:") for key, value in named if is_wrong_value(key, value))


def find_unsafe_call(call: ast.Call, name: str, tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """What is unsafe about one call: whom it calls, or with what."""
    for keyword in call.keywords:
        if keyword.arg and is_wrong_value(keyword.arg, keyword.value):
            yield call.lineno, f"{keyword.arg}="
    if name in ("getattr", "builtins.getattr") and any(is_unsafe_name(argument) for argument in call.args[1:2]):
        yield call.lineno, "getattr of something unsafe"
    if name.startswith("yaml.") and is_unsafe(name) and uses_safe_loader(call, tree, path):
        return
    owner, _, method = name.rpartition(".")
    owner = owner.rpartition(".")[2]
    if method in ("from_pretrained", "from_config") and owner in LOADERS:
        yield from find_missing_guards(call, owner, method)


def find_missing_guards(call: ast.Call, owner: str, method: str) -> Iterator[tuple[int, str]]:
    """A loader of transformers says each time that no code is run, and of weights that they are safetensors."""
    given = {keyword.arg for keyword in call.keywords}
    guarded = any(keyword.arg is None and ast.unparse(keyword.value) == "SAFE" for keyword in call.keywords)
    if not guarded and "trust_remote_code" not in given:
        yield call.lineno, f"{owner}.{method} without trust_remote_code=False"
    if method == "from_pretrained" and owner in LOADERS_OF_WEIGHTS and "use_safetensors" not in given:
        yield call.lineno, f"{owner}.{method} without use_safetensors=True"


def is_unsafe(name: str) -> bool:
    return name in UNSAFE_CALLS or name.startswith(UNSAFE_PREFIXES)


def is_unsafe_name(node: ast.expr) -> bool:
    """Whether this is the last part of an unsafe name, as text: `getattr(os, "system")`."""
    endings = {name.rpartition(".")[2] for name in UNSAFE_CALLS} - {"load"}
    return isinstance(node, ast.Constant) and node.value in endings


def is_wrong_value(name: object, value: ast.expr) -> bool:
    """Whether the argument is one that may have a single value only, and has another or one that isn't known here."""
    if name not in ONLY_VALUE:
        return False
    return not (isinstance(value, ast.Constant) and value.value is ONLY_VALUE[str(name)])


def uses_safe_loader(call: ast.Call, tree: ast.Module, path: str) -> bool:
    """Whether the call names a loader that is listed, and that loader is a SafeLoader."""
    loaders = [keyword.value.id for keyword in call.keywords if isinstance(keyword.value, ast.Name)]
    bases = {
        node.name: [ast.unparse(base) for base in node.bases]
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    return any((path, name) in SAFE_YAML_LOADERS and bases.get(name) == ["yaml.SafeLoader"] for name in loaders)


def list_unsafe(tree: ast.Module, path: str = "models/load.py") -> list[str]:
    """Each finding once; a listed loader clears the name `yaml.load` in its own call."""
    names = follow_imports(tree)
    cleared = {
        node.func.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and spell_out(node.func, names).startswith("yaml.")
        and uses_safe_loader(node, tree, path)
    }
    found = dict.fromkeys(find_unsafe(tree, path))
    return [f"line {line}: {what}" for line, what in found if not (what.startswith("yaml.") and line in cleared)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_nothing_unsafe_is_called(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not list_unsafe(tree, path.relative_to(SOURCE).as_posix()), path


def test_the_source_was_found() -> None:
    assert len(PATHS) > 80
    names = [follow_imports(ast.parse(path.read_text(encoding="utf-8"))) for path in PATHS]
    assert sum("transformers.AutoConfig" in known.values() for known in names) >= 3


def test_no_setting_and_no_flag_asks_for_remote_code() -> None:
    """Code out of a model's folder is not something to be switched on."""
    from typer.main import get_command

    from afina.cli.app import app
    from afina.config.load import list_keys

    commands = get_command(app).commands  # type: ignore[attr-defined]
    flags = [flag for command in commands.values() for option in command.params for flag in option.opts]
    assert len(flags) > 50
    assert len(list_keys()) > 30
    offered = [*flags, *list_keys()]
    assert not [name for name in offered if any(word in name for word in ("trust", "remote", "pickle", "unsafe"))]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import dill as better",
        "import os.path, marshal",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=True)",
        "from torch import load as read\nread(path)",
        "import torch\nreader = torch.load",
        "load(path, weights_only=False)",
        "load(path, weights_only=wanted)",
        "eval(text)",
        "exec(text)",
        "import builtins\nbuiltins.exec(text)",
        "run = exec",
        "compile(text, name, 'exec')",
        "__import__(name)",
        "import os\nos.system(text)",
        "from os import system\nsystem(text)",
        "import os\ngetattr(os, 'system')(text)",
        "import os\nos.execv(path, arguments)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import pandas as pd\npd.read_pickle(path)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.load(text, Loader=_UniqueKeyLoader)",
        "import yaml\nyaml.unsafe_load(text)",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "import subprocess\nsubprocess.run(command, shell=wanted)",
        "import importlib.util\nimportlib.util.spec_from_file_location(name, path)",
        "AutoConfig.from_pretrained(folder)",
        "AutoModel.from_pretrained(folder, use_safetensors=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=False)",
        "AutoModel.from_pretrained(folder, use_safetensors=False, **SAFE)",
        "import transformers\ntransformers.AutoModelForCausalLM.from_pretrained(folder, **SAFE)",
        "AutoModelForCausalLM.from_config(config)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=wanted)",
        'options = {"trust_remote_code": True}',
    ],
)
def test_unsafe_code_is_found(code: str) -> None:
    assert list_unsafe(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        'OPTIONS = {"trust_remote_code": False}',
        "import re\nre.compile(text)",
        "import yaml\nyaml.safe_load(text)",
        "import json\njson.load(file)",
        "import subprocess\nsubprocess.run([program, argument])",
        "AutoModel.from_pretrained(folder, use_safetensors=True, **SAFE)",
        "AutoConfig.from_pretrained(folder, trust_remote_code=False)",
        "PeftModel.from_pretrained(model, folder)",
    ],
)
def test_safe_code_is_not_found(code: str) -> None:
    assert not list_unsafe(ast.parse(code))
