"""The only description of a run: every flag, every key of a YAML file and every Python keyword is a field here.

Fields keep the names that users of Hugging Face know. The line under a field begins with its unit. `"auto"` is
resolved from the data, the model and the machine (`config/resolve.py`), and the choice is stored with its reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator

from afina.config.kinds import takes_truth_values
from afina.config.techniques import ChosenTechnique

Auto = Literal["auto"]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
GENERATION: Final = "text-generation"
TAGGING: Final = "token-classification"
BUILT_IN_TEMPLATES: Final = ("auto", "chatml", "none")
"""Values of `model.chat_template` that name no file."""
TaskName = Literal["auto", "text-classification", "text-regression", "text-generation", "token-classification"]
TechniqueName = Literal["auto", ChosenTechnique]


class Section(BaseModel):
    """A part of the description: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """True is 1 to Python, but nobody who writes it means a number."""
        if isinstance(value, bool) and not takes_truth_values(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("no number")
        return value


class DataConfig(Section):
    path: str | None = None
    """File (csv, tsv, jsonl, json, parquet, txt, conll), folder with train.*/validation.*/test.*, or id on the Hub."""
    text_column: str | None = None
    """Name of the column that holds the text. None: guessed, and the reason is printed."""
    text_pair_column: str | None = None
    """Name of the column that holds the second text of a pair. None: guessed; "" means that there is none."""
    label_column: str | None = None
    """Name of the column that holds the label. None: guessed, and the reason is printed."""
    messages_column: str | None = None
    """Name of the column that holds lists of messages. None: guessed. Only for text-generation, as the next four."""
    prompt_column: str | None = None
    """Name of the column that holds what is asked; goes with completion_column. None: guessed."""
    completion_column: str | None = None
    """Name of the column that holds the answer. None: guessed."""
    train_on: Literal["assistant", "last", "all"] = "assistant"
    """Tokens that are learned: `assistant` those of every answer, `last` of the last answer of a row, `all` of all."""
    packing: bool | Auto = "auto"
    """Whether rows share a sequence, kept apart by the attention mask. auto: on a GPU; a CPU groups rows by length."""
    label_separator: str | None = None
    """String between the labels of one row, for several labels in one cell of text, such as "|"."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """Share of the rows kept to choose the best checkpoint, where the data brings no validation part."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.2
    """Share of the rows that training never sees, where the data brings no test part."""
    on_bad_rows: Literal["fail", "drop"] = "fail"
    """`fail` stops and lists every bad row; `drop` leaves them out, counts them and lists them in data.json."""
    on_findings: Literal["fail", "warn"] = "fail"
    """`fail` stops where the rows make a run worthless (see `afina check`); `warn` says so and goes on."""


class ModelConfig(Section):
    reference: str | None = None
    """Local folder, id on the Hub, or package:NAME/PATH (a folder inside an installed Python package)."""
    revision: str | None = None
    """Commit, tag or branch of a model on the Hub. None: the main branch."""
    max_seq_length: PositiveInt | Auto = "auto"
    """Tokens a row may have, longer ones are cut; tagged words and plain texts are read in windows instead. auto: the
    model's limit or 512, the smaller one."""
    chat_template: str = "auto"
    """`auto` (the tokenizer's own), `chatml`, `none` (prompt and completion as they are), or path of a Jinja file."""
    chat_template_kwargs: dict[str, JsonValue] = {}
    """Arguments of the chat template, such as {enable_thinking: false}; the saved template keeps them as defaults."""
    attn_implementation: Literal["auto", "sdpa", "eager"] = "auto"
    """Kernel of attention. auto: batched products for bf16 on a CPU (faster there), else transformers' choice."""


class TrainingConfig(Section):
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] | Auto = "auto"
    """Peak step size of AdamW. auto: by technique and width of the model."""
    num_train_epochs: PositiveInt | Auto = "auto"
    """Passes over the training part. auto: 3, and more where that gives only few steps."""
    max_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps of the whole training, in place of `num_train_epochs`. 0: as many as the epochs have."""
    per_device_train_batch_size: PositiveInt = 16
    """Rows of one forward and backward pass. Where rows share sequences (`packing`), as many of these as hold about so
    many rows."""
    gradient_accumulation_steps: PositiveInt = 1
    """Passes summed into one optimizer step; the loss is normalised over all their rows at once."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """Decay of weight matrices a step, times the learning rate; norms and biases are spared."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the learning rate after warm-up."""
    warmup_ratio: Fraction = 0.1
    """Share of the steps over which the learning rate rises from 0."""
    max_grad_norm: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest L2 norm of the gradient, longer ones are scaled down. 0 means no clipping."""
    max_skipped_steps: Annotated[int, Field(ge=0)] = 3
    """Steps that may be skipped since their loss or gradient is no finite number; one more stops the run."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["model"] = 0.0
    """Share of activations set to 0 inside the model while training. "model" keeps what its config.json says."""
    objective: Literal["auto", "cross-entropy", "contrastive"] = "auto"
    """What is minimised where each row has one class: `cross-entropy` of the head's probabilities; `contrastive`: texts
    of one class are drawn together and those of two classes apart, then the head is solved. auto: contrastive for few
    rows, up to 512 in all or 16 a class."""
    head_init: Literal["probe", "random"] = "probe"
    """`probe` starts the new head from the solution on frozen features, `random` from random numbers."""
    class_weight: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by rows / (classes * rows of the class)."""
    early_stopping_patience: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Evaluations after which training stops, if none of them has a better main score on the validation part than all
    before them but the start. 0 means never. auto: half of those that the run makes, and 3 at least: as long as the
    learning rate is high the score rises and falls."""
    eval_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps between evaluations within an epoch, besides the one at its end. 0 means only that."""
    save_steps: Annotated[int, Field(ge=0)] = 500
    """Optimizer steps between checkpoints, besides the one at each evaluation. 0 means only those."""
    save_every_minutes: Annotated[float, Field(ge=0.0)] = 10.0
    """Minutes after the last checkpoint until another one is due, between two steps. 0 means never."""
    save_total_limit: PositiveInt = 2
    """Checkpoints kept: the newest ones, and the best one always."""
    logging_steps: PositiveInt = 10
    """Optimizer steps between two lines of metrics.jsonl."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the matrix products. auto: bf16 where the machine multiplies faster in it, over fp32 weights."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model is computed. auto: a GPU if there is one."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, about a third more time."""
    lazy_embeddings: bool = True
    """Whether rows of the embedding that no training text names decay in one go at the end instead of at each step: the
    same numbers, with less time and memory."""
    compiled_kernels: bool = True
    """Whether a CPU takes the kernels that were compiled when afina was installed, where there are some: for layers,
    where it has AVX512, and for the step of full fine-tuning in bf16. The same up to rounding."""
    side_by_side: bool = True
    """Whether a CPU with several threads computes batches without gradients, and the halves of a large one with them,
    side by side: less waiting of threads for each other. The same up to rounding."""
    check_memory: bool = True
    """Whether a run that is predicted not to fit refuses to start, and one on a CPU minds how full memory is."""


