"""Names that reach the disk are safe, whatever they are made of."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stagedoor.content.naming import component, year
from stagedoor.errors import ContentRejected

anything = st.text(st.characters(codec=None), max_size=400)
# Short texts of what has a meaning somewhere, so that the rules meet each other.
wicked = st.text(
    st.sampled_from("./\\-_ ~:\0\n\t\u202e\u200b\ufeff\u0301e\u034fCONul1\u2215\U0001f3b5\ud800ß"), max_size=40
)
extensions = st.sampled_from(["", "mp4", "webm", "JPG"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(anything, wicked), extensions, st.integers(64, 255))
@example("nul.tar.gz", "", 255)
@example("-\u0301", "", 255)
@example("é" * 300, "mp4", 255)
@example("e" + "\u0301\u0323" * 200, "mp4", 64)
@example("co\u200bn", "", 255)
def test_a_component_is_safe(text: str, extension: str, max_bytes: int) -> None:
    try:
        made = component(text, extension=extension, max_bytes=max_bytes)
    except ContentRejected:
        return  # and nothing but that
    assert 0 < len(made.encode()) <= max_bytes
    assert not set(made) & set("/\\\0")
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in made)
    assert made not in (".", "..")
    assert made[0] not in ".- "
    assert made[-1] not in ". "
    assert made == unicodedata.normalize("NFC", made)
    assert made.partition(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "COM¹"}
    assert not extension or made.endswith("." + extension)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(anything, wicked), st.integers(64, 255))
def test_a_component_makes_itself(text: str, max_bytes: int) -> None:
    try:
        made = component(text, max_bytes=max_bytes)
    except ContentRejected:
        return
    assert component(made, max_bytes=max_bytes) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("AC/DC", "AC\u2215DC"),
        ("What’s Up? (live): “now” <3 *", "What’s Up? (live): “now” <3 *"),
        ("back\\slash", "back\u29f5slash"),
        ("Bjo\u0308rk", "Björk"),
        ("Bjo\u200b\u0308rk", "Björk"),
        (" ...And You\tWill\nKnow  Us. ", "And You Will Know Us"),
        ("--version", "version"),
        ("../../etc/passwd", "\u2215..\u2215etc\u2215passwd"),
        ("CON", "_CON"),
        ("aux.mp3", "_aux.mp3"),
        ("com¹", "_com¹"),
        ("Concert", "Concert"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("日本語", "日本語"),
        ("M\udcffÜ", "MÜ"),
    ],
)
def test_examples(text: str, made: str) -> None:
    assert component(text) == made


@pytest.mark.parametrize("text", ["", ".", "..", "...", " ", "-", "\u200b\u200d", "\x00\x1b", "\u3164\u2800", " . - "])
def test_nothing_left_is_refused(text: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        component(text, extension="mp4")
    assert caught.value.code == "unusable_name"


@pytest.mark.parametrize("extension", ["m/4", ".mp4", "mp 4", "m\u0440", "x" * 17])
def test_an_extension_is_letters_and_digits(extension: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        component("name", extension=extension)
    assert caught.value.code == "unusable_name"


def test_a_long_name_is_cut_between_characters_and_marked() -> None:
    one, other = (component("ä" * 200 + tail, extension="mp4") for tail in "xy")
    assert len(one.encode()) <= 255
    assert one.startswith("ä" * 100)
    assert one.endswith(".mp4")
    assert one != other
    assert one == component("ä" * 200 + "x", extension="mp4")


def test_a_letter_is_not_cut_off_its_accent() -> None:
    # q with a dot above has no composed form, so it stays two characters: 1 + 2 bytes.
    made = component("q\u0307" * 100, max_bytes=64 + 1)
    stem = made.rpartition("-")[0]
    assert stem
    assert stem.count("q") == stem.count("\u0307")


@pytest.mark.parametrize("text", ["x" * 255, "ä" * 127])
def test_what_fits_is_not_cut(text: str) -> None:
    assert component(text) == text


def test_a_limit_too_small_to_keep_names_apart() -> None:
    with pytest.raises(ValueError, match="64"):
        component("name", max_bytes=20)


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (2020, "2020"), ("2020", "2020"), ("2020-05-01", "2020"), (" 1999 ", "1999"), (1999.0, "1999"),
        ("1999/2000", "1999"), (None, None), ("", None), (True, None), (99, None), (20200, None), ("20200501", None),
        ("in 2020", None), ("٢٠٢٠", None), (-2020, None), (2020.5, None), ([2020], None), ({"year": 2020}, None),
        (float("1e300"), None), (float("inf"), None), (float("nan"), None),
    ],
    ids=repr,
)  # fmt: skip
def test_years(release: object, expected: str | None) -> None:
    assert year(release) == expected  # type: ignore[arg-type]
