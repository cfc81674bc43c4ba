"""Translators: maps from a source encoder's space to a target encoder's."""

from vecmigrate.translators.base import Translator
from vecmigrate.translators.file import (
    Direction,
    TranslatorCard,
    load_translator,
    read_card,
    save_translator,
    translator_sha256,
)
from vecmigrate.translators.kernel_ridge import KernelRidge
from vecmigrate.translators.procrustes import FewAnchorsWarning, Procrustes
from vecmigrate.translators.ridge import Ridge

__all__ = [
    "Direction",
    "FewAnchorsWarning",
    "KernelRidge",
    "Procrustes",
    "Ridge",
    "Translator",
    "TranslatorCard",
    "load_translator",
    "read_card",
    "save_translator",
    "translator_sha256",
]
