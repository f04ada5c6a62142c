"""A merged model is compared with the adapter beside its base, on random tokens and on rows of the run."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

import afina
from afina.errors import ConfigError, ModelError, ProofError, RunFolderError
from afina.models.load import load_language_model, load_tokenizer
from afina.pipeline import merging
from afina.pipeline.merging import check_merged, draw_tokens, merge_run, open_to_others, round_weights, write_merged
from afina.pipeline.narrator import Narrator
from afina.runs.folder import RunFolder
from afina.runs.lock import hold_output
from afina.testing.data import make_conversations, make_rows


def test_a_difference_on_rows_of_the_run_is_found(tiny_models: Callable[[str], Path]) -> None:
    unmerged, merged = (load_language_model(tiny_models("llama")).model.eval() for _ in range(2))
    drawn = draw_tokens(merged.config.vocab_size, 0)
    assert 0 not in drawn
    token = next(token for token in range(1, merged.config.vocab_size) if token not in drawn)
    sample = [[5, token, 7]]
    check_merged(unmerged, merged, 0, sample)
    with torch.no_grad():
        merged.get_input_embeddings().weight[token] += 1.0
    check_merged(unmerged, merged, 0)
    with pytest.raises(ProofError, match="the merged model doesn't give the logits"):
        check_merged(unmerged, merged, 0, sample)


def test_the_rows_are_those_that_training_never_saw(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = afina.fit(
        tiny_models("llama"), make_conversations("text", 24), "lora", output=tmp_path / "run", task="text-generation",
        num_train_epochs=1, bootstrap_resamples=0, max_seq_length=40, generation_samples=0, general_text=False,
        verbose=False,
    )  # fmt: skip
    seen: list[list[list[int]]] = []
    monkeypatch.setattr(merging, "check_merged", lambda unmerged, merged, pad, sample=None: seen.append(sample))
    afina.merge(run.path, tmp_path / "merged")
    sample, none = seen
    assert none is None, "what was written is compared on tokens of chance"
    tokenizer = afina.open_chat(str(run.path)).tokenizer
    texts = {row["text"] for row in make_conversations("text", 24)}
    assert len(sample) == 4
    assert all(any(tokenizer.decode(ids, skip_special_tokens=True) in text for text in texts) for ids in sample)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_merged_model_may_be_half_as_large(
    dtype: str, tiny_models: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = afina.fit(
        tiny_models("llama"), make_conversations("completion", 24), "lora", output=tmp_path / "run", num_train_epochs=1,
        bootstrap_resamples=0, generation_samples=0, general_text=False, verbose=False,
    )  # fmt: skip
    whole = AutoModelForCausalLM.from_pretrained(run.merge(tmp_path / "whole"))
    assert not capsys.readouterr().err
    half = AutoModelForCausalLM.from_pretrained(run.merge(tmp_path / "half", dtype=dtype))
    assert f"rounded to {dtype}: a logit moves by 0.0" in capsys.readouterr().err
    assert whole.dtype == torch.float32
    assert half.dtype == getattr(torch, dtype)
    for name, weight in whole.state_dict().items():
        assert torch.equal(half.state_dict()[name], weight.to(half.dtype))


def test_numbers_that_a_format_lacks_are_not_written(tiny_models: Callable[[str], Path]) -> None:
    model = load_language_model(tiny_models("llama")).model.eval()
    with torch.no_grad():
        model.lm_head.weight *= 1e7
    with pytest.raises(ProofError, match="can't be stored in float16"):
        round_weights(model, "float16", 0, [])


def test_two_do_not_merge_into_one_folder(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for check in ("check_finished", "check_model"):
        monkeypatch.setattr(RunFolder, check, lambda self: None)
    message = r"another process is at work on .*merged\n  found: afina merge, "
    with hold_output(tmp_path / "merged", "afina merge"), pytest.raises(RunFolderError, match=message):
        merge_run(RunFolder(tmp_path), tmp_path / "merged", "float32", Narrator())
    assert not list(tmp_path.iterdir())


def test_no_other_format_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no dtype of a merged model: 'int8'"):
        merge_run(RunFolder(tmp_path), tmp_path / "merged", "int8", Narrator())


def test_a_full_disk_is_said_and_leaves_nothing(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    merged, tokenizer = load_language_model(tiny_models("llama")).model, load_tokenizer(tiny_models("llama"))
    said = "I/O error: No space left on device (os error 28)"
    broken = mock.patch.object(type(merged), "save_pretrained", side_effect=SafetensorError(said))
    with broken, pytest.raises(RunFolderError) as caught:
        write_merged(merged, tokenizer, tmp_path / "merged")
    assert str(caught.value) == (
        f"the merged model can't be written to {tmp_path / 'merged'}\n  found: safetensors says: {said}\n"
        "  expected: 0 MiB of free space\n  do: free some space, or --output on another disk"
    )
    assert not list(tmp_path.iterdir())


def test_a_run_that_failed_at_its_end_is_not_merged(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("technique: lora\nmodel: {reference: bert}\n", encoding="utf-8")
    for use in (afina.merge, lambda run, output: afina.predict(run, ["a"])):
        with pytest.raises(RunFolderError, match="the run isn't finished"):
            use(tmp_path / "run", tmp_path / "merged")


def test_what_was_written_is_loaded_and_compared(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    """A layer of another kind is stored the other way round: its file fits no model of the class."""
    merged, tokenizer = load_language_model(tiny_models("gpt2")).model, load_tokenizer(tiny_models("gpt2"))
    write_merged(merged, tokenizer, tmp_path / "right")
    attention = merged.transformer.h[0].attn
    turned = torch.nn.Linear(*attention.c_proj.weight.shape)
    turned.load_state_dict({"weight": attention.c_proj.weight.T, "bias": attention.c_proj.bias})
    attention.c_proj = turned
    with pytest.raises(ProofError, match="doesn't give the logits of what it was made of"):
        write_merged(merged, tokenizer, tmp_path / "wrong")
    assert [path.name for path in tmp_path.iterdir()] == ["right"]


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_a_merged_base_of_4_bits_is_of_its_own_architecture(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    """GPT-2's layers are no linear ones; packed, they are."""
    run = afina.fit(
        tiny_models("gpt2"), make_rows("multiclass", 40), "qlora", output=tmp_path / "run", num_train_epochs=1,
        bootstrap_resamples=0, baselines=False, verbose=False,
    )  # fmt: skip
    merged = AutoModelForSequenceClassification.from_pretrained(afina.merge(run.path, tmp_path / "merged"))
    assert isinstance(merged.transformer.h[0].attn.c_attn, Conv1D)
    tokenizer = load_tokenizer(tmp_path / "merged")
    text = make_rows("multiclass", 40)[0]["text"]
    with torch.inference_mode():
        logits = merged(**tokenizer(text, return_tensors="pt")).logits[0]
    assert merged.config.id2label[int(logits.argmax())] == run.predict([text])[0]


