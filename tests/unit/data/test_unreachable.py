"""A folder or a file that this user may not look at is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

import afina


@pytest.mark.parametrize("method", ["stat", "iterdir"])
def test_what_may_not_be_looked_at(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, known = tmp_path / "closed", getattr(Path, method)
    folder.mkdir()

    def refuse(path: Path, *arguments: object, **options: object) -> object:
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return known(path, *arguments, **options)

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(afina.DataError, match="closed can't be read\n  found: Permission denied"):
        afina.check(str(folder))
