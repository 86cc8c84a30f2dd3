"""What songs are together: albums guessed from tags and names, and corrections."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.content.corrections import corrected
from stagedoor.content.songs import (
    VARIOUS,
    AlbumGuess,
    Track,
    guess_album,
    in_order,
    look_at_tracks,
    tracks_from,
    without_disc,
)
from stagedoor.tasks import JSON, Finding, freeze


def track(name: str = "01 Song.mp3", **values: Any) -> Track:
    """A song; each name is another file, unless told otherwise."""
    extension = values.setdefault("extension", name.rpartition(".")[2])
    assert extension
    return Track(**({"name": name, "sha256": name, "title": name.rpartition(".")[0]} | values))


def codes(*tracks: Track) -> list[str]:
    return [finding.code for finding in look_at_tracks(tracks)]


def said(code: str, *tracks: Track) -> Finding:
    (found,) = [finding for finding in look_at_tracks(tracks) if finding.code == code]
    return found


# ── the album ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_tags_that_agree() -> None:
    tracks = [track(f"{n}.mp3", artist="Björk", album="Debut", year="1993") for n in range(3)]
    assert guess_album(tracks, "whatever") == AlbumGuess(artist="Björk", album="Debut", year="1993")


def test_one_name_in_several_spellings_is_one() -> None:
    names = ["Björk", "BJÖRK", "Bjo\u0308rk", "Björk"]
    tracks = [track(f"{n}.mp3", artist=name, album="Debut") for n, name in enumerate(names)]
    assert guess_album(tracks) == AlbumGuess(artist="Björk", album="Debut")


@pytest.mark.parametrize(
    ("artists", "albumartist", "tagged", "expected", "compilation"),
    [
        (["A", "B", "C"], "", False, VARIOUS, True),
        (["A", "B", "C"], "", True, VARIOUS, True),
        (["A", "B", "C"], "The Collector", False, "The Collector", False),
        (["A", "B", "C"], "The Collector", True, "The Collector", True),
        (["A", "B"], "various artists", False, VARIOUS, True),
        (["A", "B"], "VA", False, VARIOUS, True),
        (["A", "A"], "", True, VARIOUS, True),
        (["A", "A", "A feat. B", "A & C"], "", False, "A", False),
        (["A", "A", "A", "B"], "", False, "A", False),  # one guest among four
        (["A", "A", "B"], "", False, VARIOUS, True),
        (["Queen", "Queen", "Queensrÿche", "Queensrÿche"], "", False, VARIOUS, True),
        (["A", "", ""], "", False, "A", False),
        (["", ""], "", False, "", False),
    ],
)
def test_whose_it_is(artists: list[str], albumartist: str, tagged: bool, expected: str, compilation: bool) -> None:
    tracks = [
        track(f"{n}.mp3", artist=artist, album="X", albumartist=albumartist, compilation=tagged)
        for n, artist in enumerate(artists)
    ]
    found = guess_album(tracks)
    assert (found.artist, found.compilation) == (expected, compilation)


@pytest.mark.parametrize(
    ("names", "outside", "artist", "album", "year"),
    [
        (["1.mp3", "2.mp3"], "Björk - Debut (1993)", "Björk", "Debut", "1993"),
        (["Björk - Debut/1.mp3", "Björk - Debut/2.mp3"], "upload", "Björk", "Debut", ""),
        (["CD1/1.mp3", "CD2/1.mp3"], "Björk - Debut", "Björk", "Debut", ""),
        (["CD1/1.mp3", "CD1/2.mp3"], "Björk - Debut", "Björk", "Debut", ""),  # not an album called CD1
        (["Debut/CD1/1.mp3", "Debut/CD2/1.mp3"], "x", "", "Debut", ""),
        (["Debut/1.mp3", "Debut/2.mp3"], "Björk - Debut", "Björk", "Debut", ""),  # the archive says more
        (["Björk/1993 - Debut/1.mp3", "Björk/1993 - Debut/2.mp3"], "music", "Björk", "Debut", "1993"),
        (["Björk/Debut/Disc 1/1.mp3", "Björk/Debut/Disc 2/1.mp3"], "x", "Björk", "Debut", ""),
        (["Debut/1.mp3", "2.mp3"], "Björk - Debut", "Björk", "Debut", ""),
        (["A/1.mp3", "B/1.mp3"], "C:\\music\\Björk - Debut", "Björk", "Debut", ""),
        (["1.mp3"], "", "", "", ""),
    ],
)
def test_names_where_tags_are_silent(names: list[str], outside: str, artist: str, album: str, year: str) -> None:
    found = guess_album([track(name) for name in names], outside)
    assert (found.artist, found.album, found.year) == (artist, album, year)


def test_tags_win_over_names() -> None:
    tracks = [track("X - Y (1900)/1.mp3", artist="Björk", album="Debut", year="1993")]
    assert guess_album(tracks, "P - Q (1901)") == AlbumGuess(artist="Björk", album="Debut", year="1993")


@pytest.mark.parametrize(
    ("album", "title", "disc"),
    [
        ("Mellon Collie (Disc 2)", "Mellon Collie", 2),
        ("Mellon Collie [CD1]", "Mellon Collie", 1),
        ("Mellon Collie, Disc 1 of 2", "Mellon Collie", 1),
        ("Mellon Collie - CD 2", "Mellon Collie", 2),
        ("Mellon Collie CD2", "Mellon Collie", 2),
        ("Mellon Collie(disk 2)", "Mellon Collie", 2),
        ("CD1", "CD1", 0),
        ("(Disc 1)", "(Disc 1)", 0),
        ("ABCD2", "ABCD2", 0),
        ("1984", "1984", 0),
        ("Disc 1 and more", "Disc 1 and more", 0),
        ("", "", 0),
    ],
)
def test_a_disc_behind_the_title(album: str, title: str, disc: int) -> None:
    assert without_disc(album) == (title, disc)


@given(st.text(max_size=200))
def test_a_title_never_becomes_empty(album: str) -> None:
    title, disc = without_disc(album)
    assert (bool(title), disc >= 0) == (bool(album), True)
    assert album.startswith(title) or album.lstrip().startswith(title)


def test_no_title_takes_long() -> None:
    began = time.thread_time()
    for text in (" " * 200, "- " * 100, "cd" * 100, "(" * 200, "Disc 1" * 33):
        without_disc(text * 5)
    assert time.thread_time() - began < 1


def test_order() -> None:
    names = [("b 10.mp3", 0, 0), ("b 2.mp3", 0, 0), ("x.mp3", 2, 1), ("y.mp3", 1, 2), ("z.mp3", 0, 1)]
    tracks = [track(name, disc=disc, track=number) for name, disc, number in names]
    assert [one.name for one in in_order(tracks)] == ["z.mp3", "y.mp3", "b 2.mp3", "b 10.mp3", "x.mp3"]


# ── findings ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_to_say() -> None:
    assert codes(*(track(f"{n}.mp3", track=n, tracks=3, album="X", artist="A") for n in (1, 2, 3))) == []


def test_broken_ones_among_good_ones_are_asked_about() -> None:
    bad = track("02 Bad.mp3", problem="truncated", reason="It is cut off.")
    found = said("broken_tracks", track("01.mp3"), bad, track("03.mp3"))
    assert (found.severity, found.options) == ("hold", ("without",))
    assert found.sentence.startswith("1 song of 3 cannot be used: 02 Bad.mp3 (It is cut off).")


def test_several_albums_are_asked_about() -> None:
    found = said("several_albums", track("1.mp3", album="Debut"), track("2.mp3", album="Post"), track("3.mp3"))
    assert (found.severity, found.options) == ("hold", ("one",))
    assert "2 albums: Debut, Post." in found.sentence


def test_two_albums_of_one_title_are_two() -> None:
    hits = [track(f"{who}.mp3", album="Greatest Hits", albumartist=who) for who in ("ABBA", "Queen")]
    assert "2 albums: Greatest Hits (ABBA), Greatest Hits (Queen)." in said("several_albums", *hits).sentence
    assert codes(*(track(f"{who}.mp3", album="Hits", albumartist=who, compilation=True) for who in "AB")) == []


def test_one_album_in_two_spellings_is_one() -> None:
    assert codes(track("1.mp3", album="Debut"), track("2.mp3", album="DEBUT")) == []


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([(0, 1, 0), (0, 3, 0)], "2"),
        ([(0, 1, 4), (0, 2, 4)], "3, 4"),
        ([(1, 1, 0), (2, 2, 0)], "2-1"),
        ([(0, 1, 0), (1, 3, 0)], "2"),  # who names no disc means the first
        ([(0, 1, 9), (0, 9, 9)], "2, 3, 4, 5, 6 and 2 more"),
    ],
)
def test_missing_numbers(numbers: list[tuple[int, int, int]], expected: str) -> None:
    tracks = [track(f"{d}-{n}.mp3", disc=d, track=n, tracks=of) for d, n, of in numbers]
    assert said("tracks_missing", *tracks).sentence.endswith(f": {expected}.")


def test_where_no_number_is_missing() -> None:
    assert codes(track("7.mp3", track=7, tracks=12)) == []  # a song is no album
    assert codes(track("a.mp3"), track("b.mp3")) == []
    assert codes(track("a.mp3", track=1), track("b.mp3", track=1998)) == []


def test_one_number_twice() -> None:
    found = said("numbers_twice", track("a.mp3", track=1), track("b.mp3", track=1, disc=1), track("c.mp3", track=2))
    assert "a.mp3, b.mp3." in found.sentence
    assert codes(track("a.mp3", track=1, disc=1), track("b.mp3", track=1, disc=2)) == []


def test_the_same_file_twice() -> None:
    one, other = (track(name, sha256="5", track=1) for name in ("a.mp3", "copy of a.mp3"))
    assert "a.mp3, copy of a.mp3." in said("same_song_twice", one, other).sentence
    assert codes(one, other) == ["same_song_twice"]


@pytest.mark.parametrize(
    ("name", "kind", "renamed"),
    [
        ("a.mp3", "flac", True), ("a.mp4", "m4a", False), ("a.oga", "ogg", False), ("a.ogg", "opus", False),
        ("a.wave", "wav", False), ("a.aifc", "aiff", False), ("a", "mp3", False), ("a.wav", "mp3", True),
    ],
)  # fmt: skip
def test_names_that_say_another_type(name: str, kind: str, renamed: bool) -> None:
    assert codes(track(name, extension=kind)) == (["renamed_to_true_type"] if renamed else [])


def test_a_long_list_is_cut() -> None:
    tracks = [track(f"{n}.wav", extension="mp3") for n in range(500)]
    sentence = said("renamed_to_true_type", *tracks).sentence
    assert sentence.endswith("and 495 more.")
    assert len(sentence) < 1000


# ── on record ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_tracks_survive_the_document() -> None:
    tracks = (track("a.mp3", member=3, duration=2.5, track=1), track("b.mp3", problem="bad", reason="Bad."))
    assert tracks_from(freeze([one.to_json() for one in tracks])) == tracks


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        5,
        {"a": 1},
        [{"name": 5}],
        [{"nobody": 1}],
        [{"name": "a", "size": -1}],
        [{"name": "a", "track": "1"}],
    ],
)
def test_what_is_no_list_of_tracks(value: JSON) -> None:
    assert tracks_from(value) is None


# ── corrections ───────────────────────────────────────────────────────────────────────────────────────────────

THREE = (track("1.mp3", track=1), track("2.mp3", track=2), track("3.mp3", track=3, problem="bad"))


def test_without_corrections() -> None:
    problems: list[Finding] = []
    assert corrected(THREE, None, problems) == THREE[:2]
    assert problems == []


def test_corrections() -> None:
    problems: list[Finding] = []
    wanted: JSON = {"1": {"title": " New  Title ", "artist": "B", "disc": 2, "number": 7}, "2": {"skip": False}}
    one, two = corrected(THREE, wanted, problems)
    assert (one.title, one.artist, one.disc, one.track, one.name) == ("New Title", "B", 2, 7, "1.mp3")
    assert (two, problems) == (THREE[1], [])


def test_leaving_out() -> None:
    problems: list[Finding] = []
    assert corrected(THREE, {"1": {"skip": True}}, problems) == THREE[1:2]
    assert problems == []
    assert corrected(THREE, {"1": {"skip": True}, "2": {"skip": True}}, problems) == ()
    assert [problem.code for problem in problems] == ["nothing_left"]


def test_of_the_same_file_the_one_that_is_not_left_out_is_taken() -> None:
    one, other = (track(name, sha256="5") for name in ("a.mp3", "b.mp3"))
    assert corrected((one, other), None, []) == (one,)
    assert corrected((one, other), {"1": {"skip": True}}, []) == (other,)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("text", "must be an object by running number"),
        ([{"title": "A"}], "must be an object by running number"),
        ({"4": {"title": "A"}}, "names song '4'; there are 1 to 3"),
        ({"0": {}}, "names song '0'"),
        ({"01": {}}, "names song '01'"),
        ({"1": "A"}, "Of song 1 one may annotate title, artist, disc, number and skip"),
        ({"1": {"name": "A"}}, "Of song 1 one may annotate"),
        ({"1": {"title": ""}}, "Of song 1 the title must be text"),
        ({"1": {"title": 5}}, "Of song 1 the title must be text"),
        ({"2": {"number": 0}}, "Of song 2 the number must be a whole number from 1 to 999"),
        ({"2": {"number": True}}, "Of song 2 the number must be"),
        ({"2": {"disc": 1000}}, "Of song 2 the disc must be"),
        ({"2": {"disc": 1.5}}, "Of song 2 the disc must be"),
        ({"2": {"skip": "maybe"}}, "Of song 2 skip must be true or false"),
    ],
)
def test_wrong_corrections_are_named(wrong: JSON, words: str) -> None:
    problems: list[Finding] = []
    corrected(THREE, wrong, problems)
    (problem,) = [problem for problem in problems if problem.code == "invalid_tracks"]
    assert (problem.severity, words in problem.sentence) == ("reject", True), problem.sentence
