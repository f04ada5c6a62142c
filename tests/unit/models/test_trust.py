"""A folder that asks for code, or leads out of itself, is refused before a library sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.errors import ModelError
from afina.models.inspect import inspect_model
from afina.models.trust import check_saved_model, check_trust

Copy = Callable[[str], Path]


def set_key(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | changes))


def say(folder: Path) -> str:
    return "\n".join(map(str, check_trust(folder)))


def test_a_folder_without_tricks(copy_model: Copy) -> None:
    folder = copy_model("bert")
    (folder / "__init__.py").touch()  # a folder inside an installed package
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    kinds = ["sentence_transformers.models.Transformer", "sentence_transformers.sentence_transformer.modules.Pooling"]
    modules = [{"idx": i, "name": str(i), "path": path, "type": kinds[i]} for i, path in enumerate(["", "1_Pooling"])]
    (folder / "modules.json").write_text(json.dumps(modules))
    set_key(folder / "config.json", auto_map=None, id2label={"0": "auto_map"}, label2id={"model_type": 0})
    assert say(folder) == ""
    assert inspect_model(folder).model_type == "bert"


@pytest.mark.parametrize(
    "entry", [{"AutoModel": "evil.Model"}, {"AutoModel": "org/other--evil.Model"}, ["evil.T", None]]
)
@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer_config.json", "processor_config.json", "generation_config.json"]
)
def test_auto_map(copy_model: Copy, file: str, entry: Any) -> None:
    folder = copy_model("bert")
    set_key(folder / file, auto_map=entry)
    expected = (
        f"{file} asks for Python code, and code from a model's folder is never run\n"
        f"  found: auto_map: {json.dumps(entry)}\n"
        "  expected: an architecture and a tokenizer that transformers has itself\n"
        f"  do: if it has them: a copy of the folder with auto_map removed from {file}"
    )
    assert say(folder) == expected
    with pytest.raises(ModelError, match="asks for Python code"):
        inspect_model(folder)


def test_what_sentence_transformers_writes_about_itself(copy_model: Copy) -> None:
    """Since its sixth version the name of a class stands there, as a type of model; nothing imports it."""
    folder = copy_model("bert")
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"model_type": "SentenceTransformer", "prompts": {"query": ""}}), encoding="utf-8")
    assert check_trust(folder) == []
    settings.write_text(json.dumps({"model_type": "os; import this"}), encoding="utf-8")
    assert "model_type that is no name" in say(folder)
    settings.unlink()
    set_key(folder / "config.json", model_type="SentenceTransformer")
    assert "model_type that is no name" in say(folder)


@pytest.mark.parametrize("place", ["text_config", "vision_config", "anything"])
def test_auto_map_inside(copy_model: Copy, place: str) -> None:
    folder = copy_model("llama")
    set_key(folder / "config.json", **{place: [{"deeper": {"auto_map": {"AutoConfig": "evil.Config"}}}]})
    assert say(folder).startswith("config.json asks for Python code")


@pytest.mark.parametrize("value", [3, "", "../bert", "a b", "x" * 65, "bert\n", "bert\nimport os", "Bert", ["bert"]])
@pytest.mark.parametrize("inside", [False, True])
def test_odd_model_type(copy_model: Copy, value: Any, inside: bool) -> None:
    folder = copy_model("bert")
    if inside and value == "":  # as in MPT's part for attention
        set_key(folder / "config.json", attn_config={"model_type": ""})
        inspect_model(folder)
        return
    set_key(folder / "config.json", **({"sub_config": {"model_type": value}} if inside else {"model_type": value}))
    expected = (
        "config.json has a model_type that is no name\n"
        f"  found: {json.dumps(value)[:80]}\n"
        "  expected: small letters, digits, and the signs _ . -\n"
        "  do: --model with a model from where you trust it, or a copy without this"
    )
    with pytest.raises(ModelError) as caught:
        inspect_model(folder)
    assert str(caught.value) == f"the model in {folder} can't be used\n{expected}"


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("config.json", {"architectures": ["os.system"]}, "config.json names a class in architectures"),
        ("tokenizer_config.json", {"tokenizer_class": "a;b"}, "tokenizer_config.json names a class in tokenizer_class"),
        ("tokenizer_config.json", {"processor_class": ["../x"]}, "names a class in processor_class"),
        ("config.json", {"attn_implementation": "kernels-community/flash"}, "asks for compiled programs"),
        ("config.json", {"text_config": {"_attn_implementation": "me/flash:x"}}, "asks for compiled programs"),
        ("config.json", {"attn_implementation": {"text": "sdpa"}}, "asks for compiled programs"),
        ("config.json", {"transformers_weights": "adapter_model.bin"}, "config.json names another file of weights"),
        ("config.json", {"transformers_weights": "../../x.safetensors"}, "config.json names another file of weights"),
    ],
)
def test_odd_names(copy_model: Copy, file: str, changes: dict[str, Any], words: str) -> None:
    folder = copy_model("bert")
    set_key(folder / file, **changes)
    assert words in say(folder)


@pytest.mark.parametrize("name", ["modeling_evil.py", "custom_generate/generate.py", "native.so", "1_Pooling/x.pyc"])
def test_programs(copy_model: Copy, name: str) -> None:
    folder = copy_model("bert")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("raise RuntimeError")
    assert say(folder) == (
        "there are programs in the model's folder, and code from a model's folder is never run\n"
        f"  found: {name}\n"
        "  expected: weights, settings and a tokenizer only\n"
        "  do: a copy of the folder without them, if transformers has this architecture itself"
    )


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"type": "evil.Module", "path": ""}, "a class that isn't one of sentence-transformers' own"),
        ({"type": "sentence_transformers.models.Evil", "path": ""}, "a class that isn't one"),
        ({"type": "sentence_transformers.util.os.system", "path": ""}, "a class that isn't one"),
        ({"type": "sentence_transformers.models.Pooling\n", "path": ""}, "a class that isn't one"),
        ({"path": ""}, "a class that isn't one"),
        ({"type": "sentence_transformers.models.Pooling", "path": "../other"}, "a path outside the model's folder"),
        ({"type": "sentence_transformers.models.Pooling", "path": "a/../../b"}, "a path outside"),
        ({"type": "sentence_transformers.models.Pooling", "path": "/etc"}, "a path outside"),
        ({"type": "sentence_transformers.models.Pooling", "path": "..\\x"}, "a path outside"),
        ({"type": "sentence_transformers.models.Pooling", "path": "C:\\x"}, "a path outside"),
        ({"type": "sentence_transformers.models.Pooling", "path": 3}, "a path outside"),
        ("sentence_transformers.models.Pooling", "a class that isn't one"),
    ],
)
def test_modules_of_sentence_transformers(copy_model: Copy, entry: Any, words: str) -> None:
    folder = copy_model("bert")
    (folder / "modules.json").write_text(json.dumps([entry]))
    assert words in say(folder)


def test_links_out_of_the_folder(copy_model: Copy, tmp_path: Path) -> None:
    folder = copy_model("bert")
    (folder / "again.json").symlink_to("config.json")
    assert say(folder) == "", "a link inside the folder"
    (tmp_path / "secret").write_text("{}")
    (folder / "vocab.json").symlink_to("../secret")
    assert say(folder) == (
        "vocab.json is a symbolic link that leads out of the model's folder\n"
        '  found: "../secret"\n'
        "  expected: files and folders that lie in it\n"
        "  do: put what is meant in its place"
    )
    (folder / "vocab.json").unlink()
    (folder / "1_Pooling").symlink_to(tmp_path)
    assert "1_Pooling is a symbolic link" in say(folder)


def test_the_cache_of_the_hub_is_made_of_links(copy_model: Copy, tmp_path: Path) -> None:
    """models--ORG--NAME/snapshots/COMMIT/FILE -> ../../blobs/HASH"""
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0123"
    blobs = tmp_path / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(copy_model("bert").iterdir()):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert inspect_model(snapshot).model_type == "bert"
    (snapshot / "vocab.json").symlink_to(tmp_path)
    assert "vocab.json is a symbolic link that leads out" in say(snapshot)


ADAPTER = {"peft_type": "LORA", "init_lora_weights": True, "target_modules": ["query"], "base_model_name_or_path": "b"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"auto_mapping": {"parent_library": "evil"}}, "auto_mapping"),
        ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "megatron_config"),
        ({"corda_config": {"cache_file": "x.pt"}}, "corda_config"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"peft_type": None}, "peft_type"),
        ({"init_lora_weights": "corda"}, "init_lora_weights"),
        ({"target_modules": "(a+)+$"}, "target_modules"),
        ({"base_model_name_or_path": "b\n\x1b[2J"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": ["b"]}, "base_model_name_or_path"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"rank_pattern": {"(.*)*(.*)*z": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"(.*)*(.*)*z": 4}}, "alpha_pattern"),
        ({"exclude_modules": "(a+)+$"}, "exclude_modules"),
        ({"layers_to_transform": [0], "layers_pattern": "(a+)+$"}, "layers_pattern"),
        ({"layer_replication": [[0, 2]] * 9}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"use_dora": True}, "use_dora"),
        ({"target_modules": [f"a{i}" for i in range(100_000)]}, "target_modules"),
        ({"r": 10**6}, "r"),
        ({"r": 0}, "r"),
        ({"r": 2.5}, "r"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": 1e308}, "lora_alpha"),
        ({"lora_alpha": "x"}, "lora_alpha"),
        ({"lora_dropout": 2}, "lora_dropout"),
    ],
)
def test_adapter_of_a_stranger(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    (tmp_path / "adapter_model.safetensors").touch()
    set_key(tmp_path / "adapter_config.json", **ADAPTER)
    check_saved_model(tmp_path)
    set_key(tmp_path / "adapter_config.json", **changes)
    with pytest.raises(ModelError, match=f"found: {key}: "):
        check_saved_model(tmp_path)


@pytest.mark.parametrize("names", [("adapter_config.json", "adapter_model.bin"), ("config.json", "pytorch_model.bin")])
def test_pickled_weights_in_a_run(tmp_path: Path, names: tuple[str, str]) -> None:
    set_key(tmp_path / names[0], **(ADAPTER if "adapter" in names[0] else {"model_type": "bert"}))
    (tmp_path / names[1]).touch()
    with pytest.raises(ModelError, match="pickled weights are not read"):
        check_saved_model(tmp_path)


def test_settings_nested_too_deeply_or_no_json(copy_model: Copy) -> None:
    folder = copy_model("bert")
    (folder / "generation_config.json").write_text("[" * 100_000)
    (folder / "processor_config.json").write_bytes(b"\xff")
    assert say(folder) == "", "what isn't JSON asks for nothing; whoever needs the file says that it is damaged"
