"""What all entries share, made once by a process of its own: `python preparation.py JOB`, which prints nothing.

classification.py starts it. JOB is a JSON file; into its folder `rows` go train.jsonl, validation.jsonl and test.jsonl
(each line a `text` and a `label`), and setting.json with the counts, the model's folder, the machine and the versions.

The rows are those that afina itself uses with this seed: bad rows and labels that only the test part knows are dropped,
and the validation part is the one that afina carves out of the training part.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import describe_machine, list_versions

if TYPE_CHECKING:
    from afina.data.examples import Examples

LONGEST = 512
PACKAGES = (
    "afina", "torch", "transformers", "accelerate", "datasets", "sentence-transformers", "scikit-learn", "tokenizers",
    "numpy",
)  # fmt: skip
# Read from the disk here, so that the first measurement doesn't pay for what the later ones find in memory.
IMPORTED = (
    "accelerate", "datasets", "peft", "sentence_transformers", "sklearn.linear_model", "transformers.trainer",
    "transformers.models.auto.modeling_auto", "afina.pipeline.learn", "afina.pipeline.finish",
)  # fmt: skip


def main() -> None:
    """Write the rows and the setting."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["rows"])
    folder.mkdir(parents=True)
    examples = read_rows(job, folder / "spool")
    for name, part in examples.parts.items():
        texts = [text for batch in part.texts() for text in batch]
        labels = [examples.labels.names[number] for number in part.labels]
        rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    setting = describe_setting(job, examples)
    (folder / "setting.json").write_text(json.dumps(setting, indent=2), encoding="utf-8")
    for name in IMPORTED:
        import_module(name)


def read_rows(job: dict[str, Any], spool: Path) -> Examples:
    """The rows as afina reads and splits them."""
    from afina.config.run import DataConfig
    from afina.data.examples import load_examples
    from afina.data.read import read_parts

    config = DataConfig(path=job["data"], on_bad_rows="drop")
    examples = load_examples(job["data"], config, "text-classification", job["seed"], read_parts(job["data"], spool))
    if examples.columns.text_pair is not None or examples.labels.kind != "multiclass":
        sys.exit("the peers here are written for one text and one label a row")
    return examples


def describe_setting(job: dict[str, Any], examples: Examples) -> dict[str, Any]:
    """What the entries and the table need to know."""
    from afina.models.inspect import inspect_model
    from afina.models.load import load_tokenizer
    from afina.models.resolve import resolve_model
    from afina.training.precision import choose_device, choose_precision

    base = resolve_model(job["model"])
    limit = min(inspect_model(base).max_positions or LONGEST, LONGEST)
    tokenizer = load_tokenizer(base)
    tokens = {}
    for name, part in examples.parts.items():
        encoded = (tokenizer(batch, truncation=True, max_length=limit)["input_ids"] for batch in part.texts())
        tokens[name] = sum(len(row) for rows in encoded for row in rows)
    device = choose_device("auto").value
    return {
        "seed": job["seed"],
        "data_hash": examples.data_hash,
        "rows": {name: len(part) for name, part in examples.parts.items()},
        "tokens": tokens,
        "dropped": {reason: entry["count"] for reason, entry in examples.counts["dropped"].items()},
        "names": list(examples.labels.names),
        "model_folder": str(base),
        "max_seq_length": limit,
        "device": device,
        "bf16": choose_precision("auto", device).value == "bf16",
        "machine": describe_machine(device),
        "versions": list_versions(PACKAGES),
    }


if __name__ == "__main__":
    main()
