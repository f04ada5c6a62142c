"""What a folder holds is told from its files alone, and each way in which it can be wrong has its message."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification
from transformers import __version__ as transformers_version

from afina.errors import ModelError
from afina.models import architectures
from afina.models.inspect import ModelFacts, hash_model, inspect_model
from afina.models.layout import READ_PADDING, note_unread_parts

Copy = Callable[[str], Path]
LAYOUT = "a folder in Hugging Face layout: config.json, model.safetensors and the tokenizer's files"


def refuse(folder: Path, needs: str = "sequence-classification") -> str:
    with pytest.raises(ModelError) as caught:
        inspect_model(folder, needs)
    return str(caught.value)


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a file of JSON; None removes one."""
    found = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def unusable(folder: Path, rest: str) -> str:
    return f"the model in {folder} can't be used\n{rest}"


def test_facts_of_a_tiny_model(tiny_models: Copy) -> None:
    folder = tiny_models("bert")
    assert inspect_model(folder) == ModelFacts(
        folder=folder, model_type="bert", architecture="encoder", parameters=30_720, bytes=122_880,
        dtypes=("float32",), hidden_size=32, layers=2, vocab_size=261, max_positions=128,
        files=(folder / "model.safetensors",),
    )  # fmt: skip


def test_nothing_heavy_is_imported(tiny_models: Copy) -> None:
    program = (
        "import sys; from pathlib import Path; from afina.models.inspect import inspect_model;"
        "inspect_model(Path(sys.argv[1])); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(tiny_models("roberta"))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_whole_classifier_counts_as_loaded(tiny_models: Copy, tmp_path: Path) -> None:
    for family in ("bert", "distilbert", "llama", "gpt2"):
        model = AutoModelForSequenceClassification.from_pretrained(tiny_models(family), num_labels=3)
        model.half().save_pretrained(tmp_path / family)
        (tmp_path / family / "tokenizer.json").write_text("{}")
        facts = inspect_model(tmp_path / family)
        assert facts.parameters == model.num_parameters()
        assert (facts.bytes, facts.dtypes) == (2 * facts.parameters, ("float16",))


def test_stored_tables_are_not_parameters(copy_model: Copy) -> None:
    folder = copy_model("gpt2")
    before = inspect_model(folder).parameters
    tensors = load_file(folder / "model.safetensors")
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["embeddings.position_ids"] = torch.arange(8)
    save_file(tensors, folder / "model.safetensors")
    assert inspect_model(folder).parameters == before
    tensors["h.0.attn.bias"] = torch.ones(8)
    save_file(tensors, folder / "model.safetensors")
    assert inspect_model(folder).parameters == before + 8, "a vector of this name is a real bias"


def test_shards_are_read_together(copy_model: Copy) -> None:
    folder = copy_model("qwen3")
    whole = inspect_model(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).model
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    facts = inspect_model(folder)
    assert len(facts.files) > 1
    assert facts.files == tuple(sorted(folder.glob("model-*.safetensors")))
    assert facts.parameters == whole.parameters

    facts.files[1].unlink()
    missing, count = facts.files[1].name, len(facts.files)
    assert refuse(folder) == unusable(
        folder,
        f"1 of the {count} files named by model.safetensors.index.json are missing\n"
        f"  found: not there: {missing}\n"
        "  do: download or save the model again",
    )


@pytest.mark.parametrize(
    "index",
    ["{", "[]", "{}", '{"weight_map": {"a": "../x"}}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}'],
)
def test_damaged_index(copy_model: Copy, index: str) -> None:
    folder = copy_model("bert")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    assert refuse(folder) == unusable(
        folder,
        "model.safetensors.index.json is damaged\n"
        '  expected: JSON with "weight_map": {tensor: file}, where each file is in the same folder\n'
        "  do: download or save the model again",
    )


def test_sizes_left_out_come_from_the_class(copy_model: Copy) -> None:
    folder = copy_model("llama")
    change_json(folder / "config.json", num_hidden_layers=None, max_position_embeddings=None)
    change_json(folder / "tokenizer_config.json", model_max_length=10**30)
    facts = inspect_model(folder)
    assert (facts.layers, facts.max_positions) == (32, 2048)


@pytest.mark.parametrize("model_type", READ_PADDING)
def test_models_that_read_padding_are_refused(model_type: str, copy_model: Copy) -> None:
    folder = copy_model("bert")
    change_json(folder / "config.json", model_type=model_type)
    with pytest.raises(ModelError, match="give a text other answers in other company"):
        inspect_model(folder)


def test_a_model_without_attention_has_no_heads_to_name(copy_model: Copy) -> None:
    folder = copy_model("llama")
    change_json(folder / "config.json", model_type="mamba", num_attention_heads=None)
    assert inspect_model(folder, "causal-lm").layers == 2


def test_least_limit_of_model_and_tokenizer(copy_model: Copy) -> None:
    folder = copy_model("roberta")
    for limit, expected in ((64, 64), (10**30, 128), (500, 128)):
        change_json(folder / "tokenizer_config.json", model_max_length=limit)
        assert inspect_model(folder).max_positions == expected


def test_no_limit_at_all(copy_model: Copy) -> None:
    folder = copy_model("bert")
    tokenizer_files = [path for path in folder.iterdir() if path.name.startswith("tokenizer")]
    sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 261}
    (folder / "config.json").write_text(json.dumps({"model_type": "bloom", **sizes}))
    change_json(next(p for p in tokenizer_files if p.name == "tokenizer_config.json"), model_max_length=None)
    facts = inspect_model(folder)
    assert (facts.architecture, facts.max_positions) == ("decoder", None)


