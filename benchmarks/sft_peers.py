"""TRL's SFTTrainer in a process of its own: `python sft_peers.py ENTRY JOB` trains and prints one line, see sft.py.

Each recipe reads like the script it stands for, so that anybody can judge whether it is a fair one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from equal_start import share_adapter_start
from peers import make_trainer_clock

Result = dict[str, Any]


def main() -> None:
    """Run one entry and print its line."""
    job = SimpleNamespace(**json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    print(json.dumps(ENTRIES[sys.argv[1]](job)))


def run_tutorial(job: SimpleNamespace) -> Result:
    """As tutorials write it: prompt and completion as one text, every token learned, fp32, LoRA with dropout."""
    rows = [{"text": row["prompt"] + row["completion"]} for row in read_rows(job, "data/train.jsonl")]
    flags = {"dataset_text_field": "text", "bf16": False, "max_length": job.max_seq_length}
    return run_trl(job, rows, flags, job.max_steps, lora_dropout=0.1)


def run_defaults(job: SimpleNamespace) -> Result:
    """What TRL does by itself; only the rate is given, since its own is one for full fine-tuning."""
    flags = {"learning_rate": job.learning_rate}
    return run_trl(job, read_rows(job, "data/train.jsonl"), flags, job.max_steps, lora_dropout=0.0)


def run_best(job: SimpleNamespace) -> Result:
    """TRL's best flags. On a CPU it takes the very batches that afina takes, grouped by length; on a GPU it packs."""
    flags = {
        "learning_rate": job.learning_rate, "lr_scheduler_type": "constant", "weight_decay": 0.01,
        "max_grad_norm": 1.0, "bf16": job.bf16, "gradient_checkpointing": False, "optim": "adamw_torch_fused",
        "dataloader_num_workers": 0, "save_strategy": "no", "max_length": job.max_seq_length,
    }  # fmt: skip
    if job.device == "cpu":
        flags |= {"train_sampling_strategy": "sequential"}
    else:
        flags |= {"packing": True, "max_length": job.longest, "per_device_train_batch_size": 1,
                  "gradient_accumulation_steps": max(1, round(job.tokens / job.steps / job.longest)),
                  "model_init_kwargs": {"dtype": "bfloat16", "attn_implementation": choose_attention()}}  # fmt: skip
    return run_trl(job, read_rows(job, "ordered.jsonl"), flags, None, lora_dropout=0.0)


def choose_attention() -> str:
    """The fastest attention that is installed and keeps packed rows apart."""
    import importlib.util

    return "flash_attention_2" if importlib.util.find_spec("flash_attn") else "sdpa"


def run_trl(
    job: SimpleNamespace, rows: list[dict[str, str]], flags: dict[str, Any], most_steps: int | None, *,
    lora_dropout: float,
) -> Result:  # fmt: skip
    """Train; losses and seconds of each step."""
    share_adapter_start()
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    lora = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=lora_dropout, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    clock = make_trainer_clock()
    steps = min(job.steps, most_steps or job.steps)
    arguments = {
        "per_device_train_batch_size": job.batch_size, "num_train_epochs": 1, "logging_steps": 1,
        "include_num_input_tokens_seen": "non_padding", **flags,
    }  # fmt: skip
    trainer = SFTTrainer(
        job.model_folder, train_dataset=Dataset.from_list(rows), peft_config=lora, callbacks=[clock],
        args=SFTConfig(
            job.work, **arguments, max_steps=steps if steps < job.steps else -1, seed=job.seed, report_to="none",
            use_cpu=job.device == "cpu", disable_tqdm=True,
        ),
    )  # fmt: skip
    trainer.train()
    trainer.save_model(f"{job.work}/model")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "step_seconds": clock.step_seconds, "losses": losses, "tokens": int(trainer.state.num_input_tokens_seen),
        "flags": {"lora_dropout": lora_dropout, **arguments},
    }  # fmt: skip


def read_rows(job: SimpleNamespace, name: str) -> list[dict[str, str]]:
    """The rows of a file."""
    with open(f"{job.rows}/{name}", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


ENTRIES: dict[str, Callable[[SimpleNamespace], Result]] = {
    "tutorial": run_tutorial,
    "trl-defaults": run_defaults,
    "trl-best": run_best,
}

if __name__ == "__main__":
    main()
