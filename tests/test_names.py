from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.names import match_key, search_words, similar_key


@pytest.mark.parametrize("names", ["Beyoncé BEYONCÉ Beyonce\u0301", "Straße STRASSE", "ﬁsh FISH"])
def test_names_that_match(names: str) -> None:
    assert len({match_key(name) for name in names.split()}) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("The Beatles", "Beatles, The", "BEATLES", "the  beatles", "Beatles ,the"),
        ("Motörhead", "Motorhead"),
        ("AC/DC", "ACDC", "ac dc", "AC⚡DC"),
        ("Simon & Garfunkel", "Simon and Garfunkel", "Simon&Garfunkel"),
        ("Guns N' Roses", "Guns N’ Roses", "Guns N Roses", "Guns N` Roses"),
        ("MØ", "Mo"),
        ("Łzy", "Lzy"),
        ("Sigur Rós", "Sigur Ros", "SigurRos"),
        ("Ænima", "Aenima"),
        ("İlhan", "Ilhan"),
        ("The The", "The The "),
        ("The !!!", "!!!"),
    ],
    ids=lambda names: names[0],
)
def test_names_that_are_similar(names: tuple[str, ...]) -> None:
    assert len({similar_key(name) for name in names}) == 1, [similar_key(name) for name in names]


@pytest.mark.parametrize(
    "names",
    [
        ("Queen", "Queens", "Quen"),
        ("!!!", "???", ""),
        ("か", "が"),
        ("कि", "कु"),
        ("Thebes", "bes"),
        ("Soothe", "Soo"),
        ("The The", "The Theo"),
        ("+", "×", "÷"),
    ],
    ids=lambda names: names[0],
)
def test_names_that_are_neither(names: tuple[str, ...]) -> None:
    assert len({match_key(name) for name in names}) == len(names)
    assert len({similar_key(name) for name in names}) == len(names)


@given(st.text(), st.sampled_from([str.upper, str.lower, str.casefold, str.title]))
def test_names_that_match_are_similar(name: str, spell: Callable[[str], str]) -> None:
    if match_key(spell(name)) == match_key(name):
        assert similar_key(spell(name)) == similar_key(name)


@given(st.text(st.characters(codec="utf-8")))
def test_a_key_is_text_for_any_name(name: str) -> None:
    similar_key(name).encode()
    assert not set(similar_key(name)) & set(" \t\n&")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Guns N’ Roses", ("guns", "n", "roses")),
        ("Guns N' Roses", ("guns", "n", "roses")),
        ("Don`t stop, don't", ("dont", "stop")),
        ("AC/DC", ("ac", "dc")),
        ("¿Qué?", ("que",)),
        ("Simon & Garfunkel", ("simon", "and", "garfunkel")),
        ("Ænima Łódź", ("aenima", "lodz")),
        ("東京事変 Live", ("東", "京", "事", "変", "live")),
        ("がっこう", ("が", "っ", "こ", "う")),
        ("क्षि कु", ("क्षि", "कु")),
        ("!!! \0\t", ()),
        ("x" * 100, ("x" * 64,)),
        ("ü" + "x" * 100, ("u" + "x" * 63,)),
    ],
)
def test_the_words_of_a_text(text: str, words: tuple[str, ...]) -> None:
    assert search_words(text) == words


@given(st.text(st.characters(codec="ascii")))
def test_plain_text_has_the_words_that_other_text_has(text: str) -> None:
    assert (*search_words(text), "東") == search_words(f"{text} 東")


@given(st.text(st.characters(codec="utf-8")), st.sampled_from([str.upper, str.lower, str.casefold, str.title]))
def test_words_are_found_in_any_case(text: str, spell: Callable[[str], str]) -> None:
    if match_key(spell(text)) == match_key(text):
        assert search_words(spell(text)) == search_words(text)
    for word in search_words(text):
        assert not set(word) & set(' \t\n"*:^()-')