class LoraConfig(Section):
    r: PositiveInt = 16
    """Rank of the two matrices beside each adapted weight."""
    lora_alpha: Annotated[float, Field(gt=0.0, le=10_000.0)] = 32.0
    """Scale of the update, which is multiplied by lora_alpha / r."""
    lora_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | Auto = "auto"
    """Share of the adapter's inputs set to 0 while training. auto: 0.1, and 0 for language models (it costs time)."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["auto", "all-linear"] = "auto"
    """Layers with an adapter, by name. auto: query and value, in language models all-linear: all but the head."""


class QuantizationConfig(Section):
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """Code book of the 4-bit weights: NormalFloat or plain float."""
    bnb_4bit_use_double_quant: bool = True
    """Whether the scales of the blocks are quantised too: about 0.4 bits a weight less."""


class FeatureConfig(Section):
    pooling: Literal["auto", "own", "mean", "first", "last"] = "auto"
    """How token vectors become one. auto: by cross-validation, for full the own one; own: what the architecture's own
    head reads. Read by feature-extraction and full."""
    folds: Annotated[int, Field(ge=2, le=20)] = 4
    """Parts of the cross-validation that chooses the pooling and the strength of the head."""
    cache: bool = True
    """Whether features are kept on disk (AFINA_CACHE, by default ~/.cache/afina; 10 GiB at most) and used again."""


class EvaluationConfig(Section):
    score_test: bool = True
    """Whether the test part is scored. false: it is left alone, and the scores are those of the validation part."""
    eval_tokens_per_batch: PositiveInt | Auto = "auto"
    """Tokens of one forward pass, padding included, when nothing is trained. auto: what the device's caches like."""
    bootstrap_resamples: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Resamples of the test rows behind each 95 % interval. 0 means no intervals."""
    baselines: bool = True
    """Whether the plain baselines (majority or mean, TF-IDF + linear) are trained and scored on the same rows."""
    keep_baselines: bool = True
    """Whether what TF-IDF + linear says is kept on disk (AFINA_CACHE) and used again for the same rows."""
    hardest_errors: Annotated[int, Field(ge=0)] = 20
    """Wrong test rows shown in the report, the most confident ones first."""
    generation_samples: Annotated[int, Field(ge=0)] = 8
    """Test prompts that a language model answers before and after training. 0 means none."""
    max_new_tokens: PositiveInt = 128
    """Tokens of such an answer at most."""
    general_text: bool = True
    """Whether the loss on a fixed sample of general text is measured before and after, to show what was forgotten."""


class RunConfig(Section):
    """What is learned, how, from what, and with which settings; `afina train --config` reads it as YAML."""

    task: TaskName = "auto"
    """What is learned. auto: from the labels, and the reason is printed."""
    technique: TechniqueName = "auto"
    """How it is learned: which weights move."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    """Seed of the split, of the order of rows, of new weights and of dropout."""
    output: str | None = None
    """Folder of the run, new or empty. None: runs/ and a name from the data, the technique and the time."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    lora: LoraConfig = LoraConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    features: FeatureConfig = FeatureConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
