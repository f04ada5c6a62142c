"""What each technique would cost: data and model opened, a sample of rows tokenised, no weight read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.config.reason import Reason
from afina.config.resolve import resolve_config, resolve_for
from afina.config.run import RunConfig
from afina.config.techniques import TRAITS
from afina.config.unread import list_unread
from afina.data.conversations import Conversations
from afina.errors import ConfigError
from afina.models.gguf import convert_gguf, outline_gguf
from afina.models.resolve import name_model
from afina.pipeline.narrator import Narrator
from afina.pipeline.readiness import make_sizes, resolve_hardware, settle_tokens_at_once
from afina.pipeline.sampling import read_rows, sample_lengths
from afina.pipeline.source import Opened, open_source
from afina.runs.folder import RunFolder

if TYPE_CHECKING:
    from afina.advice.costs import CostSubject
    from afina.advice.machine import Machine
    from afina.advice.plan import Plan, PlanRow
    from afina.advice.workload import Workload
    from afina.techniques.base import Technique

ORDER = tuple(TRAITS)


def plan_run(config: RunConfig, source: Any, *, device: str | None, device_memory: str | None, measure: bool) -> Plan:
    """The plan for this machine, or for one that is described.

    Args:
        device: cpu, cuda, mps or a known GPU; None for what this machine has.
        device_memory: its size with a unit; None for what is free or known.
        measure: whether to take a few real steps.

    Raises:
        UserError: if the data, the model or the description of the machine can't be used.
    """
    described = describe(device, device_memory)
    if measure and described:
        raise ConfigError(
            "steps can be measured on this machine only", found="--measure with --device or --device-memory",
            remedy="leave one of them out",
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="afina-") as work:
        folder = RunFolder(Path(work))

        def convert(path: Path, cache: Path) -> Path:
            return convert_gguf(path, cache) if measure else outline_gguf(path, cache, folder.path / "model")

        opened = open_source(config, folder, source, Narrator(), convert)
        return make_plan(config, folder, opened, described, measure)


def describe(device: str | None, memory: str | None) -> Machine | None:
    """The machine that the flags describe; None without flags. Memory alone is that of a machine like this one."""
    from afina.advice.machine import describe_machine

    if device is None and memory is None:
        return None
    return replace(describe_machine(device or find_device(), memory), is_alike=device is None)


def complete_machine(described: Machine | None, device: str, precision: str) -> Machine:
    """This machine, or the described one, which is as fast as this one where only its memory is another."""
    from afina.advice.machine import find_machine, measure_rates
    from afina.pipeline.costs import add_resident

    if described is None:
        return add_resident(find_machine(device, precision))
    return replace(described, rates=measure_rates(device, precision)) if described.is_alike else described


def find_device() -> str:
    """What this machine would compute on."""
    from afina.training.precision import choose_device

    return str(choose_device("auto").value)


def make_plan(config: RunConfig, folder: RunFolder, opened: Opened, described: Machine | None, measure: bool) -> Plan:
    """The plan for data and model that are open."""
    rows, task = read_rows(config, opened)
    config, precision = choose_hardware(config, described)
    labels = None if isinstance(rows, Conversations) else rows.labels
    train_rows = len(rows.parts["train"])
    config = config.model_copy(update={"task": task})
    resolved, _ = resolve_config(config, make_sizes(train_rows, opened.facts, labels))

    from afina.advice.plan import Plan
    from afina.models.load import load_tokenizer
    from afina.pipeline.costs import make_subject
    from afina.tasks.registry import make_task

    tokenizer = load_tokenizer(opened.base)
    device = described.device if described else str(config.training.device)
    workload = sample_lengths(rows, resolved, tokenizer, opened.facts, folder, device)
    sizes = make_sizes(workload.train_rows, opened.facts, labels)
    resolved, reasons = resolve_config(config, sizes)
    head = None if labels is None else make_task(task, labels).head_shape().as_config()
    machine = complete_machine(described, device, precision)
    subject = make_subject(resolved, opened.facts, head, tokenizer.pad_token_id, workload, machine, precision)
    techniques = list_techniques(task) if config.technique == "auto" else take_technique(config.technique, task)
    configs = [resolve_for(config, each.name, sizes)[0] for each in techniques]
    planned, unfit = plan_techniques(subject, techniques, configs)
    techniques, configs = [each.technique for each in planned], [each.config for each in planned]
    by_pairs = any(each.training.objective == "contrastive" for each in configs)
    notes = [*unfit, *tell_length(config, reasons), *tell_sequences(train_rows, workload)]
    notes += list_unread(config, is_generation=opened.is_generation)
    notes += [] if described else tell_missing_packages(techniques)
    plan = Plan(subject, [each.row for each in planned], name_model(str(config.model.reference)), notes, by_pairs)
    if not measure:
        return plan
    from afina.pipeline.measure import measure_plan

    return measure_plan(plan, techniques, configs, opened.facts, tokenizer, head, labels)


@dataclass(frozen=True)
class Planned:
    """A technique that finds a place in the model, and what it would cost."""

    technique: Technique
    config: RunConfig
    row: PlanRow


def plan_techniques(
    subject: CostSubject, techniques: Sequence[Technique], configs: Sequence[RunConfig]
) -> tuple[list[Planned], list[str]]:
    """The techniques that find a place in the model, and a note on each that doesn't.

    Raises:
        ConfigError: where none does.
    """
    from afina.techniques.lora import NoLayersError

    planned, notes = [], []
    for technique, config in zip(techniques, configs, strict=True):
        try:
            planned.append(Planned(technique, config, plan_technique(subject, technique, config)))
        except NoLayersError as error:
            if len(techniques) == 1:
                raise
            notes.append(f"{technique.name}: {error.problems[0].what}")
    return planned, notes


def tell_length(config: RunConfig, reasons: Sequence[Reason]) -> list[str]:
    """A note where the model takes fewer tokens than were asked for, as a run says it."""
    wanted = config.model.max_seq_length
    return [
        f"{reason.setting} = {reason.value}: {reason.reason}" for reason in reasons
        if reason.setting == "model.max_seq_length" and wanted not in ("auto", reason.value)
    ]  # fmt: skip


def tell_sequences(train_rows: int, workload: Workload) -> list[str]:
    """A note where rows count more than once: long ones, or conversations of several answers."""
    found = workload.train_rows
    return [f"{train_rows:,} training rows give about {found:,} sequences to learn"] if found > train_rows else []


def tell_missing_packages(techniques: Sequence[Technique]) -> list[str]:
    """A note for each technique that this machine can't run yet."""
    from afina.techniques.registry import is_installed

    return [
        f"{each.name} needs {each.needs}, which isn't installed here: pip install 'afina[{each.name}]'"
        for each in techniques if not is_installed(type(each))
    ]  # fmt: skip


