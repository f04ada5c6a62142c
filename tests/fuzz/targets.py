"""What is fuzzed: each target reads bytes as a reader of afina gets them, and may fail with an `AfinaError` only."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from checkpoint_targets import CHECKPOINT_TARGETS
from model_targets import MODEL_TARGETS
from run_targets import RUN_TARGETS
from target import Target

TEMPLATES = Path(__file__).parents[1] / "unit" / "data" / "templates.json"


def name_labels(rows: int = 24) -> list[dict[str, Any]]:
    words = ["kitchen", "garden, shed", 'a "quoted" one', "two\nlines", "naïve café", "<b>"]
    return [
        {"text": f"{words[i % 6]} number {i}", "label": ("red", "green")[i % 2], "stars": i / 2} for i in range(rows)
    ]


def make_csv(separator: str) -> Callable[[Path], Sequence[bytes]]:
    def make(folder: Path) -> Sequence[bytes]:
        import csv
        import io

        seeds = []
        for quoting, end in ((csv.QUOTE_MINIMAL, "\n"), (csv.QUOTE_ALL, "\r\n")):
            file = io.StringIO()
            writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
            rows = name_labels()
            writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
            seeds.append(file.getvalue().encode())
        return [*seeds, b"\xef\xbb\xbf" + seeds[0], seeds[0].decode().encode("utf-16")]

    return make


def make_json(folder: Path) -> Sequence[bytes]:
    rows = name_labels()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    by_index = {name: dict(enumerate(values)) for name, values in columns.items()}
    split = {"columns": [*columns], "data": [[*row.values()] for row in rows]}
    written = (rows, {"data": rows}, columns, by_index, split)
    return [json.dumps(value, indent=indent).encode() for value in written for indent in (None, 1)]


def make_jsonl(folder: Path) -> Sequence[bytes]:
    from afina.testing.data import make_conversations

    rows = [name_labels(), *(make_conversations(form, 12) for form in ("messages", "completion", "instruction"))]
    return ["".join(json.dumps(row) + "\n" for row in each).encode() for each in rows]


def make_parquet(folder: Path) -> Sequence[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from afina.testing.data import make_conversations

    seeds = []
    for number, rows in enumerate((name_labels(), make_conversations("messages", 12))):
        for compression in ("none", "snappy"):
            path = folder / f"{number}-{compression}.parquet"
            pq.write_table(pa.Table.from_pylist(rows), path, compression=compression)
            seeds.append(path.read_bytes())
    return seeds


def read_table(suffix: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from afina.config.run import DataConfig
        from afina.data.conversation_columns import looks_like_conversations
        from afina.data.conversations import load_conversations
        from afina.data.examples import load_examples
        from afina.data.read import read_parts

        path = folder / f"rows{suffix}"
        path.write_bytes(data)
        tables = read_parts(path, folder / "spool")
        config = DataConfig(on_bad_rows="drop")
        if looks_like_conversations(tables["all"]):
            load_conversations(path, config, 0, tables)
        else:
            load_examples(path, config, "auto", 0, tables)

    return read


@cache
def find_tokenizer() -> Any:
    from afina.testing.templates import CHAT_FAMILIES, build_chat_tokenizer

    return build_chat_tokenizer(next(iter(CHAT_FAMILIES)))


def read_conversations(data: bytes, folder: Path) -> None:
    """Rows of conversations, from the file to tokens."""
    from afina.config.run import DataConfig
    from afina.data.conversations import load_conversations
    from afina.data.encode_conversations import Encoding, encode_conversations
    from afina.data.read import read_parts

    path = folder / "rows.jsonl"
    path.write_bytes(data)
    tables = read_parts(path, folder / "spool")
    found = load_conversations(path, DataConfig(on_bad_rows="drop"), 0, tables)
    for name, part in found.parts.items():
        encode_conversations(part, find_tokenizer(), Encoding(True, "assistant", 64), folder / name)


def make_templates(folder: Path) -> Sequence[bytes]:
    from afina.testing.templates import CHAT_FAMILIES

    known = json.loads(TEMPLATES.read_text(encoding="utf-8"))
    return [
        text.encode() for text in (*known["good"], *known["hostile"], *(f.template for f in CHAT_FAMILIES.values()))
    ]


def read_template(data: bytes, folder: Path) -> None:
    """A chat template in a file, chosen and rendered."""
    from afina.data.chat_template import PROBE, ChatFaultError, choose_template, locate_turns

    path = folder / "template.jinja"
    path.write_bytes(data)
    tokenizer = find_tokenizer()
    before = tokenizer.chat_template
    try:
        choose_template(tokenizer, str(path))
        locate_turns(tokenizer, PROBE, None, [1, 3])
    except ChatFaultError:  # a row of no use, which is counted
        return
    finally:
        tokenizer.chat_template = before


def make_settings(folder: Path) -> Sequence[bytes]:
    from afina.config.load import dump_config
    from afina.config.run import RunConfig

    whole = dump_config(RunConfig())
    return [
        whole.encode(),
        b"model:\n  reference: bert\ntraining: {learning_rate: 2e-5, num_train_epochs: 3}\nseed: 1\n",
    ]


def read_settings(data: bytes, folder: Path) -> None:
    from afina.config.load import list_described, load_config

    path = folder / "run.yaml"
    path.write_bytes(data)
    load_config(path)
    list_described(path)


def make_overrides(folder: Path) -> Sequence[bytes]:
    from afina.config.load import list_keys

    values = ["1", "2e-5", "auto", "true", "[a, b]", "{a: 1}", "null", "-1", "text with spaces"]
    return [f"{key}={values[i % len(values)]}".encode() for i, key in enumerate(list_keys())]


def read_override(data: bytes, folder: Path) -> None:
    from afina.config.load import dump_config, load_config, parse_override

    key, value = parse_override(data.decode("utf-8", "surrogateescape"))
    dump_config(load_config(None, {key: value}))


def make_gguf(folder: Path) -> Sequence[bytes]:
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    sizes = {
        "context_length": 64, "embedding_length": 32, "block_count": 1, "feed_forward_length": 64, "head_count": 4,
        "head_count_kv": 2, "vocab_size": 8,
    }  # fmt: skip
    for name, value in sizes.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<s>", "</s>", "a", "b", "ab", "c", "d", "e"])
    writer.add_token_types([3, 3, 1, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages }}")
    for name, shape in (("token_embd", (8, 32)), ("output_norm", (32,)), ("blk.0.attn_q", (32, 32))):
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = (folder / "model.gguf").read_bytes()
    return [whole, whole[:1500]]


def read_gguf(data: bytes, folder: Path) -> None:
    from afina.models.gguf_check import check_gguf
    from afina.models.gguf_header import read_header
    from afina.models.gguf_positions import find_positions
    from afina.models.gguf_vocabulary import read_vocabulary

    path = folder / "model.gguf"
    path.write_bytes(data)
    header = read_header(path)
    read_vocabulary(header)
    find_positions(header)
    check_gguf(path)


@cache
def find_model() -> dict[str, bytes]:
    """The files of a tiny model."""
    from transformers.utils.logging import disable_progress_bar

    from afina.testing.models import save_tiny_model

    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in save_tiny_model("bert", Path(folder, "model")).iterdir()}


def make_model_file(name: str) -> Callable[[Path], Sequence[bytes]]:
    return lambda folder: [find_model()[name], b"{}"]


def read_model(name: str) -> Callable[[bytes, Path], None]:
    """A model of which one file is the input."""

    def read(data: bytes, folder: Path) -> None:
        from afina.models.inspect import inspect_model

        for other, content in (find_model() | {name: data}).items():
            (folder / other).write_bytes(content)
        inspect_model(folder)

    return read


def make_modules(folder: Path) -> Sequence[bytes]:
    entries = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(("Transformer", "Pooling", "Dense"))
    ]
    return [json.dumps(entries).encode(), json.dumps(entries[:1]).encode()]


def make_tasks(folder: Path) -> Sequence[bytes]:
    base = {"reference": "bert", "revision": None}
    labelled = {
        "task": "text-classification", "labels": {"kind": "multiclass", "names": ["a", "b"], "separator": None},
        "fit": {"class_weights": [], "target_mean": 0.0, "target_scale": 1.0, "thresholds": []},
        "columns": {"text": "text", "text_pair": None, "label": "label"}, "base": base,
    }  # fmt: skip
    language = {
        "task": "text-generation", "form": "messages", "columns": {"messages": "messages"}, "has_template": True,
        "stop_tokens": [2], "sample": [[1, 2]], "base": base,
    }  # fmt: skip
    return [json.dumps(labelled).encode(), json.dumps(language).encode()]


def read_task(data: bytes, folder: Path) -> None:
    """task.json of a run, up to what predicting makes of it."""
    from afina.data.labels import LabelSpace
    from afina.runs.folder import RunFolder
    from afina.tasks.base import TaskState
    from afina.tasks.registry import make_task

    (folder / "task.json").write_bytes(data)
    stored = RunFolder(folder).read_task()
    if stored["task"] != "text-generation":
        make_task(stored["task"], LabelSpace.from_dict(stored["labels"])).head_shape()
        TaskState.from_dict(stored["fit"])


TARGETS = {
    target.name: target
    for target in (
        Target("csv", make_csv(","), read_table(".csv")),
        Target("tsv", make_csv("\t"), read_table(".tsv")),
        Target("json", make_json, read_table(".json")),
        Target("jsonl", make_jsonl, read_table(".jsonl")),
        Target("parquet", make_parquet, read_table(".parquet")),
        Target("conversations", lambda folder: make_jsonl(folder)[1:], read_conversations),
        Target("template", make_templates, read_template),
        Target("settings", make_settings, read_settings),
        Target("override", make_overrides, read_override),
        Target("gguf", make_gguf, read_gguf),
        Target("config.json", make_model_file("config.json"), read_model("config.json")),
        Target("tokenizer_config.json", make_model_file("tokenizer_config.json"), read_model("tokenizer_config.json")),
        Target("safetensors", make_model_file("model.safetensors"), read_model("model.safetensors")),
        Target("modules.json", make_modules, read_model("modules.json")),
        Target("task.json", make_tasks, read_task),
        *RUN_TARGETS,
        *MODEL_TARGETS,
        *CHECKPOINT_TARGETS,
    )
}
