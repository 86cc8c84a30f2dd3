"""Names of files say what people meant, and hostile ones do no harm."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagedoor.content.naming import AlbumGuess, Guess, guess_album, guess_song

SONGS: list[tuple[str, Guess]] = [
    # plain
    ("01 Title.mp3", Guess(None, 1, "Title")),
    ("1 Title.mp3", Guess(None, 1, "Title")),
    ("01. Title.m4a", Guess(None, 1, "Title")),
    ("01.Title.ogg", Guess(None, 1, "Title")),
    ("01 - Title.opus", Guess(None, 1, "Title")),
    ("01 – Title.wav", Guess(None, 1, "Title")),
    ("01-Title.aiff", Guess(None, 1, "Title")),
    ("01) Title.flac", Guess(None, 1, "Title")),
    ("01_Army_of_Me.mp3", Guess(None, 1, "Army of Me")),
    ("  01   Title  .MP3", Guess(None, 1, "Title")),
    ("12 10,000 Days.flac", Guess(None, 12, "10,000 Days")),
    ("07 7 Seconds.mp3", Guess(None, 7, "7 Seconds")),
    ("00 Hidden.flac", Guess(None, 0, "Hidden")),
    ("01 ...And Justice for All.mp3", Guess(None, 1, "...And Justice for All")),
    ("03 (I Can't Get No) Satisfaction.mp3", Guess(None, 3, "(I Can't Get No) Satisfaction")),
    ("04 Anti-Hero.mp3", Guess(None, 4, "Anti-Hero")),
    ("05 T.N.T..mp3", Guess(None, 5, "T.N.T.")),
    ("100 Title.mp3", Guess(None, 100, "Title")),
    ("03.mp3", Guess(None, 3)),
    ("03 - .mp3", Guess(None, 3)),
    # words
    ("Track 3.wav", Guess(None, 3)),
    ("Track03.wav", Guess(None, 3)),
    ("track_03.wav", Guess(None, 3)),
    ("AudioTrack 07.wav", Guess(None, 7)),
    ("Titel 12.wav", Guess(None, 12)),
    ("Track 3 - Hunter.wav", Guess(None, 3, "Hunter")),
    ("Disc 1 Track 02.ogg", Guess(1, 2)),
    ("Disc 1 Track 02 Hunter.ogg", Guess(1, 2, "Hunter")),
    ("CD2 - 05 - Hunter.ogg", Guess(2, 5, "Hunter")),
    ("d1t03 Hunter.ogg", Guess(1, 3, "Hunter")),
    # discs
    ("1-03 Title.flac", Guess(1, 3, "Title")),
    ("1.03 Title.flac", Guess(1, 3, "Title")),
    ("2-11 - Title.flac", Guess(2, 11, "Title")),
    ("(2-11) Title.flac", Guess(2, 11, "Title")),
    ("101 Title", Guess(1, 1, "Title")),
    ("214 - Title.mp3", Guess(2, 14, "Title")),
    ("CD1/05 Title.mp3", Guess(1, 5, "Title")),
    ("Disc 2/Title.mp3", Guess(2, None, "Title")),
    ("Björk - Homogenic/Disc 2 - Live/05 Title.mp3", Guess(2, 5, "Title")),
    ("Homogenic (CD 2)/05 Title.mp3", Guess(2, 5, "Title")),
    ("disk_02/05 Title.mp3", Guess(2, 5, "Title")),
    ("Disc 2/205 Title.mp3", Guess(2, 5, "Title")),
    ("Disc 2/105 Title.mp3", Guess(2, 105, "Title")),
    ("Disc 2/3-05 Title.mp3", Guess(3, 5, "Title")),
    ("CD1/other/05 Title.mp3", Guess(None, 5, "Title")),
    ("ABCD 1/05 Title.mp3", Guess(None, 5, "Title")),
    ("CD2000/05 Title.mp3", Guess(None, 5, "Title")),
    ("CD0/05 Title.mp3", Guess(None, 5, "Title")),
    # artists
    ("03. Artist - Title.mp3", Guess(None, 3, "Title", "Artist")),
    ("03 - Artist - Title.mp3", Guess(None, 3, "Title", "Artist")),
    ("11 - Björk – Jóga.mp3", Guess(None, 11, "Jóga", "Björk")),
    ("(03) [Artist] Title", Guess(None, 3, "Title", "Artist")),
    ("[03] [Artist] Title.mp3", Guess(None, 3, "Title", "Artist")),
    ("Artist - Title.mp3", Guess(None, None, "Title", "Artist")),
    ("日本語 - さくら.mp3", Guess(None, None, "さくら", "日本語")),
    ("Artist - Title - Part 2.mp3", Guess(None, None, "Title - Part 2", "Artist")),
    ("Artist - 03 - Title.mp3", Guess(None, 3, "Title", "Artist")),
    ("Artist - 1-05 - Title.mp3", Guess(1, 5, "Title", "Artist")),
    ("Artist - 03 Title.mp3", Guess(None, 3, "Title", "Artist")),
    ("Pink Floyd - The Wall - 03 - Hey You.mp3", Guess(None, 3, "Hey You", "Pink Floyd")),
    ("Pink Floyd - The Wall - 12 Hey You.mp3", Guess(None, 12, "Hey You", "Pink Floyd")),
    ("Pink Floyd - The Wall - CD2 - 01 - Hey You.mp3", Guess(2, 1, "Hey You", "Pink Floyd")),
    ("01_-_Foo_Fighters_-_My_Hero.mp3", Guess(None, 1, "My Hero", "Foo Fighters")),
    ("01-foo_fighters-my_hero.mp3", Guess(None, 1, "my hero", "foo fighters")),
    ("Jay-Z - 99 Problems.mp3", Guess(None, None, "99 Problems", "Jay-Z")),
    ("03 Come Together - Remastered 2009.m4a", Guess(None, 3, "Come Together - Remastered 2009")),
    ("03 Come Together - 2009 Remaster.m4a", Guess(None, 3, "Come Together - 2009 Remaster")),
    ("08 Alive - Live at the Rainbow.m4a", Guess(None, 8, "Alive - Live at the Rainbow")),
    ("08 Echo - Liverpool.m4a", Guess(None, 8, "Liverpool", "Echo")),
    # numbers that are no tracks
    ("1979.mp3", Guess(None, None, "1979")),
    ("1979 Title.mp3", Guess(None, None, "1979 Title")),
    ("10,000 Days.mp3", Guess(None, None, "10,000 Days")),
    ("7.5 Miles.mp3", Guess(None, None, "7.5 Miles")),
    ("24K Magic.mp3", Guess(None, None, "24K Magic")),
    ("4'33''.flac", Guess(None, None, "4'33''")),
    ("5:15.mp3", Guess(None, None, "5:15")),
    ("Mambo No. 5.mp3", Guess(None, None, "Mambo No. 5")),
    ("Tracks of My Tears.mp3", Guess(None, None, "Tracks of My Tears")),
    ("٠١ Title.mp3", Guess(None, None, "٠١ Title")),
    # what is no extension
    ("Vol.2", Guess(None, None, "Vol.2")),
    ("Mr. Brightside", Guess(None, None, "Mr. Brightside")),
    ("02 Hunter.FLAC", Guess(None, 2, "Hunter")),
    # odd ones
    ("Bjo\u0308rk.mp3", Guess(None, None, "Björk")),
    ("02 Hun\0ter\x1b[31m\u202e.mp3", Guess(None, 2, "Hunter[31m")),
    ("02 \udcffHunter\ud800.mp3", Guess(None, 2, "Hunter")),
    ("02\tHunter\n.mp3", Guess(None, 2, "Hunter")),
    ("", Guess()),
    ("/", Guess()),
    ("\0.mp3", Guess()),
    ("../../etc/passwd", Guess(None, None, "passwd")),
]

ALBUMS: list[tuple[str, AlbumGuess]] = [
    ("Homogenic", AlbumGuess(None, None, "Homogenic")),
    ("1997 - Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    ("1997 – Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    ("1997. Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    ("1997-Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    ("1997-09-22 - Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    ("1997.09.22 Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    ("(1997) Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    ("[1997] Homogenic [FLAC] {CD}", AlbumGuess(None, "1997", "Homogenic")),
    ("Homogenic (1997)", AlbumGuess(None, "1997", "Homogenic")),
    ("Björk - Homogenic", AlbumGuess("Björk", None, "Homogenic")),
    ("Björk - Homogenic (1997)", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - Homogenic [1997-09-22]", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - (1997) Homogenic", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - 1997 - Homogenic", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - 1997 - Homogenic [FLAC]", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - Homogenic - 1997", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - Homogenic - 1997 - FLAC", AlbumGuess("Björk", "1997", "Homogenic")),
    ("1997 - Björk - Homogenic", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - Homogenic (1997) [24-96]", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - Homogenic (1997) [MP3 320 kbps]", AlbumGuess("Björk", "1997", "Homogenic")),
    ("Björk - Homogenic [16bit 44.1kHz]", AlbumGuess("Björk", None, "Homogenic")),
    ("Björk - Homogenic (Deluxe Edition) (1997) [WEB FLAC]", AlbumGuess("Björk", "1997", "Homogenic (Deluxe Edition)")),
    ("Björk - Homogenic [Deluxe Edition]", AlbumGuess("Björk", None, "Homogenic [Deluxe Edition]")),
    ("Björk_-_Homogenic_(1997)", AlbumGuess("Björk", "1997", "Homogenic")),
    ("VA - Now 55 [MP3]", AlbumGuess("Various Artists", None, "Now 55")),
    ("Various - Now 55", AlbumGuess("Various Artists", None, "Now 55")),
    ("Foo_Fighters-The_Colour_And_The_Shape-CD-FLAC-1997-GROUP",
     AlbumGuess("Foo Fighters", "1997", "The Colour And The Shape")),
    ("Foo - Bar - Baz", AlbumGuess("Foo", None, "Bar - Baz")),
    # discs
    ("Homogenic/CD1", AlbumGuess(None, None, "Homogenic")),
    ("Björk - Homogenic/Disc 2 of 3/", AlbumGuess("Björk", None, "Homogenic")),
    ("Homogenic CD1", AlbumGuess(None, None, "Homogenic")),
    ("Homogenic (Disc 2)", AlbumGuess(None, None, "Homogenic")),
    ("Homogenic [CD 2]", AlbumGuess(None, None, "Homogenic")),
    ("Björk - Homogenic - Disc 2", AlbumGuess("Björk", None, "Homogenic")),
    ("CD1", AlbumGuess(None, None, "CD1")),
    ("Music/Björk/1997 - Homogenic", AlbumGuess(None, "1997", "Homogenic")),
    # numbers that are titles
    ("1989", AlbumGuess(None, None, "1989")),
    ("Taylor Swift - 1989", AlbumGuess("Taylor Swift", None, "1989")),
    ("Taylor Swift - 1989 (2014)", AlbumGuess("Taylor Swift", "2014", "1989")),
    ("2014 - 1989", AlbumGuess(None, "2014", "1989")),
    ("1962-1966", AlbumGuess(None, None, "1962-1966")),
    ("2001 A Space Odyssey", AlbumGuess(None, None, "2001 A Space Odyssey")),
    ("2112", AlbumGuess(None, None, "2112")),
    ("Peter Gabriel (2)", AlbumGuess(None, None, "Peter Gabriel (2)")),
    ("Adele - 25", AlbumGuess("Adele", None, "25")),
    ("Chicago (24)", AlbumGuess(None, None, "Chicago (24)")),
    ("Sigur Rós – ( ) [2002]", AlbumGuess("Sigur Rós", "2002", "( )")),
    ("[FLAC]", AlbumGuess(None, None, "[FLAC]")),
    ("The Beatles - Let It Be... Naked", AlbumGuess("The Beatles", None, "Let It Be... Naked")),
    # odd ones
    ("Bjo\u0308rk - Homo\0genic\udcff", AlbumGuess("Björk", None, "Homogenic")),
    ("", AlbumGuess()),
    ("/", AlbumGuess()),
    (" - ", AlbumGuess(None, None, "-")),
    ("\0\ud800", AlbumGuess()),
    ("../..", AlbumGuess(None, None, "..")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "guess"), SONGS, ids=[ascii(name) for name, _ in SONGS])
def test_songs(name: str, guess: Guess) -> None:
    assert guess_song(name) == guess


@pytest.mark.parametrize(("name", "guess"), ALBUMS, ids=[ascii(name) for name, _ in ALBUMS])
def test_albums(name: str, guess: AlbumGuess) -> None:
    assert guess_album(name) == guess


def check(text: str | None) -> None:
    if text is not None:
        assert text == text.strip() != ""
        assert text == unicodedata.normalize("NFC", text)
        assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in text)
        text.encode()


anything = st.text(st.characters(codec=None), max_size=200)
wicked = st.lists(
    st.sampled_from(
        [*"019 -_.()[]{}–~/\\\0\n\u200b\udcff\u0301ıK", "CD", "Disc ", "Track", " - ", "1997", "(1997)", "[FLAC]", "VA",
         "d1t", ".mp3", "01", "Title", "of", "Remaster", "{320}"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(anything | wicked)
def test_nothing_raises(name: str) -> None:
    song, album = guess_song(name), guess_album(name)
    for text in (song.title, song.artist, album.artist, album.album):
        check(text)
    assert song.disc is None or 1 <= song.disc <= 99
    assert song.track is None or 0 <= song.track <= 999
    assert album.year is None or (len(album.year) == 4 and album.year.isascii() and album.year.isdigit())
    if album.year or album.artist:
        assert album.album is not None, "a year or an artist must not eat up the title"


@pytest.mark.parametrize(
    "piece",
    ["0", "1-", "a", " ", "- ", " - ", "[", "]", "[a", "a]", "(1997)", "[FLAC]", "[320]", "11 ", "1.1", "CD1 ", "Disc ",
     "_", "-", "/", "1997 - ", "\u0301\u0323", "\0", "\ud800", ".mp3", "(", "()", "{}", "a.", "Track "],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "!", ")", "]", ".mp3", "x 1997"])
def test_names_that_go_on_and_on(piece: str, end: str) -> None:
    """A pattern that goes back and forth over them would not come to an end."""
    for name in (piece * (100_000 // len(piece)) + end, "01 " + piece * 10_000 + end):
        for text in (guess_song(name).title, guess_album(name).album):
            check(text)
            assert text is None or len(text) <= 2_000