def choose_hardware(config: RunConfig, described: Machine | None) -> tuple[RunConfig, str]:
    """The description with device and number format of the machine, and the latter."""
    if described is not None:
        training = config.training.model_copy(update={"device": described.device})
        config = config.model_copy(update={"training": training})
    if described is None or described.is_alike or described.device == "cpu":
        config = resolve_hardware(config, Narrator())
        return config, str(config.training.precision)
    usual = "bf16" if described.has_bf16 else "fp32"
    wanted = config.training.precision
    precision = usual if wanted == "auto" else wanted
    return settle_tokens_at_once(config, described.device), precision


def list_techniques(task: str) -> list[Technique]:
    """Those that can learn the task, in the order of the table."""
    from afina.techniques.registry import TECHNIQUES, make_technique

    names = sorted(TECHNIQUES, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return [technique for technique in map(make_technique, names) if task in technique.tasks]


def take_technique(name: str, task: str) -> list[Technique]:
    """The one that was asked for.

    Raises:
        ConfigError: if it can't learn the task.
    """
    from afina.techniques.base import check_pair
    from afina.techniques.registry import make_technique

    technique = make_technique(name)
    check_pair(technique, task)
    return [technique]


def plan_technique(subject: CostSubject, technique: Technique, config: RunConfig) -> PlanRow:
    """One row of the plan."""
    from afina.advice.costs import predict_costs
    from afina.advice.fitting import find_remedy, fits
    from afina.advice.plan import PlanRow

    costs = predict_costs(subject, technique, config)
    available = subject.machine.memory_bytes
    if fits(costs, available):
        return PlanRow(costs, True, None)
    return PlanRow(costs, False, find_remedy(subject, technique, config, available))
