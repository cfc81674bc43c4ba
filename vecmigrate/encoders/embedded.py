"""What embedding texts took, as a result tells it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from vecmigrate.encoders.metered import MeteredEncoder, money_text


class Embedded(BaseModel):
    """What embedding took.

    Attributes
    ----------
    texts, tokens
        Bought for this target, by earlier runs too.
    earlier_texts, earlier_tokens
        Of these, what earlier runs had bought.
    estimated
        True if tokens were counted by characters.
    compared_texts, compared_tokens
        Embedded again only to see that the encoder is the same; not among the others.
    money
        What all tokens cost; None without a price.
    reused
        Texts of this run whose vectors had been bought before.
    texts_per_second
        Of this run, while at least one text was being embedded; None if none was.
    """

    model_config = ConfigDict(frozen=True)

    texts: int
    tokens: int
    earlier_texts: int = 0
    earlier_tokens: int = 0
    estimated: bool = False
    compared_texts: int = 0
    compared_tokens: int = 0
    money: float | None
    reused: int
    texts_per_second: float | None

    @classmethod
    def of(cls, encoder: MeteredEncoder) -> Self:
        """Return what is on an encoder's account."""
        meter, beside = encoder.meter, encoder.meter.beside()
        money = None if meter.money is None else meter.money + (beside.money or 0.0)
        return cls(
            texts=meter.texts, tokens=meter.tokens, earlier_texts=meter.earlier_texts,
            earlier_tokens=meter.earlier_tokens, estimated=meter.estimated or beside.estimated,
            compared_texts=beside.texts, compared_tokens=beside.tokens, money=money,
            reused=meter.reused, texts_per_second=encoder.texts_per_second,
        )  # fmt: skip

    def line(self) -> str:
        """Tell it to a person."""
        about = "about " if self.estimated else ""

        def counted(texts: int, tokens: int) -> str:
            return f"{texts:,} texts of {about}{tokens:,} tokens"

        texts, tokens = self.texts - self.earlier_texts, self.tokens - self.earlier_tokens
        told = f"{counted(texts, tokens)} were embedded"
        paid = "" if self.money is None else f", for {about}{money_text(self.money)}"
        if self.texts_per_second is not None:
            told += f" ({self.texts_per_second:,.0f} texts/s)"
        if self.compared_texts:
            again = counted(self.compared_texts, self.compared_tokens)
            told += f"; {again} again, to see that the encoder is the same"
        if self.earlier_texts:
            told += (
                f"; earlier runs had embedded {counted(self.earlier_texts, self.earlier_tokens)}"
            )
            paid += ", all runs together" if paid else ""
        if self.reused:
            told += f"; the vectors of {self.reused:,} were there already"
        return told + paid
