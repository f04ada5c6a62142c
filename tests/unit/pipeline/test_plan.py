"""`afina.plan`: what it says of data, model and machine; and runs that are refused, or start and are compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.advice.machine import Rates, describe_machine
from afina.config.load import load_config
from afina.data.batches import TOKENS_AT_ONCE
from afina.errors import ConfigError, DataError, ResourceError
from afina.pipeline.plan import choose_hardware, describe
from afina.techniques import lora
from afina.testing.data import make_conversations, make_rows

KEYS = {
    "technique", "trainable_parameters", "total_parameters", "memory_bytes", "seconds", "step_seconds", "work",
    "disk_bytes", "fits", "measured", "remedy",
}  # fmt: skip
PARTS = ["weights", "gradients", "optimizer", "activations", "loss", "overhead", "mapped"]
QUICK: dict[str, Any] = {
    "num_train_epochs": 1, "baselines": False, "bootstrap_resamples": 0, "precision": "fp32", "verbose": False,
    "head_init": "random",
}  # fmt: skip


def test_labelled_rows_are_planned_for_four_techniques(tiny_models: Callable[[str], Path]) -> None:
    found = afina.plan(make_rows("multiclass", 40), tiny_models("bert"), precision="fp32")
    plan = found.to_dict()
    assert plan["first_guess"]["technique"] == "full"
    assert "first guess: full: 28 rows, since few rows make many pairs" in str(found)
    assert json.loads(json.dumps(plan)) == plan
    assert [row["technique"] for row in plan["techniques"]] == ["full", "feature-extraction", "lora", "qlora"]
    for row in plan["techniques"]:
        assert set(row) == KEYS
        memory = row["memory_bytes"]
        assert [*memory] == [*PARTS, "total"]
        assert memory["total"] == sum(memory[part] for part in PARTS)
        assert row["seconds"]["total"] > row["seconds"]["epoch"] > 0
        assert row["fits"] is True
        assert row["measured"] is False
    assert plan["data"]["train_rows"] + plan["data"]["validation_rows"] + plan["data"]["test_rows"] == 40
    assert plan["data"]["rows_tokenised"] == plan["data"]["train_rows"]
    assert "all of them tokenised" in str(found)


def test_a_language_model_is_planned_for_three(tiny_models: Callable[[str], Path]) -> None:
    plan = afina.plan(make_conversations("messages", 24), tiny_models("llama"), chat_template="chatml").to_dict()
    assert plan["first_guess"]["technique"] == "lora"
    assert "tokens to learn" in plan["first_guess"]["reason"]
    assert [row["technique"] for row in plan["techniques"]] == ["full", "lora", "qlora"]
    assert all(row["memory_bytes"]["loss"] > 0 for row in plan["techniques"])


def test_long_texts_are_planned_by_their_windows(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    """As a run goes over them, so that cost and choice are those of a run."""
    rows = [{"text": " ".join(row["text"] for row in make_conversations("text", 12, seed=seed))} for seed in range(20)]
    settings: dict[str, Any] = {"max_seq_length": 32, "precision": "fp32"}
    plan = afina.plan(rows, tiny_models("llama"), **settings)
    run = afina.fit(
        tiny_models("llama"), rows, "lora", output=tmp_path / "run", max_steps=5, num_train_epochs=7, verbose=False,
        **settings,
    )  # fmt: skip
    tokens = json.loads((tmp_path / "run" / "data.json").read_text())["tokens"]["train"]
    workload = plan.subject.workload
    assert workload.train_rows == len(workload.lengths) > 14 * 5
    assert int(workload.lengths.sum()) == tokens["all"]
    assert f"{tokens['trained']:,} tokens to learn" in str(plan)
    assert f"14 training rows give about {workload.train_rows:,} sequences to learn" in str(plan)
    (reason,) = [each for each in run.report["reasons"] if each["setting"] == "training.num_train_epochs"]
    steps = -(-workload.train_rows // 16)
    told = f"max_steps=5 are that many of {steps} steps, or a part, in place of the 7 that were asked for"
    assert (reason["value"], reason["reason"]) == (1, told)


def test_no_weight_is_read(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    """A file whose header is right and whose numbers are a hole is planned like the real one."""
    folder = shutil.copytree(tiny_models("bert"), tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    (folder / "model.safetensors").write_bytes(whole[:header] + bytes(len(whole) - header))
    rows = make_rows("multiclass", 40)
    real, hole = (afina.plan(rows, model).to_dict() for model in (tiny_models("bert"), folder))
    for one, other in zip(real["techniques"], hole["techniques"], strict=True):
        assert one["memory_bytes"] == other["memory_bytes"]


def test_only_a_sample_is_tokenised_where_rows_are_many(
    tiny_models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.pipeline import sampling

    monkeypatch.setattr(sampling, "SAMPLED_ROWS", 10)
    found = afina.plan(make_rows("multiclass", 60), tiny_models("bert"))
    assert found.to_dict()["data"]["rows_tokenised"] == 10
    assert "10 of them tokenised" in str(found)


def test_another_machine_is_described_by_flags(tiny_models: Callable[[str], Path]) -> None:
    rows = make_rows("multiclass", 40)
    plan = afina.plan(rows, tiny_models("bert"), device="cuda", device_memory="8GB")
    machine = plan.to_dict()["machine"]
    assert (machine["device"], machine["memory_bytes"], machine["described"]) == ("cuda", 8 * 2**30, True)
    assert all(row["seconds"] is None for row in plan.to_dict()["techniques"])
    assert "times are unknown, as the speed of 'cuda' is; a GPU by its name brings its speed: --device t4, " in str(
        plan
    )
    known = afina.plan(rows, tiny_models("bert"), device="rtx-4090").to_dict()
    assert all(row["seconds"]["total"] > 0 for row in known["techniques"])


@pytest.mark.parametrize(("device", "precision"), [("t4", "fp32"), ("l4", "bf16"), ("cuda", "bf16"), ("mps", "fp32")])
def test_a_described_gpu_computes_in_the_format_that_a_run_on_it_would(device: str, precision: str) -> None:
    config, found = choose_hardware(load_config(), describe_machine(device, "8GB"))
    assert found == precision
    wanted = load_config(None, {"training.precision": "bf16"})
    assert choose_hardware(wanted, describe_machine(device, "8GB"))[1] == "bf16"
    assert config.evaluation.eval_tokens_per_batch == TOKENS_AT_ONCE["mps" if device == "mps" else "cuda"]


def test_a_described_cpu_is_none_of_the_gpus_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    monkeypatch.setattr("afina.training.precision.find_cpu_bf16_units", lambda: "")
    config, precision = choose_hardware(load_config(), describe_machine("cpu", "8GB"))
    assert (config.training.device, precision) == ("cpu", "fp32")
    assert config.evaluation.eval_tokens_per_batch == TOKENS_AT_ONCE["cpu"]
    config, precision = choose_hardware(load_config(), describe(None, "8GB"))
    assert (config.training.device, precision) == ("cuda", "bf16")


def test_an_apple_gpu_with_other_memory_is_this_machine_still(
    tiny_models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("afina.advice.machine.measure_rates", lambda *_: Rates(1e12, 1e11))
    plan = afina.plan(make_rows("multiclass", 40), tiny_models("bert"), device_memory="16GB")
    machine = plan.to_dict()["machine"]
    assert (machine["device"], machine["memory_bytes"]) == ("mps", 16 * 2**30)
    assert plan.subject.precision == "fp32"


def test_a_technique_that_is_not_installed_is_planned_and_said(
    tiny_models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, note = make_rows("multiclass", 40), "qlora needs bitsandbytes, which isn't installed here"
    assert not any(note in each for each in afina.plan(rows, tiny_models("bert")).notes)
    monkeypatch.setattr("afina.techniques.registry.is_installed", lambda kind: not kind.needs)
    plan = afina.plan(rows, tiny_models("bert"))
    assert f"{note}: pip install 'afina[qlora]'" in plan.notes
    assert "qlora" in [row["technique"] for row in plan.to_dict()["techniques"]]
    assert not any(note in each for each in afina.plan(rows, tiny_models("bert"), device="l4").notes)


def test_a_machine_with_other_memory_is_as_fast_as_this_one(tiny_models: Callable[[str], Path]) -> None:
    plan = afina.plan(make_rows("multiclass", 40), tiny_models("bert"), device_memory="2GB")
    assert plan.to_dict()["machine"]["memory_bytes"] == 2 * 2**30
    assert all(row["seconds"]["total"] > 0 for row in plan.to_dict()["techniques"])
    assert "times are unknown" not in str(plan)


def test_a_model_too_large_for_every_technique_is_told(tiny_models: Callable[[str], Path]) -> None:
    plan = afina.plan(make_rows("multiclass", 40), tiny_models("bert"), device="cpu", device_memory="64MB")
    assert [row["fits"] for row in plan.to_dict()["techniques"]] == [False] * 4
    text = str(plan)
    assert "full doesn't fit, whatever the batch size" in text
    assert "no technique fits: even " in text
    assert text.endswith("take a smaller model, or a larger machine")


def test_one_technique_may_be_asked_for(tiny_models: Callable[[str], Path]) -> None:
    plan = afina.plan(make_rows("multiclass", 40), tiny_models("bert"), technique="lora", lora={"r": 4}).to_dict()
    (row,) = plan["techniques"]
    assert row["technique"] == "lora"
    # Two layers, query and value, 4 * (32 + 32) each; and the head of three classes.
    assert row["trainable_parameters"] == 4 * 4 * 64 + 33 * 3 or row["trainable_parameters"] > 4 * 4 * 64


def test_too_few_rows_are_refused(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("text,label\na,x\nb,y\nc,x\n")
    with pytest.raises(DataError, match="3 rows"):
        afina.plan(path, tiny_models("bert"))


def test_measuring_another_machine_is_refused(tiny_models: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        afina.plan(make_rows("multiclass", 40), tiny_models("bert"), device="cpu", device_memory="8GB", measure=True)
    assert str(caught.value) == (
        "steps can be measured on this machine only\n"
        "  found: measure with device or device_memory\n"
        "  do: leave one of them out"
    )


@pytest.mark.parametrize("technique", ["lora", "feature-extraction"])
def test_measured_steps_correct_the_plan(technique: str, tiny_models: Callable[[str], Path]) -> None:
    rows = make_rows("multiclass", 40)
    plan = afina.plan(rows, tiny_models("bert"), technique=technique, measure=True, precision="fp32")
    (row,) = plan.to_dict()["techniques"]
    assert plan.to_dict()["first_guess"] is None
    assert row["measured"] is True, plan.notes
    assert row["step_seconds"] > 0
    assert 2**27 < row["memory_bytes"]["total"] < 2**31


def test_measured_steps_of_a_language_model(tiny_models: Callable[[str], Path]) -> None:
    rows = make_conversations("messages", 24)
    plan = afina.plan(rows, tiny_models("llama"), technique="full", measure=True, chat_template="chatml")
    (row,) = plan.to_dict()["techniques"]
    assert row["measured"] is True, plan.notes


def test_a_run_that_would_not_fit_does_not_start(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.advice import machine
    from afina.pipeline import costs

    monkeypatch.setattr(machine, "find_free_bytes", lambda device: 2**20)
    monkeypatch.setattr(costs, "add_resident", lambda found: found)
    rows, folder = make_rows("multiclass", 40), tmp_path / "run"
    with pytest.raises(ResourceError) as caught:
        afina.fit(tiny_models("bert"), rows, "full", output=folder, **QUICK)
    text = str(caught.value)
    assert text.startswith("this run would not fit into the memory of this machine (cpu)\n  found: about ")
    assert "\n  expected: at most 1 MiB\n" in text
    assert "afina.plan shows what other techniques need" in text
    assert text.endswith("check_memory=False starts it all the same")
    assert not folder.exists()
    run = afina.fit(tiny_models("bert"), rows, "full", output=folder, check_memory=False, **QUICK)
    assert run.report["prediction"]["memory_bytes"]["total"] > 2**20


@pytest.mark.parametrize("technique", ["full", "feature-extraction", "lora"])
def test_a_run_keeps_what_was_predicted_beside_what_was_measured(
    technique: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    run = afina.fit(tiny_models("bert"), make_rows("multiclass", 40), technique, output=tmp_path / "run", **QUICK)
    prediction = run.report["prediction"]
    assert prediction["technique"] == technique
    assert prediction["trainable_parameters"] == run.report["trainable_parameters"]
    assert prediction["total_parameters"] == run.report["total_parameters"]
    assert run.report["peak_memory_bytes"] > 2**27
    assert prediction["seconds"]["total"] > 0


def test_a_model_that_can_not_be_outlined_runs_all_the_same(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.advice import costs

    def fail(*given: Any) -> Any:
        raise RuntimeError("data-dependent")

    monkeypatch.setattr(costs, "predict_costs", fail)
    run = afina.fit(tiny_models("bert"), make_rows("multiclass", 40), "full", output=tmp_path / "run", **QUICK)
    assert run.report["prediction"] is None
    assert "memory and time are not predicted: RuntimeError while the model was outlined" in run.report["notes"]


def test_techniques_that_find_no_place_in_the_model_are_left_out(
    tiny_models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As I-BERT's layers, which are none of torch's."""
    monkeypatch.setattr(lora, "list_adaptable_layers", lambda loaded: [])
    rows = make_rows("multiclass", 60)
    plan = afina.plan(rows, tiny_models("bert"))
    assert [row["technique"] for row in plan.to_dict()["techniques"]] == ["full", "feature-extraction"]
    assert "lora: BertForSequenceClassification has no linear layers that an adapter could stand beside" in plan.notes
    assert str(plan)
    with pytest.raises(ConfigError, match="has no linear layers"):
        afina.plan(rows, tiny_models("bert"), technique="lora")
    run = afina.fit(tiny_models("bert"), rows, output=tmp_path / "run", **QUICK)
    assert run.report["technique"] in ("full", "feature-extraction")


@pytest.mark.parametrize(("family", "rows"), [
    ("bert", make_rows("multiclass", 40)), ("llama", make_conversations("completion", 40)),
])  # fmt: skip
def test_a_length_beyond_the_model_is_told_as_a_run_tells_it(
    family: str, rows: Any, tiny_models: Callable[[str], Path]
) -> None:
    plan = afina.plan(rows, tiny_models(family), max_seq_length=4096)
    assert plan.notes == [
        "model.max_seq_length = 128: 4096 was asked for, but the model can't take more than 128 tokens"
    ]
    assert afina.plan(rows, tiny_models(family), max_seq_length=64).notes == []
    told = afina.plan(rows, tiny_models(family), class_weight="balanced", train_on="last").notes
    assert len(told) == 1
    assert told[0].endswith("doesn't read it, so it does nothing here")
