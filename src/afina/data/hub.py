"""Data sets of the Hub, by id. Only here is `datasets` imported, and only for an id does anything touch the
network.
"""

from __future__ import annotations

import re
from typing import Any

from afina.errors import DataError, MissingExtraError

ACCEPTED = "a file (csv, tsv, jsonl, json, parquet), a folder with train.*, or a data set id such as imdb"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Builders that unpickle what they download.
PICKLE_BUILDERS = ("datasets.packaged_modules.pandas",)


def is_hub_id(source: str) -> bool:
    return len(source) <= 96 and HUB_ID.fullmatch(source) is not None


def load_hub_dataset(name: str) -> Any:
    """A `datasets.DatasetDict`. DataError when it can't be had; MissingExtraError without the package."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hub", f"Reading the data set {name!r} from the Hub") from None
    try:
        builder = datasets.load_dataset_builder(name)
        if type(builder).__module__.startswith(PICKLE_BUILDERS) or _has_script(type(builder)):
            raise DataError(
                f"the data set {name!r} is stored as pickled objects or as a script",
                expected="parquet, csv or JSON",
                remedy="choose another data set, or convert it to parquet on a machine made for that",
            )
        return datasets.load_dataset(name)
    except DataError:
        raise
    except Exception as error:  # the package raises a dozen kinds, for the network, for the id, for the files
        raise DataError(
            f"there is no file or folder {name!r} here, and no data set of that id could be had from the Hub",
            found=f"{type(error).__name__}: {_first_line(error)}",
            expected=ACCEPTED,
            remedy="check the path, and for a data set of the Hub its id and the network",
        ) from None


def _has_script(builder: type) -> bool:
    return builder.__module__.startswith("datasets_modules")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]
