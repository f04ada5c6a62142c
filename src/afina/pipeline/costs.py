"""What a run is predicted to cost, once its rows are tokenised, and the refusal of one that wouldn't fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from afina.config.resolve import Sizes, resolve_for
from afina.config.run import TAGGING, RunConfig
from afina.errors import AfinaError, ResourceError
from afina.pipeline.narrator import Narrator

if TYPE_CHECKING:
    from afina.advice.costs import Costs, CostSubject
    from afina.advice.machine import Machine
    from afina.advice.workload import Workload
    from afina.models.inspect import ModelFacts
    from afina.techniques.base import Setup, Technique


def expect_costs(
    technique: Technique, setup: Setup, facts: ModelFacts, workload: Workload, device: str, narrator: Narrator
) -> Costs | None:
    """The costs of the run that is about to start; None, and a note, for a model that can't be counted.

    Raises:
        ResourceError: if it would need more memory than is free, unless the settings say to go on.
    """
    from afina.advice.fitting import fits
    from afina.advice.machine import find_machine

    with narrator.stage("predict"):
        machine = add_resident(find_machine(device, setup.precision))
        counted = count_costs(technique, setup.config, setup, facts, workload, machine)
        if isinstance(counted, Exception):
            narrator.note(f"memory and time are not predicted: {type(counted).__name__} while the model was outlined")
            return None
        subject, costs = counted
        if setup.config.training.check_memory and not fits(costs, machine.memory_bytes):
            raise refuse(subject, technique, setup.config, costs)
    return costs


def count_costs(
    technique: Technique, config: RunConfig, setup: Setup, facts: ModelFacts, workload: Workload, machine: Machine
) -> tuple[CostSubject, Costs] | Exception:
    """What a run by the technique would cost in this process, or why that can't be counted.

    The code of models may do what tensors without numbers can't; that is no reason to stop a run.
    """
    from afina.advice.costs import predict_costs

    try:
        subject = make_subject(config, facts, setup.head, setup.pad_token_id, workload, machine, setup.precision)
        costs = predict_costs(subject, technique, config)
    except AfinaError:
        raise
    except Exception as error:
        return error
    return subject, allow_for_resident(costs, machine.device, facts.vocab_size)


@dataclass(frozen=True)
class MemoryFit:
    """Whether one technique fits this machine."""

    fits: bool
    trainable: int | None
    """Parameters that move; None if the model can't be counted."""


def check_memory_fits(
    configs: Mapping[str, RunConfig], setup: Setup, facts: ModelFacts, workload: Workload, device: str
) -> dict[str, MemoryFit]:
    """Whether each technique fits, by its resolved description. One that finds no place in the model doesn't; a model
    that can't be counted is taken to fit."""
    from afina.advice.fitting import fits
    from afina.advice.machine import find_machine
    from afina.techniques.lora import NoLayersError
    from afina.techniques.registry import make_technique

    machine = add_resident(find_machine(device, setup.precision))
    found = {}
    for name, config in configs.items():
        try:
            counted = count_costs(make_technique(name), config, setup, facts, workload, machine)
        except NoLayersError:
            found[name] = MemoryFit(False, None)
            continue
        if isinstance(counted, Exception):
            found[name] = MemoryFit(True, None)
            continue
        _, costs = counted
        is_checked = config.training.check_memory
        found[name] = MemoryFit(not is_checked or fits(costs, machine.memory_bytes), costs.trainable)
    return found


def list_fits(found: Mapping[str, MemoryFit]) -> dict[str, bool]:
    """Whether each technique fits, for those who ask no more."""
    return {name: each.fits for name, each in found.items()}


def resolve_by_technique(given: RunConfig, task: str, sizes: Sizes) -> dict[str, RunConfig]:
    """The description for each technique that moves a backbone, suits the task and is installed."""
    from afina.techniques.registry import list_moving

    return {name: resolve_for(given, name, sizes)[0] for name in list_moving(task)}


def make_subject(
    config: RunConfig, facts: ModelFacts, head: Any, pad_token_id: int | None, workload: Workload, machine: Machine,
    precision: str,
) -> CostSubject:  # fmt: skip
    """What costs depend on: the model's blueprint, the rows, the machine."""
    from afina.advice.costs import CostSubject
    from afina.models.empty import draw_blueprint
    from afina.models.weights import read_tensors

    attention = config.model.attn_implementation
    # Our own attention is for CPUs; elsewhere transformers takes torch's fused one.
    attention = "sdpa" if attention == "auto" and machine.device != "cpu" else attention
    blueprint = draw_blueprint(
        facts.folder,
        read_tensors(facts.files),
        head,
        pad_token_id,
        dropout=config.training.dropout,
        attention=attention,
        of_words=config.task == TAGGING,
    )
    return CostSubject(blueprint, workload, machine, precision)


def add_resident(machine: Machine) -> Machine:
    """The machine with what this process holds counted as free: a prediction counts the whole process."""
    from afina.training.memory import measure_resident_bytes

    if machine.device != "cpu":
        return machine
    return replace(machine, memory_bytes=machine.memory_bytes + measure_resident_bytes())


def allow_for_resident(costs: Costs, device: str, vocabulary: int) -> Costs:
    """The costs in a process that holds more already than the libraries: a notebook, or a program with data."""
    from afina.advice.memory import LIBRARIES_BYTES, TOKEN_BYTES
    from afina.training.memory import measure_resident_bytes

    memory = costs.memory
    more = max(0, measure_resident_bytes() - LIBRARIES_BYTES - TOKEN_BYTES * vocabulary) if device == "cpu" else 0
    return replace(costs, memory=replace(memory, overhead=memory.overhead + more))


def refuse(subject: CostSubject, technique: Technique, config: RunConfig, costs: Costs) -> ResourceError:
    """The error for a run that wouldn't fit, with what would."""
    from afina.advice.fitting import USABLE, find_remedy
    from afina.advice.plan import format_size

    machine = subject.machine
    remedy = find_remedy(subject, technique, config, machine.memory_bytes)
    choices = []
    if remedy:
        peak = format_size(remedy.costs.memory.total)
        choices.append(f"{remedy.as_flags()} ({peak}, the same steps)")
    choices.append("afina plan shows what other techniques need")
    choices.append("--set training.check_memory=false starts it all the same")
    memory = costs.memory
    return ResourceError(
        f"this run would not fit into the memory of {machine.name}",
        found=(
            f"about {format_size(memory.total)} at its peak: weights {format_size(memory.weights)}, gradients"
            f" {format_size(memory.gradients)}, optimizer {format_size(memory.optimizer)}, activations"
            f" {format_size(memory.activations + memory.loss)}, the rest {format_size(memory.overhead)}"
        ),
        expected=f"at most {format_size(int(USABLE * machine.memory_bytes))}",
        remedy="; or ".join(choices),
    )


def describe_prediction(costs: Costs | None) -> dict[str, Any] | None:
    """What report.json holds of it."""
    from afina.advice.costs import as_dict

    return None if costs is None else as_dict(costs)
