"""Whether the encoder of a migration that is continued is the one that it was begun with."""

from __future__ import annotations

import numpy as np

from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.encoders.constancy import CANDIDATES, COMPARED, check_is_same
from vecmigrate.encoders.metered import text_keys
from vecmigrate.migration.bought import BoughtVectors, Purchases
from vecmigrate.points.batch import PointId, Vectors, id_array


def check_as_bought(purchases: Purchases, source: Source) -> None:
    """Embed some texts again whose vectors an earlier run has bought.

    Raises
    ------
    MismatchError
        If the encoder gives other vectors now.
    """
    if not isinstance(purchases.store, BoughtVectors):
        return
    bought = {key: (point, vector) for key, point, vector in purchases.store.some(CANDIDATES)}
    if not bought:
        return
    field = source.describe().text_field
    found: list[tuple[PointId, str | None, Vectors]] = []
    for batch in fetch_there(source, id_array({point for point, _ in bought.values()})):
        texts = batch.texts(field) or [None] * len(batch)
        keys = text_keys(batch.ids, texts)
        for key, point, text in zip(keys, batch.ids.tolist(), texts, strict=True):
            if key in bought:
                found.append((point, text, bought[key][1]))
    some = found[:COMPARED]
    if some:
        ids = id_array([point for point, _, _ in some])
        vectors = np.stack([vector for _, _, vector in some])
        check_is_same(purchases.encoder, ids, [text for _, text, _ in some], vectors)
