"""What two collections say differently of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, JsonValue

from vecmigrate.points.canonical import canonical_setting
from vecmigrate.points.collection import ORIGIN_FIELD, CollectionDescription

# Not settings: how it is reached, what is told of it in words, and what is compared by itself.
_LEFT_OUT = {"uri", "notes", "settings", "provenance", "payload_fields"}

_EXPECTED = {
    "dimension": "the new encoder's",
    "encoder": "the new encoder",
    "made by vecmigrate": "the mark of a migration",
    "payload field": "the mark of kept anchors",
}


class Difference(BaseModel):
    """One setting that two collections have differently.

    Attributes
    ----------
    setting
        Its name; parts of a nested one are joined by dots.
    source, target
        Its values; None where there is none.
    expected
        Why a translation makes it differ; None where it does not.
    """

    setting: str
    source: JsonValue
    target: JsonValue
    expected: str | None = None


class Comparison(BaseModel):
    """The differences of two descriptions.

    Attributes
    ----------
    alike
        How many settings are the same.
    settings_compared
        False where the stores differ, whose settings have nothing in common.
    """

    source: str
    target: str
    differences: list[Difference]
    alike: int
    settings_compared: bool

    def unexpected(self) -> list[Difference]:
        """Return those that no translation makes."""
        return [difference for difference in self.differences if difference.expected is None]


def compare_descriptions(
    source: CollectionDescription, target: CollectionDescription
) -> Comparison:
    """Compare two descriptions setting by setting; of one store, all of its own settings too."""
    one_store = source.store == target.store
    ours, theirs = _flat(source, settings=one_store), _flat(target, settings=one_store)
    names = list(dict.fromkeys([*ours, *theirs]))
    differing = [
        name
        for name in names
        if canonical_setting(ours.get(name)) != canonical_setting(theirs.get(name))
    ]
    return Comparison(
        source=source.uri,
        target=target.uri,
        differences=[
            Difference(
                setting=name,
                source=ours.get(name),
                target=theirs.get(name),
                expected=_expected(name),
            )
            for name in differing
        ],
        alike=len(names) - len(differing),
        settings_compared=one_store,
    )


def _expected(name: str) -> str | None:
    if name.startswith("payload field "):
        return _EXPECTED["payload field"] if name.endswith(f" {ORIGIN_FIELD}") else None
    return _EXPECTED.get(name)


def _flat(description: CollectionDescription, *, settings: bool) -> dict[str, JsonValue]:
    flat = dict(_leaves(description.model_dump(mode="json", exclude=_LEFT_OUT)))
    made = description.provenance
    flat["encoder"] = str(made.encoder) if made and made.encoder else None
    flat["made by vecmigrate"] = f"{made.vecmigrate_version} from {made.source}" if made else None
    flat |= {f"payload field {name}": True for name in description.payload_fields}
    if settings:
        flat |= {f"settings.{name}": value for name, value in _leaves(description.settings)}
    return flat


def _leaves(values: Mapping[str, JsonValue], before: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name, value
