"""Data sets of the Hub, by id. Only here is `datasets` imported, and only for an id does anything touch the
network.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from afina.errors import DataError, MissingExtraError, describe_cause

ACCEPTED = "a file (csv, tsv, jsonl, json, parquet, txt, conll), a folder with train.*, or a data set id such as imdb"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Builders that unpickle what they download.
PICKLE_BUILDERS = ("datasets.packaged_modules.pandas",)


def is_hub_id(source: str) -> bool:
    return len(source) <= 96 and HUB_ID.fullmatch(source) is not None


def load_hub_dataset(name: str) -> tuple[Any, str]:
    """A `datasets.DatasetDict` and its commit. DataError if it can't be had; MissingExtraError without the package."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hub", f"Reading the data set {name!r} from the Hub") from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        builder = datasets.load_dataset_builder(name)
        if type(builder).__module__.startswith(PICKLE_BUILDERS) or _has_script(type(builder)):
            raise DataError(
                f"the data set {name!r} is stored as pickled objects or as a script",
                expected="parquet, csv or JSON",
                remedy="choose another data set, or convert it to parquet on a machine made for that",
            )
        # The builder's hash is the commit it looked at; what is loaded must not be a newer one.
        commit = str(builder.hash)
        return datasets.load_dataset(name, revision=commit), commit
    except DataError:
        raise
    except Exception as error:  # the package raises a dozen kinds, for the network, for the id, for the files
        raise DataError(
            f"there is no file or folder {name!r} here, and no data set of that id could be had from the Hub",
            found=describe_cause(error, "datasets"),
            expected=ACCEPTED,
            remedy="check the path, and for a data set of the Hub its id and the network",
        ) from None


def load_saved_dataset(folder: Path) -> Any:
    """What `save_to_disk` of the package `datasets` has written. DataError if it can't be read; MissingExtraError
    without the package."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hub", f"Reading {folder}, which save_to_disk wrote,") from None
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # as above
        raise DataError(
            f"{folder} can't be read as what save_to_disk writes", found=describe_cause(error, "datasets"),
            remedy="save it again, or as parquet: dataset.to_parquet('train.parquet')",
        ) from None  # fmt: skip


def _has_script(builder: type) -> bool:
    return builder.__module__.startswith("datasets_modules")
