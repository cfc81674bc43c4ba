"""What every translator is, an estimator with ``fit`` and ``transform``; and their register."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecmigrate.connector.registry import load_plugin, plugin_names
from vecmigrate.errors import InputError, MismatchError, UsageError, reason_of
from vecmigrate.points.batch import Vectors, normalize_rows
from vecmigrate.translators.folds import Folds
from vecmigrate.translators.moments import FITTING_ROWS
from vecmigrate.translators.token_features import TokenFeatures

TRANSLATORS = "vecmigrate.translators"
"""The entry-point group of third parties' translators."""


class TranslatorPluginWarning(UserWarning):
    """A third party's translator that is installed and cannot be loaded."""


TOLERANCE = 1e-5
"""A matrix product's rounding depends on how many rows it is given: some 1e-6, no more."""


class Translator(ABC):
    """A map from a source encoder's space to a target encoder's.

    A subclass that names a ``method`` is registered under that name: ``fit --method`` offers it,
    ``auto`` compares its :meth:`candidates`, and its files are read. A third party's class is found
    by the entry-point group ``vecmigrate.translators``.

    Attributes
    ----------
    method : str
        The name in files and on the command line.
    rank : int
        How simple the method is: of methods that are equally good, ``auto`` takes the lowest.
    arrays : mapping of str to tuple of str
        The fitted arrays that a file holds, without the ``_`` that their attributes end in, and
        the names of their dimensions. ``source`` and ``target`` are those of the two spaces;
        dimensions of one name are of one size.
    kept, fitted : tuple of str, mapping of str to type
        What a file holds beside arrays: parameters of the class, and fitted values, without the
        ``_`` that their attributes end in.
    tells_variance : bool
        True for methods that :meth:`transform_with_variance` works for.
    reads_texts : bool
        True for methods that can use features of texts, see :meth:`for_texts`.
    text_dim : int
        Columns of X that are features of texts, as a parameter; 0 for methods that read none.
    source_dim_, target_dim_ : int
        Dimensions of the two spaces.
    text_dim_ : int
        Features of a point's text that :meth:`transform` takes after its vector; mostly 0.
    text_features_ : TokenFeatures or None
        What makes them.
    n_anchors_ : int
        Pairs that the map was fitted on.
    normalize_output_ : bool
        True if translated vectors are scaled to unit length.
    held_out_ : (n_anchors, target_dim) float32 or None
        Each anchor as a map without it translates it, if the method gives that for free; not
        kept in a file.
    """

    method: ClassVar[str]
    rank: ClassVar[int] = 100
    arrays: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    kept: ClassVar[tuple[str, ...]] = ()
    fitted: ClassVar[Mapping[str, type]] = {"n_anchors": int, "normalize_output": bool}
    tells_variance: ClassVar[bool] = False
    reads_texts: ClassVar[bool] = False

    text_dim: int = 0
    source_dim_: int
    target_dim_: int
    n_anchors_: int
    normalize_output_: bool
    held_out_: Vectors | None = None
    text_dim_: int = 0
    text_features_: TokenFeatures | None = None

    def __init_subclass__(cls) -> None:
        if "method" not in vars(cls):
            return
        other = REGISTER.setdefault(cls.method, cls)
        if other.__module__ != cls.__module__:
            raise TypeError(f"{other.__module__} registers the method {cls.method!r} already")
        REGISTER[cls.method] = cls

    @classmethod
    def candidates(cls, text_dim: int) -> dict[str, Self]:
        """Return what ``auto`` compares of this method, each under a name for a person.

        Each is compared in a thread of its own.

        Parameters
        ----------
        text_dim
            Features of texts that are at hand, 0 if none; of use if ``reads_texts``.
        """
        return {cls.method: cls()}

    @classmethod
    def for_texts(cls, text_dim: int) -> Self:
        """Return one with default parameters that uses ``text_dim`` features of texts."""
        if not text_dim:
            return cls()
        readers = [name for name, kind in registered().items() if kind.reads_texts]
        raise UsageError(
            f"the method {cls.method} reads no texts",
            remedy=f"Leave --texts out, or take --method auto or {' or '.join(readers)}.",
        )

    def arranged(self, seed: int, landmarks: int | None) -> Self:
        """Return this, not fitted, with a seed of its random choices and a bound on its cost.

        Parameters
        ----------
        landmarks
            See :class:`KernelRidge`. Methods without random choices or landmarks ignore both.
        """
        return self

    @abstractmethod
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Fit the map on anchors.

        Parameters
        ----------
        X, Y
            ``(n, source_dim)`` and ``(n, target_dim)``, any float dtype, row i of both being the
            same text under the two encoders. May be memory-mapped.

        Raises
        ------
        InputError
            If the shapes do not fit, a value is not finite or there are too few anchors.
        """

    def cross_predict(self, folds: Folds) -> Vectors:
        """Return each anchor's translation by a map that was fitted without its fold.

        Returns
        -------
        ``(n, target_dim)`` float32, in the order of ``folds``.
        """
        X, Y = folds.inputs(self.text_dim), folds.targets
        predicted = np.empty(Y.shape, np.float32)
        for rows, others in zip(folds.rows, folds.others, strict=True):
            fitted = copy.copy(self).fit(X[others], Y[others])
            predicted[rows] = fitted.transform(X[rows])
        return predicted

    @property
    def tolerance(self) -> float:
        """How far two translations of one vector may lie apart, relative to their length."""
        return TOLERANCE

    def inputs(self, vectors: Vectors, texts: Sequence[str | None] | None) -> Vectors:
        """Return what :meth:`fit` and :meth:`transform` take for points.

        Parameters
        ----------
        vectors
            ``(n, source_dim)`` of the old encoder.
        texts
            Of the same points; read only if ``text_features_`` is there.

        Raises
        ------
        MismatchError
            If texts are needed and None is given.
        """
        if self.text_features_ is None:
            return vectors
        if texts is None:
            raise MismatchError(
                "this translator reads the points' texts, and there are none",
                remedy="Use a source with texts, or fit a translator without --texts.",
            )
        return np.concatenate([vectors, self.text_features_.transform(texts)], axis=1)

    @abstractmethod
    def transform(self, X: Vectors, *, out: Vectors | None = None) -> Vectors:
        """Return the ``(n, target_dim)`` float32 C-contiguous translations of ``(n, source_dim)``.

        If ``text_dim_`` is not 0, X is what :meth:`inputs` returns.

        Parameters
        ----------
        out
            Where to write them, of the result's shape and dtype.

        Raises
        ------
        MismatchError
            If the dimension of ``X`` is not the map's.
        """

    def transform_with_variance(self, X: Vectors) -> tuple[Vectors, NDArray[np.float32]]:
        """Return translations and their ``(n,)`` float32 predictive variances.

        Raises
        ------
        MismatchError
            If the method tells none, as all but kernel ridge.
        """
        raise MismatchError(
            f"a translator of method {self.method} tells no variance",
            remedy="Fit one with --method kernel-ridge.",
        )

    @property
    def file_format(self) -> int:
        """The oldest version of the translator format that can tell this; for most, the first."""
        return 1

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what :meth:`from_state` needs: tensors, and JSON-like parameters."""
        return (
            {name: getattr(self, f"{name}_") for name in self.arrays},
            {name: getattr(self, name) for name in self.kept}
            | {name: _plain(getattr(self, f"{name}_")) for name in self.fitted},
        )

    @classmethod
    def from_state(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Self:
        """Rebuild a fitted translator; ValueError or KeyError if the state is not one."""
        translator = cls(**{name: parameters[name] for name in cls.kept})
        sizes: dict[str, int] = {}
        for name, dimensions in cls.arrays.items():
            shape = tensors[name].shape
            if len(shape) != len(dimensions) or any(
                sizes.setdefault(dimension, size) != size
                for dimension, size in zip(dimensions, shape, strict=True)
            ):
                raise ValueError(f"{name} of shape {shape} does not fit the other arrays")
            setattr(translator, f"{name}_", tensors[name])
        for name, kind in cls.fitted.items():
            setattr(translator, f"{name}_", kind(parameters[name]))
        translator.source_dim_, translator.target_dim_ = sizes["source"], sizes["target"]
        return translator


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


REGISTER: dict[str, type[Translator]] = {}


def registered() -> dict[str, type[Translator]]:
    """Return the methods by name, the simplest first, those of installed plug-ins too."""
    _load_plugins()
    return dict(sorted(REGISTER.items(), key=lambda each: each[1].rank))


@cache
def _load_plugins() -> None:
    for name in plugin_names(TRANSLATORS):
        try:
            load_plugin(TRANSLATORS, name)
        except Exception as error:  # a stranger's code, without which all else works
            warnings.warn(
                f"the translator plug-in {name} cannot be loaded: {reason_of(error)}",
                TranslatorPluginWarning,
                stacklevel=2,
            )


def check_anchors(
    X: ArrayLike, Y: ArrayLike, *, at_least: int = 2
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Validate the arguments of ``fit`` and return them as arrays, not copied if they are.

    Raises
    ------
    InputError
    """
    pair = []
    for name, given in (("source", X), ("target", Y)):
        array = np.asanyarray(given)
        if array.ndim != 2 or array.shape[1] == 0 or not np.issubdtype(array.dtype, np.floating):
            raise InputError(
                f"{name} vectors must be an (n, d) array of floats, not {array.dtype} "
                f"of shape {array.shape}",
                remedy="Give one row a vector.",
            )
        for start in range(0, len(array), FITTING_ROWS):
            finite = np.isfinite(array[start : start + FITTING_ROWS]).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise InputError(
                    f"row {row} of the {name} vectors is not finite", remedy="Leave that row out."
                )
        pair.append(array)
    if len(pair[0]) != len(pair[1]):
        raise InputError(
            f"{len(pair[0])} source vectors and {len(pair[1])} target vectors do not pair",
            remedy="Row i of both must be the same text.",
        )
    if len(pair[0]) < at_least:
        raise InputError(f"{len(pair[0])} anchors are too few", remedy=f"Give at least {at_least}.")
    return pair[0], pair[1]


def check_dimension(X: Vectors, source_dim: int) -> None:
    """Raise :class:`MismatchError` unless ``X`` is ``(n, source_dim)``."""
    if X.ndim != 2 or X.shape[1] != source_dim:
        raise MismatchError(
            f"vectors of shape {X.shape} for a translator of {source_dim} dimensions",
            remedy="Use the translator that was fitted for this collection's encoder.",
        )


class AffineTranslator(Translator):
    """``transform(X) = X @ weights_ + offset_``, one matrix product a batch.

    Attributes
    ----------
    weights_ : (source_dim, target_dim) float32
    offset_ : (target_dim,) float32
    """

    arrays: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "weights": ("source", "target"),
        "offset": ("target",),
    }

    weights_: NDArray[np.float32]
    offset_: NDArray[np.float32]

    def _set_map(
        self, weights: NDArray[np.floating], offset: NDArray[np.floating], n_anchors: int
    ) -> None:
        self.weights_ = np.ascontiguousarray(weights, dtype=np.float32)
        self.offset_ = np.ascontiguousarray(offset, dtype=np.float32)
        self.source_dim_, self.target_dim_ = self.weights_.shape
        self.n_anchors_ = n_anchors

    def transform(self, X: Vectors, *, out: Vectors | None = None) -> Vectors:
        """See :meth:`Translator.transform`."""
        check_dimension(X, self.source_dim_)
        translated: Vectors = np.matmul(X, self.weights_, out=out)
        translated += self.offset_
        if self.normalize_output_:
            normalize_rows(translated)
        return translated
