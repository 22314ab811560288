"""Numbers as words, by rules for Spanish and for English.

The words of a whole number come from num2words; what counts as one number, and how decimals, ordinals, percentages
and money are read, is settled here:

- *Thousands* are groups of three after the language's mark (`1.234` in Spanish, `1,234` in English; Spanish takes a
  space too). Any other point or comma between digits is the decimal mark: `3.5` and `3,5` are both *tres coma cinco*.
- *Decimals* in Spanish: leading zeros one by one, then up to two digits as one number (*tres coma catorce*), more one
  by one. In English always one by one.
- *Ordinals*: `1.º`, `2ª`, `3er` up to 99; `1st`, `22nd`.
- *Signs*: a minus before a number, `%`, `&`, and `€` and `$` (English: `£` too) on either side of a number, the noun in
  singular for one; Spanish then says *un euro*, *veintiún euros*.
- A whole number with a leading zero, or of more than fifteen digits, is read digit by digit.
- Digits glued to letters stay as they are: `mp3`, `5km`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from omni_sdk.tools.evaluate.extras import require

LONGEST = 15
"""Digits that are still read as one number."""

SPANISH_UNITS = ("", "primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno")
SPANISH_TEENS = ("décimo", "undécimo", "duodécimo", *(f"decimo{unit}" for unit in SPANISH_UNITS[3:]))
SPANISH_TENS = (
    *("vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo"),
    *("sexagésimo", "septuagésimo", "octogésimo", "nonagésimo"),
)


@dataclass(frozen=True, slots=True)
class Language:
    """What differs between languages when numbers are read aloud."""

    thousands: str
    decimal: str
    minus: str
    signs: Mapping[str, str]
    currencies: Mapping[str, tuple[str, str]]
    ordinals: re.Pattern[str]
    read_ordinal: Callable[[re.Match[str]], str]
    read_whole: Callable[[int], str]
    read_decimals: Callable[[str], str]
    shorten: Callable[[str], str]

    def number(self) -> re.Pattern[str]:
        """The pattern of one number with its signs."""
        money = "".join(map(re.escape, self.currencies))
        return re.compile(
            rf"(?P<minus>(?<![\w.,])[-−])?(?:(?P<before>[{money}])\s?)?"
            rf"(?<!\w)(?P<whole>\d{{1,3}}(?:{self.thousands}\d{{3}})+(?!\w)|\d+(?!\w))"
            rf"(?:[.,](?P<decimals>\d+)(?!\w))?(?:\s?(?P<after>[{money}]))?"
        )


def spell_numbers(text: str, language: Language) -> str:
    """Write the numbers and signs of a sentence as words.

    Parameters
    ----------
    text : str
        A sentence as written, in Unicode NFC.
    language : Language
        `SPANISH` or `ENGLISH`.

    Returns
    -------
    str
        The sentence with words in place of digits; punctuation between words is left as it was.
    """
    text = language.ordinals.sub(lambda match: f" {language.read_ordinal(match)} ", text)
    text = language.number().sub(lambda match: f" {_read(match, language)} ", text)
    for sign, word in language.signs.items():
        text = text.replace(sign, f" {word} ")
    return text


def _read(match: re.Match[str], language: Language) -> str:
    digits, decimals = re.sub(r"\D", "", match["whole"]), match["decimals"]
    plain = len(digits) > LONGEST or (len(digits) > 1 and digits[0] == "0")
    words = _each(digits, language) if plain else language.read_whole(int(digits))
    if decimals:
        words = f"{words} {language.decimal} {language.read_decimals(decimals)}"
    currency = match["before"] or match["after"]
    if currency:
        one, many = language.currencies[currency]
        words = f"{words} {many}" if decimals else f"{language.shorten(words)} {one if int(digits) == 1 else many}"
    return f"{language.minus} {words}" if match["minus"] else words


def _each(digits: str, language: Language) -> str:
    return " ".join(language.read_whole(int(digit)) for digit in digits)


def _spanish_whole(value: int) -> str:
    words = str(require("num2words").num2words(value, lang="es"))
    return re.sub(r"\S*uno(?= )", lambda match: _spanish_short(match[0]), words)


def _spanish_short(words: str) -> str:
    """The form before a noun: `veintiuno` -> `veintiún`, `treinta y uno` -> `treinta y un`."""
    return re.sub(r"uno$", "ún" if words.endswith("veintiuno") else "un", words)


def _spanish_decimals(digits: str) -> str:
    rest = digits.lstrip("0")
    zeros = [_spanish_whole(0)] * (len(digits) - len(rest))
    return " ".join([*zeros, *([_spanish_whole(int(rest))] if 0 < len(rest) <= 2 else map(_spanish_digit, rest))])


def _spanish_digit(digit: str) -> str:
    return _spanish_whole(int(digit))


def _spanish_ordinal(match: re.Match[str]) -> str:
    value, mark = int(match["value"]), match["mark"]
    tens, units = divmod(value, 10)
    if value == 0:
        return _spanish_whole(0)
    if tens == 1:
        words = SPANISH_TEENS[units]
    else:
        words = " ".join(part for part in (SPANISH_TENS[tens - 2] if tens else "", SPANISH_UNITS[units]) if part)
    if mark == "ª":
        return re.sub(r"o\b", "a", words)
    return words[:-1] if mark == "er" and units in (1, 3) else words


def _english_whole(value: int) -> str:
    return str(require("num2words").num2words(value, lang="en"))


def _english_ordinal(match: re.Match[str]) -> str:
    return str(require("num2words").num2words(int(match["value"]), lang="en", to="ordinal"))


SPANISH = Language(
    thousands="[.\u0020\u00a0\u202f]",
    decimal="coma",
    minus="menos",
    signs={"%": "por ciento", "&": "y"},
    currencies={"€": ("euro", "euros"), "$": ("dólar", "dólares")},
    ordinals=re.compile(r"(?<![\w.,])(?P<value>\d{1,2})(?:\.?(?P<mark>[ºª°]|er\b))"),
    read_ordinal=_spanish_ordinal,
    read_whole=_spanish_whole,
    read_decimals=_spanish_decimals,
    shorten=_spanish_short,
)
ENGLISH = Language(
    thousands=",",
    decimal="point",
    minus="minus",
    signs={"%": "percent", "&": "and"},
    currencies={"€": ("euro", "euros"), "$": ("dollar", "dollars"), "£": ("pound", "pounds")},
    ordinals=re.compile(r"(?<![\w.,])(?P<value>\d{1,15})(?:st|nd|rd|th)\b", re.IGNORECASE),
    read_ordinal=_english_ordinal,
    read_whole=_english_whole,
    read_decimals=lambda digits: " ".join(_english_whole(int(digit)) for digit in digits),
    shorten=str,
)
