"""The shared rows of a search under another description, as a run of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from afina.advice.workload import Workload
from afina.config.resolve import Sizes, resolve_config
from afina.config.run import RunConfig
from afina.pipeline.costs import expect_costs
from afina.pipeline.language.prepare import PreparedLanguage
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.readiness import find_technique, list_parts, resolve_hardware
from afina.runs.folder import RunFolder

AnyPrepared = TypeVar("AnyPrepared", Prepared, PreparedLanguage)
DescribeWorkload = Callable[[Mapping[str, Any], RunConfig, str], Workload]


def vary(
    shared: AnyPrepared, config: RunConfig, sizes: Sizes, describe_workload: DescribeWorkload, folder: RunFolder,
    narrator: Narrator,
) -> AnyPrepared:  # fmt: skip
    """The rows with the technique and the settings of training of `config`, which names its task.

    Args:
        describe_workload: gives what costs depend on from parts, description and device.
    """
    config, reasons = resolve_config(config, sizes)
    config = resolve_hardware(config, narrator)
    device, precision = str(config.training.device), str(config.training.precision)
    for reason in reasons:
        narrator.explain(reason)
    technique = find_technique(config, config.task, shared.facts, folder)
    setup = replace(shared.setup, config=config, precision=precision)
    parts: Any = {name: shared.parts[name] for name in list_parts(config)}
    costs = expect_costs(
        technique, setup, shared.facts, describe_workload(parts, config, device), device, narrator
    )  # fmt: skip
    return replace(
        shared, folder=folder, config=config, technique=technique, device=device, setup=setup, parts=parts, costs=costs
    )
