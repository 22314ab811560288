"""Text normalisation for word error rates: what counts as the same word, by rules that are written down.

Both the reference and the transcript pass the same rules, in this order:

1. Unicode NFC, so that an accent is part of its letter; accents, tildes and the eñe stay.
2. Invisible characters (soft hyphen, zero-width space, byte order mark) go, and what they kept apart is composed;
   typographic apostrophes become `'`.
3. Spanish and English only: signs and numbers become words (see `numbers.py`).
4. Lower case.
5. Whatever is neither letter, mark nor digit becomes a space, but an apostrophe between two letters stays.
6. Runs of white space become one space.

Not done on purpose: contractions, spelling variants, abbreviations and roman numerals stay as they are written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.numbers import ENGLISH, SPANISH, spell_numbers

APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00b4": "'", "`": "'", "\uff07": "'"})
OUTER_APOSTROPHE = re.compile(r"(?<![^\W\d_])'|'(?![^\W\d_])")

RULES: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "es": lambda text: spell_numbers(text, SPANISH),
    "en": lambda text: spell_numbers(text, ENGLISH),
}
"""Step 3, by language."""


def normalize(text: str, language: str = "plain") -> str:
    """Bring a sentence into the form in which words are compared.

    Parameters
    ----------
    text : str
        A sentence as written.
    language : str
        `"es"`, `"en"`, or `"plain"` for any other: the same rules without spelling out numbers.

    Returns
    -------
    str
        Lower-case words with one space between them; empty where the text held no word.

    Raises
    ------
    InputError
        The language is none of the three.
    """
    if language not in RULES:
        raise InputError(f"Expected one of {', '.join(RULES)}, got {language!r} - at normalize, language")
    text = unicodedata.normalize("NFC", text)
    # Composed again: an accent that followed an invisible character now follows its letter.
    text = unicodedata.normalize("NFC", "".join(char for char in text if unicodedata.category(char) != "Cf"))
    text = text.translate(APOSTROPHES)
    text = RULES[language](text).lower()
    text = "".join(char if _is_part_of_a_word(char) else " " for char in text)
    return " ".join(OUTER_APOSTROPHE.sub(" ", text).split())


def _is_part_of_a_word(char: str) -> bool:
    return char == "'" or unicodedata.category(char)[0] in "LMN"
