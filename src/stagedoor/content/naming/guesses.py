"""Guesses about files without tags, from the names that people and programs gave them.

Nothing here raises, whatever the name is, and everything takes time in proportion to its length. A guess is shown to
people before anything is done with it; where a name can be read in two ways, the one is taken that loses less.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from attrs import frozen

__all__ = ["AlbumGuess", "Guess", "guess_album", "guess_song"]


@frozen
class Guess:
    """What the name of a song says. Text is NFC without control characters, and never empty.

    Attributes:
        disc: From 1 up.
        track: The number on the disc; 0 for what is hidden before the first song.
        title: Of the song.
        artist: Of the song.
    """

    disc: int | None = None
    track: int | None = None
    title: str | None = None
    artist: str | None = None


@frozen
class AlbumGuess:
    """What the name of a directory says. Text is NFC without control characters, and never empty.

    Attributes:
        artist: Of the album; ``Various Artists`` for those who write ``VA``.
        year: Four digits.
        album: Its title.
    """

    artist: str | None = None
    year: str | None = None
    album: str | None = None


_LONGEST: Final = 1024
"""Characters of a name that are looked at; file systems allow 255."""

# No pattern repeats a repetition, and none is searched for whose parts can overlap: the time is linear.
_EXTENSION: Final = re.compile(
    r"\.(?:aac|ac3|aiff?|alac|ape|caf|dff|dsf|flac|m4[abpv]|mk[av]|mov|mp[1234c]|mpga|oga|ogg|opus|tak|tta|wav|webm|wma"
    r"|wv)",
    re.IGNORECASE,
)
_DASH: Final = re.compile(" [-\u2010-\u2015\u2212~] ")

_DISC_WORD: Final = r"(?:cd|dis[ck]|disque|disco)[ ._#-]{0,3}"
_DISC: Final = re.compile(rf"(?<![^\W_]){_DISC_WORD}([0-9]{{1,2}})(?![0-9])", re.IGNORECASE)
_DISC_ALONE: Final = re.compile(
    rf"[(\[{{]?{_DISC_WORD}[0-9]{{1,2}}(?: ?(?:of|/) ?[0-9]{{1,2}})?[)\]}}]?", re.IGNORECASE
)
_DISC_LAST: Final = re.compile(rf"(?<![^\W_]){_DISC_WORD}[0-9]{{1,2}}$", re.IGNORECASE)

_TRACK_WORD: Final = r"(?:audio ?track|track|titel|piste|pista|spur)[ ._#-]{0,3}"
_NUMBERS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # "Disc 1 Track 02 Title", "CD2 - 05 Title"
        rf"{_DISC_WORD}(?P<disc>[0-9]{{1,2}})[ ._-]{{1,3}}(?:{_TRACK_WORD})?(?P<track>[0-9]{{1,3}})(?![0-9])",
        # "d1t03 Title"
        r"d(?P<disc>[0-9]{1,2})t(?P<track>[0-9]{1,3})(?![0-9])",
        # "Track 3", "Track03 - Title"
        rf"{_TRACK_WORD}(?P<track>[0-9]{{1,3}})(?![0-9])",
        # "(03) Title", "[1-03] Title"
        r"[(\[](?:(?P<disc>[0-9]{1,2})[-.])?(?P<track>[0-9]{1,3})[)\]]",
        # "1-03 Title", "1.03 Title"; tracks of two digits, so that "7.5 Miles" is none; and no dates
        r"(?P<disc>[0-9]{1,2})[-.x](?P<track>[0-9]{2})(?![0-9]|[-.][0-9])",
        # "03 Title", "3. Title", "101 Title"; not "10,000 Days", "7.5 Miles"
        r"(?P<track>[0-9]{1,3})(?![0-9]|[.,:][0-9])",
    )
)
_AFTER_NUMBER: Final = re.compile(" ?[-\u2010-\u2015] ?|[._)\\]] ?| |$")
_MIDDLE: Final = re.compile(r"(?:(?P<disc>[0-9]{1,2})[-.])?(?P<track>[0-9]{1,3})")
_MIDDLE_BEFORE: Final = re.compile(_MIDDLE.pattern + r"(?:[.)] ?| )(?=[^ ])")
_SCENE: Final = re.compile(r"[0-9]{2,3}-[^0-9]")
_BRACKETED: Final = re.compile(r"\[([^\[\]]+)\] ?(?=[^ ])")
# "Come Together - Remastered 2009" is no song by Come Together.
_VERSION: Final = re.compile(
    r"(?:(?:19|20)[0-9]{2} )?(?:(?:digital )?(?:re-?)?master(?:ed)?|remix|live|mono|stereo|acoustic|demo|instrumental"
    r"|outtake|bonus|radio|edit|single version|album version|extended|original|unplugged|reprise|alternate|from|feat)"
    r"(?![^\W_])",
    re.IGNORECASE,
)

_DATE: Final = r"((?:19|20)[0-9]{2})(?:[-.][0-9]{2}[-.][0-9]{2})?"
_ONLY_DATE: Final = re.compile(_DATE)
_DATE_IN_BRACKETS: Final = re.compile(rf" ?[(\[{{]{_DATE}[)\]}}] ?")
# Not "1962-1966"; nor "1984 Something", where the number may be a part of the title.
_DATE_FIRST: Final = re.compile(r"((?:19|20)[0-9]{2})(?:[-.][0-9]{2}[-.][0-9]{2} |[.,] ?(?=[^0-9 ])|-(?=[^0-9 ]))")
_BRACKETS: Final = {")": "(", "]": "[", "}": "{"}

_WORD: Final = re.compile(r"[\w.]+")
_QUANTITY: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:k|khz|hz|kbps|kbit|bits?)", re.IGNORECASE)
_RATES: Final = frozenset(
    {"128", "160", "192", "224", "256", "320", "16", "24", "44", "44.1", "48", "88", "88.2", "96", "176", "176.4"}
)
_TECHNICAL: Final = frozenset(
    {"aac", "aiff", "alac", "ape", "bandcamp", "bit", "bits", "cbr", "cd", "cda", "cdda", "cdrip", "cds", "cue",
     "dl", "dsd", "dvd", "eac", "flac", "hdtracks", "hi", "hires", "hz", "itunes", "kbit", "kbps", "khz", "log",
     "lossless", "lossy", "lp", "m4a", "mp3", "ogg", "opus", "qobuz", "res", "rip", "sacd", "scans", "tidal", "v0",
     "v1", "v2", "vbr", "vinyl", "vorbis", "wav", "web", "webrip", "wma", "wv"}
)  # fmt: skip
_VARIOUS: Final = frozenset({"va", "v.a.", "v.a", "v a", "various", "various artist", "various artists"})


# ── songs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def guess_song(filename: str) -> Guess:
    """Read the name of a song.

    ``01 Title.mp3``, ``1-03 Title.flac``, ``101 Title``, ``03. Artist - Title.mp3``, ``Track 3.wav``,
    ``(03) [Artist] Title`` and the like; the directory above may be ``CD1`` or ``Disc 2``.

    Args:
        filename: A name, or a path with ``/``.
    """
    directories, _, name = filename.rpartition("/")
    stem = _readable(_without_extension(name))
    if " " not in stem:
        if "_" in stem and _SCENE.match(stem):
            stem = stem.replace("-", " - ")  # 01-the_prodigy-breathe
        stem = stem.replace("_", " ")
    disc, track, rest = _number(" ".join(stem.split()), _disc(directories.rpartition("/")[2]))
    parts = _parts(rest)
    found = _BRACKETED.match(rest) if track is not None else None
    if found:
        return Guess(disc, track, _text(rest[found.end() :]), _text(found[1]))
    if track is None:
        for index, part in enumerate(parts[1:], 1):
            last = index == len(parts) - 1
            found = (_MIDDLE_BEFORE.match if last else _MIDDLE.fullmatch)(part)
            # "Artist - 99 Problems" has no number; "Artist - Album - 03 Title" and "Artist - 03 Title" have one.
            if found and (not last or index > 1 or found["track"].startswith("0")):
                inner, track, _ = _number(part, disc)
                disc = inner or next(filter(None, map(_disc, parts[1:index])), None)
                title = " - ".join([part[found.end() :]] if last else parts[index + 1 :])
                return Guess(disc, track, _text(title), parts[0])
    if len(parts) > 1 and not _VERSION.match(parts[1]):
        return Guess(disc, track, " - ".join(parts[1:]), parts[0])
    return Guess(disc, track, _text(rest))


def _without_extension(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return stem if stem and _EXTENSION.fullmatch(dot + extension) else name


def _number(text: str, said: int | None) -> tuple[int | None, int | None, str]:
    """Disc, track, and what comes after them; ``said`` is the disc that the directory says."""
    for pattern in _NUMBERS:
        found = pattern.match(text)
        end = _AFTER_NUMBER.match(text, found.end()) if found else None
        if found is None or end is None:
            continue
        track = int(found["track"])
        disc = int(found.groupdict().get("disc") or 0)
        first, others = divmod(track, 100)
        # "101 Title" is the first song of the first disc; "CD2/101 Title" is on a long disc.
        if not disc and first and others and said in (None, first):
            disc, track = first, others
        return disc or said, track, text[end.end() :].lstrip(" -_\u2013\u2014")
    return said, None, text


def _disc(directory: str) -> int | None:
    found = _DISC.search(_readable(directory))
    return (int(found[1]) or None) if found else None


# ── albums ────────────────────────────────────────────────────────────────────────────────────────────────────────


def guess_album(directory: str) -> AlbumGuess:
    """Read the name of an album's directory.

    ``1997 - Homogenic``, ``Björk - Homogenic (1997)``, ``Björk - 1997 - Homogenic [FLAC]`` and the like.

    Args:
        directory: A name, or a path with ``/``, of which the last counts that is no disc.
    """
    names = [name for name in map(_readable, directory.rsplit("/", 4)) if name]
    while len(names) > 1 and _DISC_ALONE.fullmatch(names[-1]):
        names.pop()
    text = names[-1] if names else ""
    if " " not in text:
        words = [word.replace("_", " ").strip() for word in text.split("-")]
        years = [index for index, word in enumerate(words) if index > 1 and _ONLY_DATE.fullmatch(word)]
        if years and words[0] and words[1]:  # Foo_Fighters-The_Colour_And_The_Shape-CD-FLAC-1997-GROUP
            return AlbumGuess(_artist(words[0]), words[years[0]], _text(words[1]))
        text = " ".join(text.replace("_", " ").split())
    found = _DATE_IN_BRACKETS.search(text)
    year = found[1] if found else None
    text = _shorter(text, f"{text[: found.start()]} {text[found.end() :]}" if found else text)
    text = _without_technical(text)
    parts = _parts(text)
    while len(parts) > 1 and (_DISC_ALONE.fullmatch(parts[-1]) or (len(parts) > 2 and _is_technical(parts[-1]))):
        parts.pop()  # "Artist - Album - CD 1 - FLAC"
    for index, part in enumerate(parts):
        # Of "Taylor Swift - 1989" nothing would be left for the album.
        if year is None and _ONLY_DATE.fullmatch(part) and (index == 0 < len(parts) - 1 or len(parts) > 2):
            year = parts.pop(index)[:4]
            break
    first = _DATE_FIRST.match(parts[0]) if parts and year is None else None
    if first:
        year, parts[0] = first[1], parts[0][first.end() :]
    if parts:
        parts[-1] = _shorter(parts[-1], _DISC_LAST.sub("", parts[-1]))
    if len(parts) > 1:
        return AlbumGuess(_artist(parts[0]), year, _text(" - ".join(parts[1:])))
    return AlbumGuess(None, year, _text(parts[0]) if parts else None)


def _without_technical(text: str) -> str:
    """Without ``[FLAC]``, ``(320 kbps)`` and ``{CD 2}`` at the end."""
    while text and text[-1] in _BRACKETS:
        start = text.rfind(_BRACKETS[text[-1]])
        inner = text[start + 1 : -1].strip()
        if start <= 0 or not (_is_technical(inner) or _DISC_ALONE.fullmatch(inner)):
            break
        text = text[:start].rstrip()
    return text


def _is_technical(text: str) -> bool:
    words = _WORD.findall(text.lower())
    if words in (["16"], ["24"], ["44"], ["48"], ["88"], ["96"]):
        return False  # two digits alone may be anything
    return bool(words) and all(word in _TECHNICAL or word in _RATES or _QUANTITY.fullmatch(word) for word in words)


def _artist(text: str) -> str | None:
    return "Various Artists" if text.lower() in _VARIOUS else _text(text)


# ── both ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _readable(text: str) -> str:
    """What people see of it, with single spaces."""
    spaced = (" " if c.isspace() else c for c in text[:_LONGEST])
    visible = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return " ".join(unicodedata.normalize("NFC", visible).split())


def _parts(text: str) -> list[str]:
    """What is between dashes, without what is empty."""
    return [part for part in (part.strip() for part in _DASH.split(text)) if part]


def _shorter(text: str, without: str) -> str:
    """The text without something, unless nothing would be left."""
    return " ".join(without.split()).strip(" -") or text


def _text(text: str) -> str | None:
    return text.strip() or None
