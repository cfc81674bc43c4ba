"""Translators: maps from a source encoder's space to a target encoder's."""

from vecmigrate.translators.base import Translator
from vecmigrate.translators.file import (
    TranslatorCard,
    load_translator,
    read_card,
    save_translator,
    translator_sha256,
)
from vecmigrate.translators.procrustes import FewAnchorsWarning, Procrustes

__all__ = [
    "FewAnchorsWarning",
    "Procrustes",
    "Translator",
    "TranslatorCard",
    "load_translator",
    "read_card",
    "save_translator",
    "translator_sha256",
]