def test_files_and_folders_of_a_merged_model_are_by_the_umask(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir(mode=0o700)
    for path in (tmp_path / "model.safetensors", tmp_path / "templates" / "tools.jinja"):
        path.touch(mode=0o600)
    mask = os.umask(0o022)
    try:
        open_to_others(tmp_path)
    finally:
        os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"model.safetensors": 0o644, "templates": 0o755, "tools.jinja": 0o644}


@pytest.mark.parametrize("damage", ["lacks weights", "holds weights that are not finite numbers"])
def test_an_adapter_that_lacks_numbers_is_not_used(
    damage: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    run = afina.fit(
        tiny_models("llama"), make_conversations("completion", 24), "lora", output=tmp_path / "run", num_train_epochs=1,
        bootstrap_resamples=0, generation_samples=0, general_text=False, verbose=False,
    )  # fmt: skip
    path = run.path / "model" / "adapter_model.safetensors"
    weights = load_file(path)
    if damage == "lacks weights":
        del weights[min(weights)]
    else:
        weights[min(weights)][0, 0] = float("nan")
    save_file(weights, path, {"format": "pt"})
    task = json.loads((run.path / "task.json").read_text())
    for known in ("files", "checksums"):
        task.pop(known, None)
    (run.path / "task.json").write_text(json.dumps(task))
    for use in (lambda: afina.predict(run.path, [{"prompt": "a"}]), lambda: afina.merge(run.path, tmp_path / "merged")):
        with pytest.raises(ModelError, match=f"the adapter in .* {damage}\n  found: base_model"):
            use()


def test_an_adapter_is_not_used_beside_other_weights(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    base = shutil.copytree(tiny_models("llama"), tmp_path / "base")
    run = afina.fit(
        base, make_conversations("completion", 24), "lora", output=tmp_path / "run", num_train_epochs=1,
        bootstrap_resamples=0, generation_samples=0, general_text=False, verbose=False,
    )  # fmt: skip
    rows = make_conversations("completion", 3)
    weights = load_file(base / "model.safetensors")
    before = run.evaluate(rows)["metrics"]
    (base / "README.md").write_text("another word on it")
    assert afina.evaluate(run.path, rows)["metrics"] == before
    save_file({name: tensor + 0.1 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    for use in (
        lambda: afina.evaluate(run.path, rows), lambda: afina.predict(run.path, rows),
        lambda: afina.merge(run.path, tmp_path / "merged"), lambda: afina.open_chat(run.path),
    ):  # fmt: skip
        with pytest.raises(ModelError, match="beside which the adapter was trained have changed"):
            use()
    task = json.loads((run.path / "task.json").read_text())
    del task["base"]["weights"]
    (run.path / "task.json").write_text(json.dumps(task))
    assert afina.evaluate(run.path, rows)["metrics"] != before
