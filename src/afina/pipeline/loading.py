"""How a result is loaded without afina: its layout, why it has it, and code that runs in the folder of the run."""

from __future__ import annotations

import json
from pathlib import Path

from afina.config.techniques import IN_4_BITS
from afina.models.heads import describe_layout
from afina.techniques.base import Setup
from afina.techniques.qlora import make_quantization

TRANSFORMERS = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

texts = {texts}
tokenizer = AutoTokenizer.from_pretrained("model")
model = AutoModelForSequenceClassification.from_pretrained("model")
inputs = tokenizer(texts, padding=True, truncation=True, max_length={length}, return_tensors="pt")
logits = model(**inputs).logits
"""

PEFT = """\
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

texts = {texts}
tokenizer = AutoTokenizer.from_pretrained("model")
config = AutoConfig.from_pretrained("model")
base = AutoModelForSequenceClassification.from_pretrained({base}, config=config)
model = PeftModel.from_pretrained(base, "model")
inputs = tokenizer(texts, padding=True, truncation=True, max_length={length}, return_tensors="pt")
logits = model(**inputs).logits
"""

STORAGE = """\
storage = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="{storage.bnb_4bit_quant_type}",
    bnb_4bit_use_double_quant={storage.bnb_4bit_use_double_quant},
    bnb_4bit_compute_dtype={storage.bnb_4bit_compute_dtype},
    llm_int8_skip_modules={skipped},
)"""

GUARD = """\
for module in base.modules():
    if isinstance(module, bitsandbytes.nn.Linear4bit):
        module.support_avx512bf16_for_cpu = False  # some CPUs repack weights, which fails for small layers"""

PEFT_IN_4_BITS = (
    """\
import bitsandbytes
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig

texts = {texts}
tokenizer = AutoTokenizer.from_pretrained("model")
config = AutoConfig.from_pretrained("model")
"""
    + STORAGE
    + """
base = AutoModelForSequenceClassification.from_pretrained({base}, config=config, quantization_config=storage)
"""
    + GUARD
    + """
model = PeftModel.from_pretrained(base, "model")
inputs = tokenizer(texts, padding=True, truncation=True, max_length={length}, return_tensors="pt")
logits = model(**inputs.to(base.device)).logits
"""
)

SENTENCE = """\
from sentence_transformers import SentenceTransformer

texts = {texts}
model = SentenceTransformer("model")
logits = model.encode(texts)
"""

NAMES = {
    "transformers": "names = model.config.id2label\n",
    "peft": "names = config.id2label\n",
    "sentence-transformers": "names = model[0].auto_model.config.id2label\n",
}

WHY = {
    "transformers": "the architecture's own head holds the result, so it is an ordinary transformers folder",
    "peft": "an adapter and a head beside the untouched base; afina merge makes it one model",
    "sentence-transformers": "the architecture's own head can't pool like this, sentence-transformers can",
}


def describe_loading(folder: Path, setup: Setup, task: str, *, pairs: bool = False) -> dict[str, str]:
    """`folder`, `layout`, `why` and `code`, which ends with `logits` and, but for regression, `names`."""
    layout = describe_layout(folder)
    return {"folder": "model/", "layout": layout, "why": WHY[layout], "code": write_code(layout, setup, task, pairs)}


def write_code(layout: str, setup: Setup, task: str, pairs: bool) -> str:
    """Lines of Python, to be run in the folder of the run."""
    revision = setup.config.model.revision
    values = {
        "texts": '[["a text", "another one"]]' if pairs else '["a text"]',
        "length": setup.config.model.max_seq_length,
        "base": json.dumps(setup.reference) + (f", revision={json.dumps(revision)}" if revision else ""),
    }
    if layout == "peft" and setup.config.technique in IN_4_BITS:
        storage = make_quantization(setup)
        code = PEFT_IN_4_BITS.format(**values, storage=storage, skipped=json.dumps(storage.llm_int8_skip_modules))
    else:
        templates = {"transformers": TRANSFORMERS, "peft": PEFT, "sentence-transformers": SENTENCE}
        code = templates[layout].format(**values)
    if setup.of_words:
        code = code.replace("ForSequenceClassification", "ForTokenClassification")
    return code if task == "text-regression" else code + NAMES[layout]
