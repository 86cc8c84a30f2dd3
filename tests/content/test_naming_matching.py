"""Directories that are there already are found under other spellings, and none is overlooked for speed."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stagedoor.content.naming import Match, component, match, matching
from stagedoor.errors import ContentRejected
from stagedoor.names import match_key, similar_key


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("name", "existing", "found"),
    [
        ("Björk", [], Match("Björk", "new")),
        ("Björk", ["Blur", "Björk"], Match("Björk", "same")),
        ("BEYONCÉ", ["Beyoncé", "Bey"], Match("Beyoncé", "matched")),
        (nfd("Beyoncé"), ["Beyoncé"], Match("Beyoncé", "same")),
        ("Beyoncé", [nfd("Beyoncé")], Match(nfd("Beyoncé"), "matched")),
        ("Beyoncé", [nfd("Beyoncé"), "Beyoncé"], Match("Beyoncé", "same", (nfd("Beyoncé"),))),
        ("BEYONCÉ", ["Beyoncé", nfd("Beyoncé"), "beyoncé"],
         Match(nfd("Beyoncé"), "matched", ("Beyoncé", "beyoncé"))),
        ("Beyonce", ["Beyoncé"], Match("Beyonce", "new", ("Beyoncé",))),
        ("The Beatles", ["Beatles", "Beatles, The", "The Beat"],
         Match("The Beatles", "new", ("Beatles", "Beatles, The"))),
        ("beatles", ["The  Beatles", "THE Beatles", "'The' Beatles"],
         Match("beatles", "new", ("THE Beatles", "The  Beatles"))),
        ("Simon & Garfunkel", ["Simon and Garfunkel"], Match("Simon & Garfunkel", "new", ("Simon and Garfunkel",))),
        ("Simon and Garfunkel", ["Simon & Garfunkel", "SIMON AND GARFUNKEL"],
         Match("SIMON AND GARFUNKEL", "matched", ("Simon & Garfunkel",))),
        ("AC/DC", ["AC\u2215DC"], Match("AC\u2215DC", "same")),
        ("ac/dc", ["AC\u2215DC", "ACDC"], Match("AC\u2215DC", "matched", ("ACDC",))),
        ("A/B", ["A", "B"], Match("A\u2215B", "new")),
        ("Stagedoor", [".stagedoor", ".Stagedoor"], Match("Stagedoor", "new")),
        ("!!!", ["!!!", "???", "Chk"], Match("!!!", "same")),
        ("The The", ["The", "The The", "the the"], Match("The The", "same", ("the the", "The"))),
        ("The", ["the", "The The"], Match("the", "matched", ("The The",))),
        ("& Co", ["THE& Co", "Thé & Co"], Match("& Co", "new", ("THE& Co", "Thé & Co"))),
        ("aaaa", ["ﾞThé aaaa"], Match("aaaa", "new", ("ﾞThé aaaa",))),
        ("Motorhead", ["Motörhead"], Match("Motorhead", "new", ("Motörhead",))),
        ("Röyksopp", ["royksopp"], Match("Röyksopp", "new", ("royksopp",))),
        ("MØ", ["mø", "MO"], Match("mø", "matched", ("MO",))),
        ("ＡＢＢＡ", ["ABBA"], Match("ABBA", "matched")),
        ("Björk", ["B\udcf6rk", "a/b", ""], Match("Björk", "new")),
    ],
    ids=repr,
)  # fmt: skip
def test_examples(name: str, existing: list[str], found: Match) -> None:
    assert match(name, existing) == found
    assert match(name, iter(reversed(existing))) == found, "the order on the disk must not matter"


def test_a_name_that_is_none() -> None:
    with pytest.raises(ContentRejected) as caught:
        match("..", ["a"])
    assert caught.value.code == "unusable_name"


def slowly(name: str, existing: list[str]) -> Match:
    """The same, without the look at beginnings."""
    wanted = component(name)
    there = {entry for entry in existing if not entry.startswith(".")}
    hits = sorted(entry for entry in there if match_key(entry) == match_key(wanted))
    alike = sorted(entry for entry in there if similar_key(entry) == similar_key(wanted) and entry not in hits)
    if wanted in hits:
        return Match(wanted, "same", (*(entry for entry in hits if entry != wanted), *alike))
    return Match(hits[0], "matched", (*hits[1:], *alike)) if hits else Match(wanted, "new", tuple(alike))


# What has a meaning for keys: articles, signs that become words, letters that become others, jamo and kana that are
# composed, marks that stay and marks that go, punctuation of all sorts.
pieces = st.sampled_from(
    [*"aAtThHeE oöøþÞ&+!',.-_\u0301\u0338\u3099\u0345\u200d\u0130ıßſ\u1e9e\u01f0ﬁ㈱™①㍿Ⅳ´¨ª",
     *"\u1112\u1161\u11ab한カｶﾞがא\u05bc\udcff\u00a0", "the ", "The ", "THE", ", The", ",the", "Thé ", "ｔｈｅ ",
     "the\u3000", "\u0301the ", "and", "Björk", "abcd"]
)  # fmt: skip
names = st.lists(pieces, min_size=1, max_size=6).map("".join)


@st.composite
def others(draw: st.DrawFn, name: str) -> str:
    """A name that is likely to be similar."""
    for old, new in [("&", "and"), ("and", "&"), ("ö", "o"), ("o", "ø"), ("th", "þ"), (" ", ""), ("カ", "ｶ")]:
        if draw(st.booleans()):
            name = name.replace(old, new)
    front = draw(st.sampled_from(["", "The ", "the  ", "'The ", "Thé ", "Þe ", " ", "'", "\u0301", "´", "ﾞ", "."]))
    change: Callable[[str], str] = draw(st.sampled_from([str.upper, str.lower, str.title, nfd, str.strip]))
    return change(front + name + draw(st.sampled_from(["", ", The", " ,the!", "!", "\u0301"])))


@settings(deadline=None, max_examples=400)
@given(st.data(), names)
@example(None, "t")
def test_nothing_is_overlooked(data: st.DataObject | None, name: str) -> None:
    try:
        component(name)
    except ContentRejected:
        return
    existing = [] if data is None else data.draw(st.lists(names | others(name), max_size=6))
    assert match(name, existing) == slowly(name, existing)


def test_every_character_may_begin_a_name() -> None:
    """The table of beginnings against the keys, for one character of each kind in front, and for many."""
    chooser = random.Random(5)
    characters = {chr(c) for c in (*range(0x20, 0x3000), *(chooser.randrange(0x3000, 0x20000) for _ in range(4000)))}
    for character in sorted(characters):
        entry = f"{character}z"
        start = unicodedata.normalize("NFD", similar_key(entry))[:1]
        assert matching._may_begin(entry, start), hex(ord(character))


def test_keys_are_made_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what makes it quick: of twenty thousand entries, those with another beginning cost no key."""
    chooser = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyzäöéñ"
    existing = ["".join(chooser.choices(letters, k=9)).title() for _ in range(18_000)]
    existing += [f"The {''.join(chooser.choices(letters, k=6))}" for _ in range(2_000)]
    existing += ["Beyoncé", "Beyonce"]
    match("a", existing)  # fills the table of beginnings
    made = []

    def counted(name: str) -> str:
        made.append(name)
        return similar_key(name)

    monkeypatch.setattr(matching, "similar_key", counted)
    assert match("BEYONCÉ", existing) == Match("Beyoncé", "matched", ("Beyonce",))
    assert len(made) < 1_000
