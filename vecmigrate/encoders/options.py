"""The options of encoders' names, each encoder's a model; what several share."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vecmigrate.connector.uri import check_options
from vecmigrate.encoders.base import EncoderRole, EncoderSpec
from vecmigrate.encoders.metered import Budget
from vecmigrate.errors import UsageError
from vecmigrate.runtime.options import check_parsed

ENCODER_HELP = (
    "sentence-transformers model (hub name or path), openai:MODEL?base_url=URL, or vectors:FILE "
    "with ready-made vectors."
)

Count: TypeAlias = Annotated[int, Field(ge=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]

BudgetText: TypeAlias = Annotated[
    int | str | None, AfterValidator(lambda value: check_parsed(value, Budget.parse))
]
"""A budget as an option's value, ``8500`` or ``200000 tokens``; None for no bound."""


class EncoderOptions(BaseModel):
    """What a name may say after its question mark; a field's name is that of the option."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, spec: EncoderSpec, **defaults: str) -> Self:
        """Read the options of a name.

        Parameters
        ----------
        defaults
            Values of options that the name does not give.

        Raises
        ------
        UsageError
            If an option is not known, or its value not understood.
        """
        check_options(spec.text, spec.options, cls.model_fields)
        try:
            return cls.model_validate_strings({**defaults, **spec.options})
        except ValidationError as error:
            fault = error.errors()[0]
            name = str(fault["loc"][0])
            raise UsageError(
                f"{spec.text!r}: {name} is {spec.options[name]!r}", remedy=f"{fault['msg']}."
            ) from error


class ModelOptions(EncoderOptions):
    """What models that read texts share; prompts are set before each text."""

    prompt: str = ""
    query_prompt: str = ""
    normalize: Literal["true", "false"] = "false"

    def prompt_of(self, role: EncoderRole) -> str:
        """Return the prompt of a role; "" if there is none."""
        return self.query_prompt if role == "query" else self.prompt