def test_folder_is_missing_or_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "no"
    assert refuse(folder) == (
        f"there is no folder {folder}\n  expected: {LAYOUT}\n  do: --model with a folder that exists"
    )
    folder.touch()
    assert refuse(folder) == f"{folder} is not a folder\n  expected: {LAYOUT}\n  do: --model {tmp_path}"


def test_no_config(tmp_path: Path) -> None:
    rest = f"  expected: {LAYOUT}\n  do: --model with the folder that holds config.json"
    assert refuse(tmp_path) == f"there is no config.json in {tmp_path}\n  found: an empty folder\n{rest}"
    (tmp_path / "a.txt").touch()
    (tmp_path / "sub").mkdir()
    assert refuse(tmp_path) == f"there is no config.json in {tmp_path}\n  found: a.txt, sub/\n{rest}"
    (tmp_path / "sub" / "config.json").touch()
    assert refuse(tmp_path).endswith(f"do: --model {tmp_path / 'sub'}")


def test_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "model").mkdir()
    assert refuse(tmp_path) == (
        f"{tmp_path} is the folder of a run, not a model\n  expected: {LAYOUT}\n  do: --model {tmp_path / 'model'}"
    )


def test_a_model_without_a_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "canine", "hidden_size": 16}', encoding="utf-8")
    assert "model_type: canine, which reads characters by hashes and has no vocabulary" in refuse(tmp_path)


def test_what_a_folder_of_sentence_transformers_does_besides_is_told(copy_model: Copy) -> None:
    folder = copy_model("bert")
    assert note_unread_parts(folder) == []
    kinds = ["base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling", "models.Dense"]
    modules = [{"type": f"sentence_transformers.{kind}", "path": ""} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    settings = {"prompts": {"query": "query: ", "document": ""}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    assert note_unread_parts(folder) == [
        "the model's Dense of sentence-transformers isn't used: the head reads its Transformer's vectors",
        "the model's prompts of sentence-transformers (query) aren't put before texts",
    ]


def test_folder_of_a_run_with_an_adapter(tmp_path: Path) -> None:
    """Its model/ would be refused, too."""
    (tmp_path / "config.yaml").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert refuse(tmp_path).endswith(f"do: afina merge {tmp_path} --output NEW, and --model NEW")


def test_adapter(copy_model: Copy) -> None:
    folder = copy_model("bert")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    head = (
        f"{folder} holds an adapter, not a whole model\n"
        "  found: adapter_config.json, an adapter of the model org/base\n"
        f"  expected: {LAYOUT}\n"
    )
    assert refuse(folder) == head + (
        "  do: --model org/base, or load that as `model` and merge the two in Python: "
        f"PeftModel.from_pretrained(model, '{folder}').merge_and_unload().save_pretrained('NEW')"
    )
    (folder.parent / "config.yaml").touch()
    assert refuse(folder) == head + (f"  do: afina merge {folder.parent} --output NEW, and --model NEW")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "a key that isn't in double quotes (line 1, column 2)"),
        ("[]", "list at the top"),
        ("", "no value where one should be (line 1, column 1)"),
    ],
)
def test_broken_config(copy_model: Copy, text: str, found: str) -> None:
    folder = copy_model("bert")
    (folder / "config.json").write_text(text)
    assert refuse(folder) == (
        f"{folder / 'config.json'} can't be read\n"
        f"  found: {found}\n"
        "  expected: a JSON object\n"
        "  do: download or save the model again"
    )


