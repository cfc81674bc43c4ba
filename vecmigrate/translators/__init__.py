"""Translators: maps from a source encoder's space to a target encoder's."""

from vecmigrate.translators.base import Translator as Translator
from vecmigrate.translators.file import Direction as Direction
from vecmigrate.translators.file import TranslatorCard as TranslatorCard
from vecmigrate.translators.file import load_translator as load_translator
from vecmigrate.translators.file import read_card as read_card
from vecmigrate.translators.file import save_translator as save_translator
from vecmigrate.translators.file import translator_sha256 as translator_sha256
from vecmigrate.translators.kernel_ridge import KernelRidge as KernelRidge
from vecmigrate.translators.procrustes import FewAnchorsWarning as FewAnchorsWarning
from vecmigrate.translators.procrustes import Procrustes as Procrustes
from vecmigrate.translators.ridge import Ridge as Ridge
