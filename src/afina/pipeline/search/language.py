"""Trials of language models."""

from __future__ import annotations

from typing import Any

from afina.config.run import GENERATION, RunConfig
from afina.pipeline.changes import pin_run
from afina.pipeline.costs import check_memory_fits, list_fits, resolve_by_technique
from afina.pipeline.description import rewrite_description
from afina.pipeline.language.answers import choose_samples, find_stop_tokens
from afina.pipeline.language.finish import PRIMARY_METRIC, finish_language
from afina.pipeline.language.learn import LearnedLanguage, learn_language, measure_model, tell_scores
from afina.pipeline.language.objective import make_objective
from afina.pipeline.language.prepare import (
    PreparedLanguage,
    describe_data,
    describe_tally,
    describe_workload,
    encode_part,
)
from afina.pipeline.language.scoring import score_language, write_language_rows
from afina.pipeline.narrator import Narrator
from afina.pipeline.readiness import make_sizes
from afina.pipeline.result import rescore
from afina.pipeline.search.varied import vary
from afina.runs.folder import RunFolder
from afina.runs.names import BASE, REPORT
from afina.training.session import start_accelerator


class LanguageWorkbench:
    """See `Workbench`."""

    kind = "generation"
    task = GENERATION
    primary_metric = PRIMARY_METRIC
    poolings: tuple[str, ...] = ()

    def __init__(self, prepared: PreparedLanguage) -> None:
        self.prepared = prepared
        self.base = prepared.setup.base
        self.device = prepared.device
        self.sizes = make_sizes(len(prepared.parts["train"]), prepared.facts, None)
        self.first_technique = prepared.technique.name
        self.data_hash = prepared.conversations.data_hash
        self.test_rows = len(prepared.conversations.parts["test"])
        self._untouched: dict[bool, dict[str, Any]] = {}
        """What the untouched model does on the validation rows, by whether it is stored in 4 bits."""

    def check_techniques(self) -> dict[str, bool]:
        shared = self.prepared
        described = resolve_by_technique(shared.config, GENERATION, self.sizes)
        workload = describe_workload(shared.parts, shared.config, shared.device)
        return list_fits(check_memory_fits(described, shared.setup, shared.facts, workload, shared.device))

    def run(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        varied = self.vary(config, folder, narrator)
        pin_run(folder, varied.config, varied.setup.base, self.data_hash, describe_data(varied), narrator)
        in_4_bits = varied.technique.traits.stored_in_4_bits
        if in_4_bits in self._untouched:
            folder.write_json(BASE, self._untouched[in_4_bits])
        report = finish_language(varied, learn_language(varied, narrator), narrator)
        self._untouched[in_4_bits] = folder.read_json(BASE)
        return report

    def score_test(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        self.encode_test(narrator)
        varied = self.vary(config, folder, narrator)
        stored = folder.read_json(REPORT)
        learned = measure_states(varied, stored["kept_step"], narrator)
        folder.write_json(BASE, learned.before.as_dict())
        scores = score_language(varied, learned, narrator)
        rewrite_description(folder, varied.config)
        write_language_rows(varied, learned)
        return rescore(folder, stored, scores, varied.config, narrator)

    def encode_test(self, narrator: Narrator) -> None:
        """Tokenise the test part, once. Rows that the template refuses are left out and named: it is late to stop."""
        shared = self.prepared
        if "test" in shared.parts:
            return
        part = shared.conversations.parts["test"]
        rows, tally = encode_part(part, shared.tokenizer, shared.encoding, shared.folder)
        shared.parts["test"], shared.tallies["test"] = rows, tally
        for note in describe_tally("test", tally, rows, shared.encoding.max_seq_length):
            narrator.note(note)

    def vary(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> PreparedLanguage:
        """The shared rows under another description: technique and settings of training may differ."""
        config = config.model_copy(update={"task": GENERATION})
        return vary(self.prepared, config, self.sizes, describe_workload, folder, narrator)


def measure_states(prepared: PreparedLanguage, kept_step: int | None, narrator: Narrator) -> LearnedLanguage:
    """The untouched model and the saved one on the test part, one after the other."""
    accelerator = start_accelerator(prepared.device, prepared.setup.precision)
    technique, setup = prepared.technique, prepared.setup
    untouched = technique.prepare(technique.load(setup), setup).to(prepared.device)
    objective = make_objective(prepared, untouched, accelerator, narrator)
    samples = choose_samples(prepared, "test")
    stops = find_stop_tokens(untouched, prepared.parts["train"], prepared.tokenizer)
    with narrator.stage("evaluate"):
        before = measure_model(prepared, untouched, objective, accelerator, samples, stops)
    tell_scores(prepared, "untouched", before, narrator)
    del untouched
    tuned = technique.restore(prepared.folder.model, setup).to(prepared.device)
    with narrator.stage("evaluate"):
        after = measure_model(prepared, tuned, objective, accelerator, samples, stops)
        validation = objective.measure(tuned, prepared.parts["validation"], accelerator)
    tell_scores(prepared, "tuned", after, narrator)
    return LearnedLanguage(tuned, objective, accelerator, samples, stops, before, after, validation, "", kept_step)