def test_pickles(copy_model: Copy) -> None:
    folder = copy_model("bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refuse(folder) == unusable(
        folder,
        "the weights are stored as pickled objects, which can run any program while they are loaded\n"
        "  found: pytorch_model.bin\n"
        "  expected: model.safetensors\n"
        '  do: on a machine where that may do no harm: python -c "from transformers import AutoModel; '
        f"AutoModel.from_pretrained('{folder}').save_pretrained('NEW')\", then copy the tokenizer there",
    )


def test_no_weights(copy_model: Copy) -> None:
    folder = copy_model("bert")
    (folder / "model.safetensors").rename(folder / "other.gguf")
    assert refuse(folder) == unusable(
        folder,
        "there are no weights\n"
        "  found: other.gguf\n"
        "  expected: model.safetensors, or model.safetensors.index.json with the files that it names\n"
        "  do: copy the weights into the folder, or name another folder with --model",
    )


def test_cut_weights(copy_model: Copy) -> None:
    folder = copy_model("bert")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    damage = unusable(
        folder,
        "model.safetensors is damaged or cut short\n  found: {}\n  do: download or save the model again",
    )
    for length, found in (
        (len(whole) - 1, f"{len(whole) - 1:,} bytes, while its header describes {len(whole):,}"),
        (100, "100 bytes without a whole header"),
        (3, "3 bytes without a whole header"),
        (0, "0 bytes without a whole header"),
    ):
        path.write_bytes(whole[:length])
        assert refuse(folder) == damage.format(found)
    path.write_bytes(whole + b"0")
    longer = f"{len(whole) + 1:,} bytes, while its header describes {len(whole):,}"
    assert refuse(folder) == damage.format(longer)
    for header in (b"[1]", b"{]", b'{"a": {}}', b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [1]}}'):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert refuse(folder) == damage.format("a header that is not the JSON of safetensors")
    for shape, size in (([-1], 4), ([10**9, 10**9], 4), ([2], 4), ([-1, -1], 4), ([], 8)):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
        header = json.dumps({"a": entry}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
        assert refuse(folder) == damage.format("a header that is not the JSON of safetensors")
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    assert refuse(folder) == damage.format("a header that names no tensor")


def test_pointer_instead_of_weights(copy_model: Copy) -> None:
    folder = copy_model("bert")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert refuse(folder) == unusable(
        folder,
        "model.safetensors is a pointer of Git LFS, not the weights\n"
        "  found: 63 bytes\n"
        "  do: run in the model's folder: git lfs pull",
    )


def test_no_model_type(copy_model: Copy) -> None:
    folder = copy_model("bert")
    change_json(folder / "config.json", model_type=None)
    assert refuse(folder) == unusable(
        folder,
        "config.json names no architecture\n"
        "  found: no model_type\n"
        "  expected: a name such as bert, roberta, modernbert, deberta-v2, llama, qwen3\n"
        "  do: copy config.json from where the model was published",
    )


def test_unknown_model_type(copy_model: Copy) -> None:
    folder = copy_model("bert")
    change_json(folder / "config.json", model_type="distillbert")
    message = (
        f"transformers {transformers_version} doesn't know this architecture\n"
        "  found: model_type: distillbert\n"
        "  expected: a name such as bert, roberta, modernbert, deberta-v2, llama, qwen3\n"
        '  do: "model_type": "distilbert" in config.json, if that is what it is; '
        "for a newer architecture: pip install -U transformers"
    )
    assert refuse(folder) == unusable(folder, message)


def test_encoder_decoder_and_missing_class(copy_model: Copy) -> None:
    folder = copy_model("bert")
    change_json(folder / "config.json", model_type="t5")
    assert refuse(folder) == unusable(
        folder,
        "an encoder-decoder model can't be fine-tuned here\n"
        "  found: model_type: t5\n"
        "  expected: an encoder or a decoder\n"
        "  do: --model with a model of another type, such as "
        "bert, roberta, modernbert, deberta-v2, llama, qwen3",
    )
    change_json(folder / "config.json", model_type="vit")
    assert refuse(folder) == unusable(
        folder,
        "transformers has no class of this architecture that classifies or scores texts\n"
        "  found: model_type: vit\n"
        "  expected: one that has, such as bert, roberta, modernbert, deberta-v2, llama, qwen3\n"
        "  do: --model with a model of such a type",
    )
    change_json(folder / "config.json", model_type="distilbert")
    message = refuse(folder, "causal-lm")
    assert "no class of this architecture that writes text\n  found: model_type: distilbert" in message


def test_quantised_weights(copy_model: Copy) -> None:
    folder = copy_model("llama")
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert refuse(folder) == unusable(
        folder,
        "the weights are quantised already, and training starts from full precision\n"
        "  found: quantization_config in config.json, method gptq\n"
        "  expected: weights in float32, bfloat16 or float16\n"
        "  do: --model with the original model; --technique qlora then stores it in 4 bits",
    )


def test_no_tokenizer(copy_model: Copy) -> None:
    folder = copy_model("bert")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert refuse(folder) == unusable(
        folder,
        "there is no tokenizer\n"
        "  found: config.json, model.safetensors\n"
        "  expected: tokenizer.json and tokenizer_config.json, or a vocabulary such as vocab.txt\n"
        "  do: copy the tokenizer's files from where the model was published",
    )


def test_all_problems_come_at_once(copy_model: Copy) -> None:
    folder = copy_model("bert")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{")
    change_json(folder / "config.json", model_type="vit", quantization_config={"bits": 4})
    with pytest.raises(ModelError) as caught:
        inspect_model(folder)
    assert [problem.what for problem in caught.value.problems] == [
        "transformers has no class of this architecture that classifies or scores texts",
        "the weights are quantised already, and training starts from full precision",
        "model.safetensors is damaged or cut short",
        f"{folder / 'tokenizer.json'} can't be read",
    ]


def test_size_that_no_one_knows(copy_model: Copy) -> None:
    folder = copy_model("bert")
    change_json(folder / "config.json", hidden_size="many")
    assert refuse(folder).startswith(f"{folder / 'config.json'} is not accepted by transformers\n  found: ")


@pytest.mark.parametrize(
    "name", ["MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"]
)
def test_tables_read_from_source_are_those_imported(name: str) -> None:
    """The second of them is no literal, and so comes from the import."""
    from transformers.models.auto import modeling_auto

    assert architectures._read_table("modeling_auto", name) == dict(getattr(modeling_auto, name))


def test_every_type_of_transformers_is_known() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    capable = set(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    assert architectures.list_capable_types("sequence-classification") == capable
    assert capable <= architectures.list_model_types() <= set(CONFIG_MAPPING_NAMES)


def test_hash_follows_contents_and_names_alone(copy_model: Copy, tmp_path: Path) -> None:
    import os
    import shutil

    folder = copy_model("bert")
    (folder / "chat_template.jinja").write_text("{{ messages }}")  # where transformers saves the template
    first = hash_model(folder)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    os.utime(copy / "config.json", ns=(1, 1))
    (copy / "README.md").write_text("another")
    assert hash_model(copy) == first
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before[:-1] + b" ")
        assert hash_model(copy) != first, name
        (copy / name).write_bytes(before)
    assert hash_model(copy) == first


def test_hash_is_remembered_until_a_file_changes(copy_model: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    from afina.models import fingerprint
    from afina.models.fingerprint import hash_weights

    folder = copy_model("bert")
    read: list[Path] = []
    original = fingerprint._hash_file
    monkeypatch.setattr(fingerprint, "_hash_file", lambda path: read.append(path) or original(path))
    first = hash_model(folder)
    assert hash_model(folder) == first
    assert len(read) == 4
    (folder / "config.json").write_text("{}")
    assert hash_model(folder) != first
    assert len(read) == 5
    assert hash_weights(folder) == hash_weights(folder)
    assert len(read) == 5
