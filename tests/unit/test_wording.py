"""Messages as a caller from Python reads them."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

import afina
from afina import wording
from afina.config.load import list_keys
from afina.errors import DataError
from afina.wording import spell_for_python

SOURCE = Path(afina.__file__).parent


@pytest.mark.parametrize(
    ("said", "spelled"),
    [
        ("--model REF", "model=REF"),
        ("--text-column A or --text-column C", "text_column=A or text_column=C"),
        (
            '--text-pair-column NAME, or --text-pair-column "" for none',
            'text_pair_column=NAME, or text_pair_column="" for none',
        ),
        (
            "mend these rows, or leave them out with --set data.on_bad_rows=drop",
            'mend these rows, or leave them out with on_bad_rows="drop"',
        ),
        (
            "(--set evaluation.generation_samples=0 leaves the answers out)",
            "(generation_samples=0 leaves the answers out)",
        ),
        (
            "--set training.gradient_checkpointing=true, --technique lora or qlora",
            'gradient_checkpointing=True, technique="lora" or qlora',
        ),
        (
            "--chat-template chatml, or --chat-template PATH of a file",
            'chat_template="chatml", or chat_template=PATH of a file',
        ),
        ("--prompt-column a --completion-column b, to", 'prompt_column="a" completion_column="b", to'),
        ("--label-column takes 'a' or 'b'", "label_column takes 'a' or 'b'"),
        ("--fix OUT keeps the first of each", "fix=OUT keeps the first of each"),
        ("--fix copies a file or a folder", "fix copies a file or a folder"),
        ("--measure with --device or --device-memory", "measure with device or device_memory"),
        ("--device cuda --device-memory 24GB", 'device="cuda" device_memory="24GB"'),
        ("--model with the original model", "model with the original model"),
        ("another --output, or afina resume runs/fe1", 'another output, or afina.resume("runs/fe1")'),
        ("afina resume run-1", 'afina.resume("run-1")'),
        ("afina search --resume /home/me/s", 'afina.search(resume="/home/me/s")'),
        ("afina compare RUN RUN", "afina.compare(RUN, RUN)"),
        ("afina evaluate RUN DATA scores each", "afina.evaluate(RUN, DATA) scores each"),
        ("afina merge makes it one model", "afina.merge makes it one model"),
        ("afina plan DATA --model REF shows which fit", "afina.plan(DATA, model=REF) shows which fit"),
        (
            "train it anew: afina train DATA --config a/b.yaml --output NEW",
            'train it anew: afina.fit(data=DATA, config="a/b.yaml", output=NEW)',
        ),
        ("afina train DATA ..., or afina.fit(model, data)", "afina.fit(model, data)"),
        ("--budget 20m, at least 10m", 'budget="20m", at least 10m'),
        ("--techniques lora,full", 'techniques="lora,full"'),
        ("--metric f1_macro", 'metric="f1_macro"'),
        ("--metric with another score", "metric with another score"),
        ("go on with --allow-changes model,versions", 'go on with allow_changes="model,versions"'),
        (
            "--max-seq-length 99 would keep 99 % of the rows whole",
            "max_seq_length=99 would keep 99 % of the rows whole",
        ),
        ("a smaller --learning-rate than 0.01", "a smaller learning_rate than 0.01"),
        ("--set lora.NAME=VALUE", "NAME=VALUE"),
        ("--set model.revision with one of those", "revision with one of those"),
        ("a dash -- and a - stay, as does well-known", "a dash -- and a - stay, as does well-known"),
        ("pip install 'afina[qlora]'", "pip install 'afina[qlora]'"),
        ("afina resume '/my home/run 1'", "afina.resume('/my home/run 1')"),
        ("--label-column 'Star Rating' or --label-column b-c", "label_column='Star Rating' or label_column=\"b-c\""),
        ("the folder that afina search made", "the folder that afina.search made"),
        ("the folder that afina train or afina.fit made", "the folder that afina.fit made"),
        ("afina runs, or afina.list_runs(), gives the runs here", "afina.list_runs gives the runs here"),
        ('--set model.chat_template_kwargs={"a": 1}', 'chat_template_kwargs={"a": 1}'),
        ("/data/afina check/a.csv", "/data/afina check/a.csv"),
    ],
)  # fmt: skip
def test_flags_become_keywords_and_verbs_functions(said: str, spelled: str) -> None:
    assert spell_for_python(said) == spelled


def test_examples() -> None:
    assert doctest.testmod(wording).failed == 0


def list_texts() -> list[str]:
    """All texts of the library that name a flag, but for the command line's own."""
    files = [path for path in SOURCE.rglob("*.py") if "cli" not in path.relative_to(SOURCE).parts]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files if path.name != "wording.py"]
    texts = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and re.search(r"(?<![\w-])--[a-z]", text)]


def test_every_flag_that_a_message_names_is_a_keyword() -> None:
    """What a message tells a caller to write must be something that a function takes."""
    known = {key.rpartition(".")[2] for key in list_keys()} | {
        "config", "fix", "html", "show_mask", "device", "device_memory", "measure", "budget", "metric", "trials",
        "techniques", "storage", "resume", "allow_changes", "on_bad_rows", "output", "data", "model", "technique",
        "task", "dtype",
    }  # fmt: skip
    flags = {
        name.replace("-", "_") for text in list_texts() for name in re.findall(r"(?<![\w-])--([a-z][a-z-]*[a-z])", text)
    }
    # `--set` itself, an option of llama.cpp, and what docstrings name.
    assert flags - known - {"set", "merge", "json", "write"} == set()


def test_an_error_speaks_to_python_once_it_leaves_the_library(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        afina.check([{"text": "a", "label": "b"}], fix=tmp_path / "copy.csv")
    assert "fix copies a file or a folder" in str(caught.value)
    assert "--" not in str(caught.value)


def test_findings_speak_to_python_too() -> None:
    rows = [{"text": f"text {i % 20}", "label": "ab"[i % 2]} for i in range(60)]
    report = afina.check(rows)
    remedies = [finding.remedy for finding in report.findings]
    assert "fix=OUT keeps the first of each" in remedies
    assert "--" not in str(report)
