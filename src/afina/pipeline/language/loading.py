"""How a tuned language model is loaded without afina: code that runs in the folder of the run."""

from __future__ import annotations

import json
from pathlib import Path

from afina.config.techniques import IN_4_BITS
from afina.models.heads import describe_layout
from afina.pipeline.loading import GUARD, STORAGE, WHY
from afina.techniques.base import Setup
from afina.techniques.qlora import make_quantization

HEAD = """\
{imports}
tokenizer = AutoTokenizer.from_pretrained("model")
{model}
{inputs}
answer = model.generate(**inputs.to(model.device), max_new_tokens=100, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""
CHAT = """\
messages = [{"role": "user", "content": "a question"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)"""
PLAIN = """inputs = tokenizer("a prompt", return_tensors="pt")"""
WHY_WHOLE = "every weight of the model, as an ordinary transformers folder"


def describe_loading(folder: Path, setup: Setup, *, has_template: bool) -> dict[str, str]:
    """`folder`, `layout`, `why` and `code`, which prints an answer."""
    layout = describe_layout(folder)
    why = WHY["peft"].replace("and a head ", "") if layout == "peft" else WHY_WHOLE
    imports, model = write_model_lines(layout, setup)
    code = HEAD.format(imports=imports, model=model, inputs=CHAT if has_template else PLAIN)
    return {"folder": "model/", "layout": layout, "why": why, "code": code}


def write_model_lines(layout: str, setup: Setup) -> tuple[str, str]:
    """Lines that import, and lines that load the model."""
    if layout != "peft":
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        return imports, 'model = AutoModelForCausalLM.from_pretrained("model")'
    revision = setup.config.model.revision
    base = json.dumps(setup.reference) + (f", revision={json.dumps(revision)}" if revision else "")
    classes, imports = "AutoModelForCausalLM, AutoTokenizer, GenerationConfig", "from peft import PeftModel\n"
    lines = [f"base = AutoModelForCausalLM.from_pretrained({base})"]
    if setup.config.technique in IN_4_BITS:
        classes = classes.replace("AutoTokenizer", "AutoTokenizer, BitsAndBytesConfig")
        imports = f"import bitsandbytes\nimport torch\n{imports}"
        storage = make_quantization(setup)
        stored = STORAGE.format(storage=storage, skipped=json.dumps(storage.llm_int8_skip_modules))
        lines = [stored, f"base = AutoModelForCausalLM.from_pretrained({base}, quantization_config=storage)", GUARD]
    lines += [
        'model = PeftModel.from_pretrained(base, "model")',
        'model.generation_config = GenerationConfig.from_pretrained("model")',
    ]
    return f"{imports}from transformers import {classes}\n", "\n".join(lines)
