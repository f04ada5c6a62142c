"""A data set of the Hub by its id: a small server stands for the Hub, and `datasets` loads from it."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from afina.testing.data import make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

NAME = "someone/intents"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = ("--technique", "feature-extraction", "--set", "folds=2", "--set", "bootstrap_resamples=0", "--quiet")


class FakeHub(BaseHTTPRequestHandler):
    """The repository `NAME` with the files of its server, by the routes that `datasets` asks for."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)  # type: ignore[attr-defined]
        files: dict[str, bytes] = self.server.files  # type: ignore[attr-defined]
        kind, _, rest = path.partition(f"/datasets/{NAME}")
        if kind == "" and rest.startswith("/resolve/"):
            self.send_file(files.get(rest.split("/", 3)[3]))
        elif kind == "/api" and rest.startswith("/tree/"):
            self.send_object(list_entries(files, PurePosixPath(*PurePosixPath(rest).parts[3:])))
        elif kind == "/api" and (not rest or rest.startswith("/revision/")):
            self.send_object({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})
        else:
            self.send_file(None)

    do_HEAD = do_GET

    def send_file(self, content: bytes | None) -> None:
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    def send_object(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def list_entries(files: Mapping[str, bytes], folder: PurePosixPath) -> list[dict[str, Any]]:
    """What lies directly in a folder of the repository, as the Hub lists it."""
    inside = [PurePosixPath(name) for name in files if folder in PurePosixPath(name).parents]
    children = sorted({PurePosixPath(*path.parts[: len(folder.parts) + 1]) for path in inside})
    return [
        {"type": "file", "path": str(path), "size": len(files[str(path)]), "oid": "0"}
        if str(path) in files
        else {"type": "directory", "path": str(path), "oid": "0"}
        for path in children
    ]


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.asked, server.files = [], {}  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def publish(hub: ThreadingHTTPServer, parts: Mapping[str, list[dict[str, Any]]]) -> None:
    """Put a parquet file for each part into the repository."""
    for part, rows in parts.items():
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), content)
        hub.files[f"data/{part}-00000-of-00001.parquet"] = content.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", ["", "_sft"])
def test_a_data_set_is_loaded_at_a_commit_that_is_recorded(
    suffix: str, hub: ThreadingHTTPServer, tiny_models: Callable[[str], Path], command_line: CommandLine, tmp_path: Path
) -> None:
    rows = make_rows("multiclass", 60)
    publish(
        hub, {f"train{suffix}": rows[:48], f"test{suffix}": rows[48:], "unsupervised": [{"text": "x", "label": ""}]}
    )
    home, address = str(tmp_path / "hf"), f"http://127.0.0.1:{hub.server_address[1]}"
    online = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": home}
    done = command_line.run_cold(
        "train", NAME, "--model", tiny_models("bert"), "--output", "run", "--json", *SETTINGS, cwd=tmp_path, **online
    )
    found = done.read_object()
    assert done.err == ""
    assert found["rows"]["parts"] == {"train": 43, "validation": 5, "test": 12}
    data = json.loads((tmp_path / "run" / "data.json").read_text(encoding="utf-8"))
    assert (data["source"], data["revision"]) == (NAME, COMMIT)
    assert f"the data set '{NAME}': commit {COMMIT}; parts left out: unsupervised" in data["notes"]
    files = [path for path in hub.asked if path.endswith(".parquet")]  # type: ignore[attr-defined]
    assert files
    assert all(f"/resolve/{COMMIT}/" in path for path in files), "nothing is loaded from a branch, which may move"
    # What was loaded is known again without the network.
    again = command_line.run_cold("evaluate", "run", NAME, "--json", cwd=tmp_path, **online | {"HF_HUB_OFFLINE": "1"})
    assert again.read_object()["metrics"]["test/accuracy"] == found["metrics"]["test/accuracy"]


def test_a_data_set_without_a_training_part_is_refused(
    hub: ThreadingHTTPServer, tiny_models: Callable[[str], Path], command_line: CommandLine, tmp_path: Path
) -> None:
    publish(hub, {"test": make_rows("multiclass", 12), "train_gen": make_rows("multiclass", 12)})
    done = command_line.run_cold(
        "train", NAME, "--model", tiny_models("bert"), *SETTINGS, cwd=tmp_path, HF_HOME=str(tmp_path / "hf"),
        HF_ENDPOINT=f"http://127.0.0.1:{hub.server_address[1]}", HF_HUB_OFFLINE="0",
    )  # fmt: skip
    assert done.code == 2
    assert f"the data set '{NAME}' has no training part\n  found: parts: 'test', 'train_gen'\n" in done.err
