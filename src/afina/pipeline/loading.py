"""How a result is loaded without afina: its layout, why it has it, and code that runs."""

from __future__ import annotations

from pathlib import Path

from afina.models.heads import describe_layout
from afina.techniques.base import Setup

TRANSFORMERS = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForSequenceClassification.from_pretrained("{folder}")
logits = model(**tokenizer(["a text"], padding=True, truncation=True, max_length={length}, return_tensors="pt")).logits
"""

PEFT = """\
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
config = AutoConfig.from_pretrained("{folder}")
base = AutoModelForSequenceClassification.from_pretrained("{base}", config=config{quantization})
model = PeftModel.from_pretrained(base, "{folder}")
logits = model(**tokenizer(["a text"], padding=True, truncation=True, max_length={length}, return_tensors="pt")).logits
"""

SENTENCE = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{folder}")
logits = model.encode(["a text"])
names = model[0].auto_model.config.id2label
"""

WHY = {
    "transformers": "the architecture's own head holds the result, so it is an ordinary transformers folder",
    "peft": "an adapter and a head beside the untouched base; afina merge makes it one model",
    "sentence-transformers": "the architecture's own head can't pool like this, sentence-transformers can",
}


def describe_loading(folder: Path, setup: Setup, task: str) -> dict[str, str]:
    """`folder`, `layout`, `why` and `code`; regression outputs have no names."""
    layout = describe_layout(folder)
    template = {"transformers": TRANSFORMERS, "peft": PEFT, "sentence-transformers": SENTENCE}[layout]
    if task == "text-regression":
        template = "\n".join(line for line in template.split("\n") if not line.startswith("names ="))
    is_quantised = setup.config.technique == "qlora"
    code = template.format(
        folder="model",
        base=setup.reference,
        length=setup.config.model.max_seq_length,
        quantization=", quantization_config=BitsAndBytesConfig(load_in_4bit=True, ...)" if is_quantised else "",
    )
    return {"folder": "model/", "layout": layout, "why": WHY[layout], "code": code}
