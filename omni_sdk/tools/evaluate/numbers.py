"""Numbers as words, by rules for Spanish and for English.

The words of a whole number come from num2words; what counts as one number, and how decimals, ordinals, percentages
and money are read, is settled here:

- *Thousands* are groups of three after the language's mark (`1.234` in Spanish, `1,234` in English), or after a thin or
  (Spanish) a no-break space. A plain space is ambiguous: in Spanish it groups where one or two digits stand first
  (`10 000`), where zeros follow (`100 000`) or money is meant (`250 300 €`), unless more digits stand beside. So a
  telephone number, `600 123 456` or `91 123 45 67`, is read group by group.
- Any other point or comma between digits is the decimal mark: `3.5` and `3,5` are both *tres coma cinco*.
- *Decimals* in Spanish: leading zeros one by one, then up to two digits as one number (*tres coma catorce*), more one
  by one. In English always one by one.
- *Ordinals*: `1.º`, `2ª`, `3er` up to 99; `1st`, `22nd`, `1,000th`.
- *Signs*: a minus before a number, `%`, `&`, and `€` and `$` (English: `£` too) on either side of a number, the noun in
  singular for one; Spanish then says *un euro*, *veintiún euros*, *un millón de euros*. `M` between a number and its
  currency is *millones*. `°` is a degree, *treinta grados*, also where an ordinal was meant; `°C`, `ºC` and `°F` are
  *grados celsius* and *fahrenheit*.
- A whole number with a leading zero, or of more than fifteen digits, is read digit by digit.
- Digits glued to letters stay as they are: `mp3`, `5km`. A number with a mark is read, and the letters are a word of
  their own: `3,5km` is *tres coma cinco km*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from omni_sdk.tools.evaluate.extras import require

MILLION = "M"
SCALES = {"C": "celsius", "F": "fahrenheit"}
LONGEST = 15
"""Digits that are still read as one number."""

SPANISH_UNITS = ("", "primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno")
SPANISH_TEENS = (
    *("décimo", "undécimo", "duodécimo", "decimotercero", "decimocuarto"),
    *("decimoquinto", "decimosexto", "decimoséptimo", "decimoctavo", "decimonoveno"),
)
SPANISH_TENS = (
    *("vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo"),
    *("sexagésimo", "septuagésimo", "octogésimo", "nonagésimo"),
)


@dataclass(frozen=True, slots=True)
class Language:
    """What differs between languages when numbers are read aloud."""

    thousands: str
    plain_spaces: bool
    decimal: str
    minus: str
    signs: Mapping[str, str]
    currencies: Mapping[str, tuple[str, str]]
    degrees: tuple[str, str]
    million: tuple[str, str]
    after_millions: str
    ordinals: re.Pattern[str]
    read_ordinal: Callable[[re.Match[str]], str]
    read_whole: Callable[[int], str]
    read_decimals: Callable[[str], str]
    shorten: Callable[[str], str]

    def number(self) -> re.Pattern[str]:
        """The pattern of one number with its signs."""
        money = f"[{''.join(map(re.escape, self.currencies))}]"
        few, zeros, paid = r"\d{1,2}(?:\ \d{3})+", r"\d{3}(?:\ 000)+", r"\d{3}(?:\ \d{3})+"
        spaced = rf"(?<!\d\ )(?:{few}|{zeros}|(?(before){paid}|{paid}(?=(?:[.,]\d+)?\s?{money})))(?!\ \d)(?!\w)"
        return re.compile(
            rf"""
            (?P<minus>(?<![\w.,])[-−])?
            (?:(?P<before>{money})\s?)?
            (?<!\w)
            (?:
                (?P<grouped>\d{{1,3}}(?P<mark>{self.thousands})\d{{3}}(?:(?P=mark)\d{{3}})*)(?!\d)
                {f"|(?P<spaced>{spaced})" if self.plain_spaces else ""}
                |(?P<whole>\d+)
            )
            (?:[.,](?P<decimals>\d+)(?!\d))?
            (?(grouped)|(?(decimals)|(?:(?!\w)|(?={MILLION}\b)|(?=º\s?[CF]\b))))
            (?:\s?(?:°(?:\s?(?P<scale>[CF])\b)?|º\s?(?P<other_scale>[CF])\b)(?P<degree>)
              |(?:\s?(?P<million>{MILLION})(?=\s?{money})|(?(before)(?P<glued>{MILLION})\b|(?!)))?
               (?:\s?(?P<after>{money}))?)
            """,
            re.VERBOSE,
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
    found = match.groupdict()
    digits = re.sub(r"\D", "", found["grouped"] or found.get("spaced") or found["whole"])
    decimals = found["decimals"]
    plain = len(digits) > LONGEST or (len(digits) > 1 and digits[0] == "0")
    words = _each(digits, language) if plain else language.read_whole(int(digits))
    if decimals:
        words = f"{words} {language.decimal} {language.read_decimals(decimals)}"
    currency = found["before"] or found["after"]
    millions = bool(currency) and (found["million"] or found["glued"]) is not None
    if found["degree"] is not None:
        words = _with_noun(words, digits, decimals, language.degrees, language)
        words = f"{words} {SCALES.get(found['scale'] or found['other_scale'], '')}".strip()
    elif millions:
        many = language.currencies[currency][1]
        words = f"{_with_noun(words, digits, decimals, language.million, language)} {many}"
    elif currency:
        words = _with_noun(words, digits, decimals, language.currencies[currency], language)
    return f"{language.minus} {words}" if found["minus"] else words


def _with_noun(words: str, digits: str, decimals: str | None, noun: tuple[str, str], language: Language) -> str:
    one, many = noun
    if decimals:
        return f"{words} {many}"
    value = int(digits)
    link = language.after_millions if value and value % 10**6 == 0 else ""
    return f"{language.shorten(words)} {link}{one if value == 1 else many}"


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
    # Primer, tercer, vigésimo primer, decimotercer; but undécimo, which does not end in primero.
    return words[:-1] if mark == "er" and words.endswith(("primero", "tercero")) else words


def _english_whole(value: int) -> str:
    return str(require("num2words").num2words(value, lang="en"))


def _english_ordinal(match: re.Match[str]) -> str:
    return str(require("num2words").num2words(int(match["value"].replace(",", "")), lang="en", to="ordinal"))


SPANISH = Language(
    thousands="[.\u00a0\u2009\u202f]",
    plain_spaces=True,
    decimal="coma",
    minus="menos",
    signs={"%": "por ciento", "&": "y"},
    currencies={"€": ("euro", "euros"), "$": ("dólar", "dólares")},
    degrees=("grado", "grados"),
    million=("millón de", "millones de"),
    after_millions="de ",
    ordinals=re.compile(r"(?<![\w.,])(?P<value>\d{1,2})(?P<dot>\.)?(?P<mark>[ºª]|er\b)(?(dot)|(?!\s?[CF]\b))"),
    read_ordinal=_spanish_ordinal,
    read_whole=_spanish_whole,
    read_decimals=_spanish_decimals,
    shorten=_spanish_short,
)
ENGLISH = Language(
    thousands="[,\u2009\u202f]",
    plain_spaces=False,
    decimal="point",
    minus="minus",
    signs={"%": "percent", "&": "and"},
    currencies={"€": ("euro", "euros"), "$": ("dollar", "dollars"), "£": ("pound", "pounds")},
    degrees=("degree", "degrees"),
    million=("million", "million"),
    after_millions="",
    ordinals=re.compile(r"(?<![\w.,])(?P<value>\d{1,3}(?:,\d{3})+|\d{1,15})(?:st|nd|rd|th)\b", re.IGNORECASE),
    read_ordinal=_english_ordinal,
    read_whole=_english_whole,
    read_decimals=lambda digits: " ".join(_english_whole(int(digit)) for digit in digits),
    shorten=str,
)
