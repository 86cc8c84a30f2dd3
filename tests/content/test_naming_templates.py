"""Paths that are made from templates stay where the template says, whatever the values are."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stagedoor.content.naming import (
    COVER_FIELDS,
    SCHEMES,
    SONG_FIELDS,
    VIDEO_FIELDS,
    FieldRejected,
    Scheme,
    Template,
    Value,
    component,
)
from stagedoor.errors import ConfigurationError, ContentRejected

SONG: Mapping[str, Value] = {
    "artist": "Thom Yorke", "albumartist": "Björk", "album": "Selmasongs", "year": "2000", "track": 4,
    "title": "I've Seen It All",
}  # fmt: skip
VIDEO: Mapping[str, Value] = {"artist": "Björk", "year": 1995, "title": "Army of Me"}


def song(text: str) -> Template:
    return Template.parse(text, fields=SONG_FIELDS)


# ── filling in ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("template", "values", "path"),
    [
        ("{artist}/{title}", {"artist": "AC/DC", "title": "T.N.T."}, "AC\u2215DC/T.N.T.mp3"),
        ("{track:02} {title}", {"track": 7, "title": "x"}, "07 x.mp3"),
        ("{track:03} {title}", {"track": "7", "title": "x"}, "007 x.mp3"),
        ("{track:02} {title}", {"track": 123, "title": "x"}, "123 x.mp3"),
        ("{track:02} {title}", {"track": "7 of 9", "title": "x"}, "7 of 9 x.mp3"),
        ("{track} {title}", {"track": 0, "title": "x"}, "0 x.mp3"),
        ("{title}", {"title": 1979}, "1979.mp3"),
        ("{title}", {"title": "  1979\n"}, "1979.mp3"),
        ("{title}", {"title": "Bjo\u0308rk"}, "Björk.mp3"),
        ("[{disc}-][{track} ]{title}", {"title": "x"}, "x.mp3"),
        ("[{disc}-][{track} ]{title}", {"title": "x", "track": 3}, "3 x.mp3"),
        ("[{disc}-][{track} ]{title}", {"title": "x", "track": 3, "disc": 2}, "2-3 x.mp3"),
        ("[{disc}-{track} ]{title}", {"title": "x", "track": 3}, "x.mp3"),
        ("{title}[ ({year})]", {"title": "x", "year": " "}, "x.mp3"),
        ("{title}[ ({year})]", {"title": "x", "year": "\u200b"}, "x.mp3"),
        ("{title}[ ({year})]", {"title": "x", "year": -3}, "x.mp3"),
        ("{title}[ ({year})]", {"title": "x", "year": 10**5000}, "x.mp3"),
        ("{title}[ ({year})]", {"title": "x", "year": "1999"}, "x (1999).mp3"),
        ("{album}/[Disc {disc}/]{title}", {"album": "a", "title": "x"}, "a/x.mp3"),
        ("{album}/[Disc {disc}/]{title}", {"album": "a", "title": "x", "disc": 2}, "a/Disc 2/x.mp3"),
        ("[{year}/]{title}", {"title": "x", "year": 1999}, "1999/x.mp3"),
        ("[{year}/][{disc}/]{title}", {"title": "x", "disc": 1}, "1/x.mp3"),
        ("{{{title}}} [[a]] }}", {"title": "x"}, "{x} [a] }.mp3"),
        ("[ {year} [[a]]]{title}", {"title": "x", "year": 1}, "1 [a]x.mp3"),
        ("Live/{title}", {"title": "x"}, "Live/x.mp3"),
        ("{title}/{title}", {"title": "../x"}, "\u2215x/\u2215x.mp3"),
        ("{title}", {"title": "{artist}", "artist": "x"}, "{artist}.mp3"),
        ("{title}", {"title": "[a]%s$title"}, "[a]%s$title.mp3"),
        ("{album}/{title}", {"album": "con", "title": "aux"}, "_con/_aux.mp3"),
    ],
)
def test_examples(template: str, values: Mapping[str, Value], path: str) -> None:
    assert song(template).path(values, "mp3") == path


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "annotation_missing"), ("", "annotation_missing"), (" \t\n", "annotation_missing"),
        ("...", "unusable_name"), ("\u200b", "unusable_name"), ("\0", "unusable_name"), (-1, "unusable_name"),
        (10**6, "unusable_name"), (10**5000, "unusable_name"), (True, "unusable_name"), (2.5, "unusable_name"),
        (["x"], "unusable_name"), ({}, "unusable_name"),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) or value < 10**9 else "huge",
)  # fmt: skip
def test_a_field_that_is_needed(value: Value, code: str) -> None:
    template = song("{artist}/01 {title}")
    with pytest.raises(FieldRejected, match=r"“title”.*the title of the song.*\.$") as caught:
        template.path({"artist": "x", "title": value}, "mp3")
    assert (caught.value.code, caught.value.field) == (code, "title")
    assert isinstance(caught.value, ContentRejected)


def test_all_problems_at_once_in_the_order_of_the_path() -> None:
    template = song("{artist}/{year} - {album}/[{disc}-]{title} {artist}")
    found = template.problems({"artist": "...", "album": "x", "disc": "..."})
    assert [(problem.field, problem.code) for problem in found] == [
        ("artist", "unusable_name"), ("year", "annotation_missing"), ("title", "annotation_missing")
    ]  # fmt: skip
    with pytest.raises(FieldRejected) as caught:
        template.path({"artist": "..."}, "mp3")
    assert caught.value.sentence == found[0].sentence
    assert template.problems({"artist": "a", "album": "x", "year": 1, "title": "t"}) == ()


def test_an_extension_that_is_none() -> None:
    with pytest.raises(ContentRejected, match="extension"):
        song("{title}").path({"title": "x"}, "m/3")


def test_long_values_differ_where_they_are_cut() -> None:
    template = song("{album}/[{track} ]{title}")
    one, other = (template.path({"album": "ä" * 300, "track": 1, "title": "ö" * 300 + end}, "flac") for end in "ab")
    assert one != other
    assert [len(part.encode()) <= 255 for part in one.split("/")] == [True, True]
    assert one.endswith(".flac")


def test_what_a_template_knows_about_itself() -> None:
    template = song("{artist}/[Disc {disc}/][{track:02} ]{title}")
    assert str(template) == template.text == "{artist}/[Disc {disc}/][{track:02} ]{title}"
    assert template.fields == {"artist", "disc", "track", "title"}
    assert template.mandatory == {"artist", "title"}
    assert template == song(template.text)
    assert len({template, song(template.text), song("{title}")}) == 2


@pytest.mark.parametrize(
    ("there", "directory"),
    [
        ([], "Björk"),
        (["Bjo\u0308rk"], "Bjo\u0308rk"),
        (["Björk."], "Björk."),
        (["Blur", "-Björk"], "-Björk"),
        (["BJÖRK"], "Björk"),
        (["Bjo\u0308rk/..", "\0Björk", ".Björk", "Bj\udcfförk", "..", "", "Björk" + "." * 250], "Björk"),
    ],
)
def test_a_directory_that_is_there_is_used_as_it_is_spelled(there: list[str], directory: str) -> None:
    template = song("{artist}/{title}")
    assert template.path({"artist": "Björk", "title": "Björk"}, "mp3", there=there) == f"{directory}/Björk.mp3"
    values: Mapping[str, Value] = {"artist": "Björk", "year": 1993, "album": "Debut", "title": "Aeroplane"}
    path = SCHEMES["musicdb"].song_path(values, "mp3", there=there)
    assert path == f"{directory}/1993 - Debut/Aeroplane.mp3"


# ── properties ────────────────────────────────────────────────────────────────────────────────────────────────────

anything = st.text(st.characters(codec=None), max_size=100)
wicked = st.text(
    st.sampled_from("./\\-_ ~:\0\n\t\u202e\u200b\ufeff\u0301e\u034fCONul1\u2215\u2044\uff0f{}[]\U0001f3b5\ud800ß"),
    max_size=30,
)
long = st.builds(lambda text, times: text * times, wicked, st.integers(1, 60))
values = st.none() | st.integers() | st.booleans() | anything | wicked | long
songs = st.fixed_dictionaries({}, optional=dict.fromkeys(SONG_FIELDS, values))
CUSTOM = ["{albumartist}/[{year}/]{album}/[Disc {disc:02}/][{track:02}. ][{artist} - ]{title}", "-{title}-/.{album}."]
templates = st.sampled_from([*(s.song for s in SCHEMES.values()), *map(song, CUSTOM)])


def check_relative(path: str) -> None:
    """The rule for stored paths in `stagedoor.tasks`."""
    assert not path.startswith("/")
    assert "\0" not in path
    assert not any(part in ("", ".", "..") for part in path.split("/"))


@settings(deadline=None)
@given(templates, songs, st.sampled_from(["mp3", "flac"]))
@example(song("{album}/{title}"), {"album": "..", "title": "/etc/passwd"}, "mp3")
@example(song("{album}/{title}"), {"album": "a/../../b", "title": "\u0301"}, "mp3")
def test_no_value_makes_or_leaves_a_directory(template: Template, values: Mapping[str, Value], extension: str) -> None:
    problems = template.problems(values)
    if problems:
        with pytest.raises(FieldRejected) as caught:
            template.path(values, extension)
        assert caught.value.sentence == problems[0].sentence
        assert {problem.field for problem in problems} <= template.mandatory
        return
    path = template.path(values, extension)
    check_relative(path)
    parts = path.split("/")
    # An optional component is there or not; nothing else changes the number.
    fewest = template.text.count("/") + 1 - template.text.count("/]")
    assert fewest <= len(parts) <= template.text.count("/") + 1
    assert all(0 < len(part.encode()) <= 255 for part in parts)
    assert parts[-1].endswith(f".{extension}")
    assert path == unicodedata.normalize("NFC", path)
    assert path == template.path(values, extension)
    *directories, file = parts
    assert [component(part) for part in directories] == directories
    assert component(file) == file


@settings(deadline=None)
@given(st.lists(anything | wicked, max_size=4), anything | wicked)
def test_no_directory_that_is_there_leads_out(there: list[str], artist: str) -> None:
    template = song("{artist}/{title}")
    values: Mapping[str, Value] = {"artist": artist, "title": "x"}
    if not template.problems(values):
        path = template.path(values, "mp3", there=[*there, artist])
        check_relative(path)
        assert path.count("/") == 1
        assert len(path.encode()) <= 255 + len("/x.mp3")
        assert component(path.partition("/")[0]) == component(artist)


@settings(deadline=None)
@given(templates, songs)
def test_a_path_depends_on_nothing_but_what_values_look_like(template: Template, values: Mapping[str, Value]) -> None:
    def made(values: Mapping[str, Value]) -> str | None:
        try:
            return template.path(values, "mp3")
        except FieldRejected:
            return None

    other = {k: unicodedata.normalize("NFD", v) if isinstance(v, str) else v for k, v in values.items()}
    assert made(values) == made(other)
    assert made(values) == made({**values, "comment": "../x"})


@settings(deadline=None)
@given(st.text(st.sampled_from("{}[]/.\\ :02-atirlek"), max_size=25) | anything, songs)
def test_any_text_is_a_template_or_is_refused(text: str, values: Mapping[str, Value]) -> None:
    fields = {"title": "the title", "artist": "the artist", "track": "the number"}
    try:
        template = Template.parse(text, fields=fields)
    except ConfigurationError as error:
        refusal = error
    else:
        filled: Mapping[str, Value] = {"title": "x", "artist": "y", "track": 3, **values}
        if not template.problems(filled):
            check_relative(template.path(filled, "mp3"))
        return
    assert refusal.code == "invalid_template"
    assert "The fields are title, artist, track." in refusal.sentence


# ── parsing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "what", "at"),
    [
        ("", "an empty component", 1),
        ("/{title}", "relative", 1),
        ("a//{title}", "an empty component", 3),
        ("{title}/", "an empty component", 9),
        ("[{disc}/]", "an empty component", 10),
        ("[/]{title}", "an empty component", 2),
        ("../{title}", "leads elsewhere", 1),
        ("{album}/ .. /{title}", "leads elsewhere", 9),
        ("./{title}", "leads elsewhere", 1),
        ("..[{year}]/{title}", "leads elsewhere", 1),
        ("[{album}]/{title}", "nothing may be left", 1),
        ("{album}/-/{title}", "nothing may be left", 9),
        ("{album}/[{title}]", "nothing may be left", 9),
        ("{artist}/{foo}", "no field {foo}", 10),
        ("{Title}", "{Title} is no field", 1),
        ("{title.upper}", "{title.upper} is no field", 1),
        ("{title()}", "{title()} is no field", 1),
        ("{0}", "{0} is no field", 1),
        ("{}", "{} is no field", 1),
        ("{title!r}", "{title!r} is no field", 1),
        ("{track:2}", "{track:2} is no field", 1),
        ("{track:02d}", "{track:02d} is no field", 1),
        ("{track:00}", "{track:00} is no field", 1),
        ("{artist}/{title", "“{” without", 10),
        ("{title}}", "“}” without", 8),
        ("{title}[ {year}", "“[” that is not closed", 8),
        ("{title}]", "“]” that closes nothing", 8),
        ("{title} [live]", "never vanish", 9),
        ("{title}[]", "never vanish", 8),
        ("[a/]{title}", "never vanish", 1),
        ("[{disc}[-{track} ] ]{title}", "a section in a section", 8),
        ("{album}[/{disc}]/{title}", "whole component", 9),
        ("{album}/x[{disc}/]{title}", "whole component", 17),
        ("[{disc}/{year}/]{title}", "whole component", 8),
        ("[{disc}/]]{title}", "whole component", 8),
        ("{artist}\\{title}", "backslash", 9),
    ],
)
def test_what_is_no_template(text: str, what: str, at: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        song(text)
    assert caught.value.code == "invalid_template"
    assert f"{what}" in caught.value.sentence
    assert f", at character {at}. The fields are albumartist, artist, " in caught.value.sentence


def test_a_template_may_need_a_field() -> None:
    for text in ("{album}", "{album}[ {title}]"):
        with pytest.raises(ConfigurationError, match=r"it needs \{title\}, outside of square brackets\. The fields"):
            Template.parse(text, fields=SONG_FIELDS, required=["title"])


def test_a_template_is_text() -> None:
    with pytest.raises(ConfigurationError, match="it is no text"):
        song(3)  # type: ignore[arg-type]


# ── schemes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scheme", "one_disc", "second_disc", "compilation", "bare"),
    [
        (
            "musicdb",
            "Björk/2000 - Selmasongs/4 I've Seen It All.mp3",
            "Björk/2000 - Selmasongs/2-4 I've Seen It All.mp3",
            "Björk/2000 - Selmasongs/4 I've Seen It All.mp3",
            "Björk/2000 - Selmasongs/I've Seen It All.mp3",
        ),
        (
            "navidrome",
            "Björk/Selmasongs/04 - I've Seen It All.mp3",
            "Björk/Selmasongs/2-04 - I've Seen It All.mp3",
            "Björk/Selmasongs/04 - I've Seen It All.mp3",
            "Björk/Selmasongs/I've Seen It All.mp3",
        ),
        (
            "beets",
            "Björk/Selmasongs/04 I've Seen It All.mp3",
            "Björk/Selmasongs/2-04 I've Seen It All.mp3",
            "Compilations/Selmasongs/04 I've Seen It All.mp3",
            "Björk/Selmasongs/I've Seen It All.mp3",
        ),
        (
            "jellyfin",
            "Björk/Selmasongs/Track 04 I've Seen It All.mp3",
            "Björk/Selmasongs/Disc 2 Track 04 I've Seen It All.mp3",
            "Björk/Selmasongs/Track 04 I've Seen It All.mp3",
            "Björk/Selmasongs/I've Seen It All.mp3",
        ),
    ],
)
def test_songs(scheme: str, one_disc: str, second_disc: str, compilation: str, bare: str) -> None:
    chosen = SCHEMES[scheme]
    assert chosen.name == scheme
    assert chosen.song_path(SONG, "mp3") == one_disc
    assert chosen.song_path({**SONG, "disc": 2}, "mp3") == second_disc
    assert chosen.song_path(SONG, "mp3", compilation=True) == compilation
    assert chosen.song_path({**SONG, "track": None}, "mp3") == bare


def test_every_preset_has_a_test() -> None:
    assert list(SCHEMES) == ["musicdb", "navidrome", "beets", "jellyfin"]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
def test_videos_and_pictures(scheme: Scheme) -> None:
    assert scheme.video.path(VIDEO, "mp4") == "Björk/1995 - Army of Me.mp4"
    assert scheme.pictures.path(VIDEO) == "Björk/1995 - Army of Me"
    cover = scheme.cover.path({"albumartist": "Björk", "album": "Debut"}, "jpg")
    assert cover == ("Björk - Debut.jpg" if scheme.name == "musicdb" else "Björk/Debut/cover.jpg")
    assert {*scheme.video.fields, *scheme.pictures.fields} <= set(VIDEO_FIELDS)
    assert scheme.cover.fields <= set(COVER_FIELDS)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
def test_discs_with_the_same_titles_do_not_collide(scheme: Scheme) -> None:
    same: Mapping[str, Value] = {**SONG, "title": "Intro"}
    assert len({scheme.song_path({**same, "disc": n, "track": t}, "mp3") for n in (1, 2, 11) for t in (1, 11)}) == 6
    assert len({scheme.song_path({**same, "disc": n, "track": None}, "mp3") for n in (1, 2)}) == 2


@pytest.mark.parametrize("blank", [None, "", " "])
def test_artists_stand_in_for_each_other(blank: Value) -> None:
    scheme = Scheme.custom(song="{albumartist}/{artist} - {title}")
    assert scheme.song_path({**SONG, "albumartist": blank}, "mp3").startswith("Thom Yorke/Thom Yorke - ")
    assert scheme.song_path({**SONG, "artist": blank}, "mp3").startswith("Björk/Björk - ")
    neither = {**SONG, "artist": blank, "albumartist": blank}
    assert [p.field for p in scheme.song_problems(neither)] == ["albumartist", "artist"]
    with pytest.raises(FieldRejected) as caught:
        scheme.song_path(neither, "mp3")
    assert (caught.value.field, caught.value.code) == ("albumartist", "annotation_missing")
    assert scheme.song_problems(SONG) == ()


def test_what_musicdb_needs() -> None:
    found = SCHEMES["musicdb"].song_problems({})
    assert [problem.field for problem in found] == ["albumartist", "year", "album", "title"]


def test_a_scheme_of_ones_own() -> None:
    scheme = Scheme.custom(preset="beets", song="{albumartist}/{album}/[Disc {disc}/][{track:02} ]{title}")
    assert scheme.name == "custom"
    assert scheme.song_path({**SONG, "disc": 2}, "mp3") == "Björk/Selmasongs/Disc 2/04 I've Seen It All.mp3"
    assert scheme.song_path(SONG, "mp3", compilation=True).startswith("Compilations/")
    assert (scheme.video, scheme.cover) == (SCHEMES["beets"].video, SCHEMES["beets"].cover)
    assert Scheme.custom(preset="beets", compilation="").for_songs(compilation=True) is SCHEMES["beets"].song
    other = Scheme.custom(compilation="Various/{title}", video="{title}", cover="{album}", pictures="Clips/{title}")
    assert other.song is SCHEMES["musicdb"].song
    assert other.song_path(SONG, "mp3", compilation=True) == "Various/I've Seen It All.mp3"
    assert other.video.path(VIDEO, "mp4") == "Army of Me.mp4"
    assert other.cover.path({"album": "Debut"}, "jpg") == "Debut.jpg"
    assert other.pictures.path(VIDEO) == "Clips/Army of Me"


def test_nothing_of_ones_own_is_the_preset() -> None:
    assert Scheme.custom() is SCHEMES["musicdb"]
    assert Scheme.custom(preset="jellyfin") is SCHEMES["jellyfin"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("song", "{artist}/{album}"), ("compilation", "{album}"), ("video", "{artist}/{year}"), ("video", "{album}"),
        ("cover", "{albumartist}"), ("cover", "{title}"), ("pictures", "{artist}"), ("song", ""), ("cover", 3),
    ],
)  # fmt: skip
def test_a_scheme_that_cannot_work(kind: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Scheme.custom(**{kind: text})
    assert caught.value.code == "invalid_template"


@pytest.mark.parametrize("preset", ["plex", "", None, ["beets"]])
def test_a_preset_that_is_not_there(preset: str) -> None:
    with pytest.raises(ConfigurationError, match="musicdb, navidrome, beets, jellyfin") as caught:
        Scheme.custom(preset=preset)
    assert caught.value.code == "unknown_scheme"
