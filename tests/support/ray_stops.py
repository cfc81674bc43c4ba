"""Stops runs on Ray at random instants, again and again, in a process of its own.

    cd tests && python -m support.ray_stops FOLDER STOPS

Each ends a few tasks at about the instant at which it stops them. Run it by hand for longer.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from support.crash import make_source, make_translator
from vecmigrate import load_translator, open_source
from vecmigrate.io.atomic import TEMPORARY
from vecmigrate.migration.engines import Conversion
from vecmigrate.migration.engines.permit import PREFIX
from vecmigrate.migration.engines.ray import RayEngine, import_ray
from vecmigrate.migration.translate import Translation
from vecmigrate.points.screening import OnBadVector, Skipped

POINTS, BATCH, WORKERS = 600, 5, 4


class StoppedError(Exception):
    """What a run is left by."""


def main(folder: Path, stops: int) -> None:
    ray = import_ray()
    ray.init(
        "local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=40
    )
    make_translator(folder)
    parts, translator = folder / "parts", load_translator(folder / "translator")
    engine = RayEngine(workers=WORKERS, partition_batches=1)
    chance = random.Random(3)
    with open_source(make_source("faiss", folder, POINTS)) as source:
        work = Conversion(
            source=source,
            converter=Translation(translator),
            on_bad_vector=OnBadVector.FAIL,
            batch_size=BATCH,
            cursor=None,
            skipped=Skipped(),
            folder=parts,
            restart=True,
        )
        for _ in range(stops):
            stop(engine, work, chance)
            busy = [path for kind in (TEMPORARY, PREFIX) for path in parts.glob(f"{kind}*")]
            assert not busy, busy
    ray.shutdown()


def stop(engine: RayEngine, work: Translation, chance: random.Random) -> None:
    """Leave a run after a few batches and a moment."""
    try:
        with engine.translated(work) as batches:
            for _ in range(chance.randrange(4)):
                next(batches)
            time.sleep(chance.uniform(0, 0.01))
            raise StoppedError
    except StoppedError:
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
