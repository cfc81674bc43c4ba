"""Writes translators/*.safetensors and what they translate; run at commit cce0ad1.

PYTHONPATH=. python tests/data/make_translators.py
"""

from pathlib import Path

import numpy as np

from tests.integration.translators.test_token_features import make_table, make_task
from vecmigrate import KernelRidge, Procrustes, Ridge, save_translator
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.translators.fit import AnchorTexts, fit_translator

OUT = Path(__file__).parent / "translators"
OLD = EncoderIdentity(name="old", dimension=5, normalized=False)
NEW = EncoderIdentity(name="new", revision="abc", dimension=3, prompt="query: ", normalized=False)

rng = np.random.default_rng(7)
X = rng.standard_normal((24, 5)).astype(np.float32)
Y = np.tanh(X @ rng.standard_normal((5, 3))).astype(np.float32)
rows = rng.standard_normal((4, 5)).astype(np.float32)
expected = {"rows": rows}
for translator in (
    Procrustes(),
    Ridge(normalize=True),
    KernelRidge(gamma=0.5, alpha=0.2, landmarks=9, seed=3),
):
    expected[translator.method] = translator.fit(X, Y).transform(rows)
    save_translator(
        translator,
        OUT / f"{translator.method}.safetensors",
        seed=4,
        source_encoder=OLD,
        target_encoder=NEW,
        mixing_scale=0.9,
    )
old, new, texts = make_task(30, 0)
reader, _ = fit_translator(old, new, method="kernel-ridge", texts=AnchorTexts(texts, make_table()))
save_translator(reader, OUT / "texts.safetensors")
expected["texts rows"] = old[:3]
expected["texts"] = reader.transform(reader.inputs(old[:3], texts[:3]))
np.savez(OUT / "expected.npz", **expected)
