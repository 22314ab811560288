"""Normalisation, rule by rule, in Spanish, English and plain text."""

from __future__ import annotations

import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.text import normalize

SPANISH = {
    "¿Cuántos años tienes? ¡Diecinueve!": "cuántos años tienes diecinueve",
    "El año 2026": "el año dos mil veintiséis",
    "1.234 casas": "mil doscientos treinta y cuatro casas",
    "10 000 casas": "diez mil casas",
    "1.234.567,89": "un millón doscientos treinta y cuatro mil quinientos sesenta y siete coma ochenta y nueve",
    "3,5 y 3.5": "tres coma cinco y tres coma cinco",
    "3,05": "tres coma cero cinco",
    "3,1415": "tres coma uno cuatro uno cinco",
    "Capítulo 1.º, 2ª parte": "capítulo primero segunda parte",
    "la 21ª vez": "la vigésima primera vez",
    "el 3er piso y el 13º": "el tercer piso y el decimotercero",
    "21.000 voces": "veintiún mil voces",
    "Son 21 €": "son veintiún euros",
    "1 €, $31, 3,5 €": "un euro treinta y un dólares tres coma cinco euros",
    "el 50 %": "el cincuenta por ciento",
    "-5 grados": "menos cinco grados",
    "10-5": "diez cinco",
    "a las 10:30": "a las diez treinta",
    "agente 007": "agente cero cero siete",
    "un mp3 de 5km": "un mp3 de 5km",
    "R&D": "r y d",
    "cafe\u0301": "café",
    "versión 1.2.3": "versión uno coma dos tres",
    "«Sí» —dijo— …": "sí dijo",
    "18º, 11er piso, 13er, 21er": "decimoctavo undécimo piso decimotercer vigésimo primer",
    "artículo 1.º C": "artículo primero c",
    "1.000.000 € o 2.000.000 $": "un millón de euros o dos millones de dólares",
    "$1,5M y 1M€": "uno coma cinco millones de dólares y un millón de euros",
    "30°, 1°": "treinta grados un grado",
    "20 ºC y 36,5 °C": "veinte grados celsius y treinta y seis coma cinco grados celsius",
    "1.000km, 3,5km": "mil km tres coma cinco km",
    "600 123 456": "seiscientos ciento veintitrés cuatrocientos cincuenta y seis",
    "91 123 45 67": "noventa y uno ciento veintitrés cuarenta y cinco sesenta y siete",
    "100 000, 250 300 €": "cien mil doscientos cincuenta mil trescientos euros",
    "12\u2009345 y 1\u00a0000\u00a0567": "doce mil trescientos cuarenta y cinco y un millón quinientos sesenta y siete",
    "cafe\u00ad\u0301": "café",
}
ENGLISH = {
    "Don't! It\u2019s John's.": "don't it's john's",
    "'quoted' words'": "quoted words",
    "1,234 houses": "one thousand two hundred and thirty four houses",
    "3.14": "three point one four",
    "the 21st and the 2nd": "the twenty first and the second",
    "$1 and £20 and 5 €": "one dollar and twenty pounds and five euros",
    "100%": "one hundred percent",
    "the 1,000th, 2,000m": "the one thousandth two thousand m",
    "$1.5M, £1M, £2,000,000": "one point five million dollars one million pounds two million pounds",
    "20°C": "twenty degrees celsius",
    "state-of-the-art": "state of the art",
    "1234567890123456": "one two three four five six seven eight nine zero one two three four five six",
}
PLAIN = {
    "Übung  MACHT\tden Meister.": "übung macht den meister",
    "Route 66, ça va?": "route 66 ça va",
    "soft\u00adhyphen \ufeffzero\u200bwidth": "softhyphen zerowidth",
    "... !? --": "",
    "rock 'n' roll": "rock n roll",
}


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (language, text, expected)
        for language, cases in {"es": SPANISH, "en": ENGLISH, "plain": PLAIN}.items()
        for text, expected in cases.items()
    ],
)
def test_a_sentence_becomes_its_words(language: str, text: str, expected: str) -> None:
    assert normalize(text, language) == expected


@pytest.mark.parametrize("language", ["es", "en", "plain"])
@pytest.mark.parametrize("text", [*SPANISH, *ENGLISH, *PLAIN])
def test_normalising_twice_changes_nothing(language: str, text: str) -> None:
    once = normalize(text, language)
    assert normalize(once, language) == once


def test_accents_tell_words_apart() -> None:
    assert normalize("papá", "es") != normalize("papa", "es")
    assert normalize("año", "es") != normalize("ano", "es")


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(InputError, match="Expected one of plain, es, en, got 'fr'"):
        normalize("bonjour", "fr")
