"""afina fine-tunes a pretrained model on your own data and says whether the result is any good.

    run = afina.fit("path/or/id", "reviews.csv", technique="lora")
    run.metrics["test/accuracy"]
    run.predict(["what a film"])

Names are loaded when they are first used: importing afina imports neither torch nor transformers.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Other libraries read these when they are first imported, so they are set before any of them is. Whoever has set one
# otherwise is left alone.
_QUIET = {
    "DO_NOT_TRACK": "1",  # what many libraries ask before they tell their makers anything
    "HF_HUB_DISABLE_TELEMETRY": "1",  # the Hub's client would tell its server what program calls
    "USE_HUB_KERNELS": "NO",  # transformers would fetch compiled programs for some layers
}
for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)
# torch's threads wait for each other by counting up to 300,000, and so keep a core from the very thread they wait for
# wherever another program runs beside them. A tenth of that costs an idle machine nothing; docs/LOG.md has the figures.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

_HOME = {
    "AfinaError": "errors",
    "CheckReport": "pipeline.check_report",
    "ConfigError": "errors",
    "DataError": "errors",
    "Finding": "data.doctor.finding",
    "Interrupted": "errors",
    "MissingExtraError": "errors",
    "ModelError": "errors",
    "Plan": "advice.plan",
    "ProofError": "errors",
    "Reproduction": "reproductions",
    "ResourceError": "errors",
    "Run": "finished",
    "RunConfig": "config.run",
    "RunFolderError": "errors",
    "Search": "searches",
    "Speaker": "pipeline.language.speaker",
    "TrainingError": "errors",
    "UserError": "errors",
    "check": "api",
    "compare": "finished",
    "evaluate": "finished",
    "fit": "api",
    "list_runs": "finished",
    "load": "finished",
    "merge": "finished",
    "open_chat": "finished",
    "plan": "api",
    "predict": "finished",
    "predict_file": "finished",
    "reproduce": "reproductions",
    "resume": "api",
    "search": "searches",
}

__all__ = [
    "AfinaError",
    "CheckReport",
    "ConfigError",
    "DataError",
    "Finding",
    "Interrupted",
    "MissingExtraError",
    "ModelError",
    "Plan",
    "ProofError",
    "Reproduction",
    "ResourceError",
    "Run",
    "RunConfig",
    "RunFolderError",
    "Search",
    "Speaker",
    "TrainingError",
    "UserError",
    "__version__",
    "check",
    "compare",
    "evaluate",
    "fit",
    "list_runs",
    "load",
    "merge",
    "open_chat",
    "plan",
    "predict",
    "predict_file",
    "reproduce",
    "resume",
    "search",
]

if TYPE_CHECKING:
    from afina.advice.plan import Plan
    from afina.api import check, fit, plan, resume
    from afina.config.run import RunConfig
    from afina.data.doctor.finding import Finding
    from afina.errors import (
        AfinaError,
        ConfigError,
        DataError,
        Interrupted,
        MissingExtraError,
        ModelError,
        ProofError,
        ResourceError,
        RunFolderError,
        TrainingError,
        UserError,
    )
    from afina.finished import Run, compare, evaluate, list_runs, load, merge, open_chat, predict, predict_file
    from afina.pipeline.check_report import CheckReport
    from afina.pipeline.language.speaker import Speaker
    from afina.reproductions import Reproduction, reproduce
    from afina.searches import Search, search


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        meant = "; afina.fit trains" if name == "train" else ""  # what the command line calls it
        raise AttributeError(f"module 'afina' has no attribute {name!r}{meant}")
    return getattr(import_module(f"afina.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
