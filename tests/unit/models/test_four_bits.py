"""bitsandbytes is imported without its detour to the package that fetches compiled programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Stands for the real one, which looks for `kernels` on some processors only.
CURIOUS = """
try:
    import kernels
except ImportError:
    kernels = None
"""

PROGRAM = """
from afina.models.four_bits import import_bitsandbytes
print("fetched" if import_bitsandbytes().kernels else "not fetched")
import kernels
print("kernels can be imported by others")
"""


def test_import_fetches_nothing(tmp_path: Path) -> None:
    for name, source in (("bitsandbytes", CURIOUS), ("kernels", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["not fetched", "kernels can be imported by others"]
