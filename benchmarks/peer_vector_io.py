"""Has vector-io import a folder of its format into an embedded Qdrant; prints the seconds.

Run by the Python of vector-io's own environment, since its versions of libraries are others:

    python3 -m venv VENV
    VENV/bin/pip install --no-deps vdf-io==0.1.248
    VENV/bin/pip install qdrant-client==1.13.3 python-dotenv halo pandas pyarrow Pillow tqdm \\
        sentry-sdk opentelemetry-api packaging grpcio
    VENV/bin/python benchmarks/peer_vector_io.py FOLDER STORAGE
"""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout, suppress

from vdf_io.import_vdf.qdrant_import import ImportQdrant

folder, storage = sys.argv[1:]
with redirect_stdout(sys.stderr):
    importer = ImportQdrant(
        {
            "dir": folder,
            "cwd": folder,
            "qdrant_local_persist_path": storage,
            "parallel": 1,
            "batch_size": 1000,
        }
    )
    begun = time.perf_counter()
    # Its last message subtracts a count that Qdrant no longer tells, when all points are there.
    with suppress(TypeError):
        importer.upsert_data()
    seconds = time.perf_counter() - begun
assert 0 < importer.total_imported_count == importer.client.count("old").count
# The library draws on standard output too.
print(f"\n{seconds}")
