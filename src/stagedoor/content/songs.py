"""What the songs of an upload are, together: an album guessed from tags and names. No file is opened here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any, Final, cast

import attrs
from attrs import field, frozen
from attrs.validators import ge, instance_of, optional

from ..names import match_key
from ..tasks import JSON, Finding
from . import naming

__all__ = [
    "LONGEST",
    "VARIOUS",
    "AlbumGuess",
    "Track",
    "count",
    "guess_album",
    "in_order",
    "listed",
    "look_at_tracks",
    "short",
    "tracks_from",
    "without_disc",
]

LONGEST: Final = 200
"""Characters of a title or an artist, be it from a tag or from a name."""
VARIOUS: Final = "Various Artists"
"""The album artist of a compilation, as tagging programs write it."""

_whole: Final = (instance_of(int), ge(0))


@frozen(kw_only=True)
class Track:
    """A song in an upload; it is kept as plain JSON in ``task.content``.

    Attributes:
        member: Its number in the archive; ``None`` when the upload is the song.
        name: Its name in the archive, or the upload's; for people.
        extension: The true type.
        size: Bytes.
        sha1: Of its bytes.
        sha256: Of its bytes.
        duration: Seconds.
        codec: FFmpeg's name.
        bitrate: Bits a second.
        lossless: Whether the coding is.
        cover: Whether it carries a picture.
        title: As tagged, else guessed from its name; empty when nobody knows.
        artist: As `title`.
        albumartist: As tagged.
        album: As tagged.
        year: Four digits, as tagged, or empty.
        track: Number on its disc; 0 when nobody knows.
        tracks: How many the disc has, as tagged; 0 when nobody knows.
        disc: Number of its disc; 0 when nobody knows.
        discs: How many discs the album has, as tagged; 0 when nobody knows.
        compilation: As tagged.
        problem: Stable code of what is wrong with it; empty for a sound one.
        reason: What is wrong with it, for people.
    """

    member: int | None = field(default=None, validator=optional(_whole))
    name: str = field(validator=instance_of(str))
    extension: str = field(default="", validator=instance_of(str))
    size: int = field(default=0, validator=_whole)
    sha1: str = field(default="", validator=instance_of(str))
    sha256: str = field(default="", validator=instance_of(str))
    duration: float = field(default=0.0, validator=instance_of((int, float)))
    codec: str = field(default="", validator=instance_of(str))
    bitrate: int = field(default=0, validator=_whole)
    lossless: bool = field(default=False, validator=instance_of(bool))
    cover: bool = field(default=False, validator=instance_of(bool))
    title: str = field(default="", validator=instance_of(str))
    artist: str = field(default="", validator=instance_of(str))
    albumartist: str = field(default="", validator=instance_of(str))
    album: str = field(default="", validator=instance_of(str))
    year: str = field(default="", validator=instance_of(str))
    track: int = field(default=0, validator=_whole)
    tracks: int = field(default=0, validator=_whole)
    disc: int = field(default=0, validator=_whole)
    discs: int = field(default=0, validator=_whole)
    compilation: bool = field(default=False, validator=instance_of(bool))
    problem: str = field(default="", validator=instance_of(str))
    reason: str = field(default="", validator=instance_of(str))

    def to_json(self) -> dict[str, JSON]:
        """For ``task.content``; of a long name both ends."""
        return attrs.asdict(attrs.evolve(self, name=short(self.name)))


def tracks_from(value: JSON) -> tuple[Track, ...] | None:
    """Tracks from ``task.content``; ``None`` when these are none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    try:
        return tuple(Track(**cast("dict[str, Any]", one)) for one in value if isinstance(one, Mapping))
    except (TypeError, ValueError):
        return None


@frozen(kw_only=True)
class AlbumGuess:
    """What the album is, as far as tags and names tell.

    Attributes:
        artist: Of the album; empty when nobody knows.
        album: Title; empty when nobody knows.
        year: Four digits, or empty.
        compilation: By several artists.
        named: Which of these no tag tells, but the name of a directory or of the file: ``artist``, ``album``, ``year``.
    """

    artist: str = ""
    album: str = ""
    year: str = ""
    compilation: bool = False
    named: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """For ``task.content``, with the names of the annotations."""
        return {
            "artistname": self.artist, "albumname": self.album, "release": self.year, "compilation": self.compilation,
            "named": [_ANNOTATIONS[name] for name in self.named],
        }  # fmt: skip


_ANNOTATIONS: Final = {"artist": "artistname", "album": "albumname", "year": "release"}


def guess_album(tracks: Sequence[Track], outside: str = "") -> AlbumGuess:
    """Guess the album.

    Args:
        tracks: The sound ones.
        outside: Name of the archive, without its extension.
    """
    named = _named(tracks, outside)
    artists = _by_key(track.artist for track in tracks)
    credited = _most(track.albumartist for track in tracks)
    compilation = any(track.compilation for track in tracks) or match_key(credited) in _MANY
    if credited:
        artist = VARIOUS if match_key(credited) in _MANY else credited
    elif compilation:
        artist = VARIOUS
    elif len(artists) == 1:
        artist = next(iter(artists.values()))
    elif artists and (main := _main(tracks)):
        artist = main  # the others are guests
    elif artists:
        artist, compilation = VARIOUS, True
    else:
        artist = named.artist or ""
    album, year = _most(track.album for track in tracks), _most(track.year for track in tracks)
    tagged = {
        "artist": credited or compilation or (artists and not all(map(_named_by_file, tracks))),
        "album": album,
        "year": year,
    }
    guess = AlbumGuess(
        artist=artist,
        album=album or named.album or "",
        year=year or named.year or "",
        compilation=compilation,
    )
    said = {"artist": guess.artist, "album": guess.album, "year": guess.year}
    return attrs.evolve(guess, named=tuple(name for name, value in said.items() if value and not tagged[name]))


def _named_by_file(track: Track) -> bool:
    """Whether a song, as far as it can be told, has no tags: what is known of it is what the file's name says."""
    if track.album or track.albumartist or track.year:
        return False
    guess = naming.guess_song(track.name)
    title = guess.title or PurePosixPath(track.name).stem
    return (track.title, track.artist) == (title[:LONGEST], (guess.artist or "")[:LONGEST])


def in_order(tracks: Iterable[Track]) -> list[Track]:
    """By disc, number and name; what has no number comes last on its disc."""
    return sorted(tracks, key=lambda track: (track.disc or 1, track.track or _LAST, _natural(track.name)))


_LAST: Final = 1 << 30
_DIGITS: Final = re.compile("([0-9]{1,9})")


def _natural(name: str) -> list[int | str]:
    """For sorting: ``2`` is before ``10``. Text and numbers take turns."""
    return [int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(name.casefold()))]


_DISC: Final = re.compile(
    r"(?:^|[\s,;:-]*(?:[\s,;:-]|(?=[(\[{])))"  # the beginning, or something between the title and the disc
    r"[(\[{]?(?:cd|dis[ck])[ ._#-]{0,3}([0-9]{1,2})(?: ?(?:of|/) ?[0-9]{1,2})?[)\]}]?$",
    re.IGNORECASE,
)


def without_disc(album: str) -> tuple[str, int]:
    """The title of an album without the disc that is named behind it, and the disc; 0 when none is.

    ``Title (Disc 2)``, ``Title [CD1]``, ``Title, Disc 2 of 3``, ``Title CD 2``. Of nothing but a disc, all is kept.
    """
    found = _DISC.search(album)
    title = album[: found.start()].strip() if found else ""
    return (title, int(found[1])) if found and title else (album, 0)


def _named(tracks: Sequence[Track], outside: str) -> naming.AlbumGuess:
    """What the directory of all songs says, or the archive's name if that says more."""
    directories = list(_common([PurePosixPath(track.name).parts[:-1] for track in tracks]))
    while directories and _DISC.match(directories[-1]):
        directories.pop()
    inner = naming.guess_album(directories[-1] if directories else "")
    outer = naming.guess_album(PurePosixPath(outside.replace("\\", "/")).name)
    if (outer.artist or outer.year or not inner.album) and not (inner.artist or inner.year):
        return outer
    if inner.artist is None and len(directories) > 1:  # Artist/Album/01 Title.mp3
        return attrs.evolve(inner, artist=naming.guess_album(directories[-2]).album)
    return inner


def _common(paths: Sequence[tuple[str, ...]]) -> Sequence[str]:
    """What all of them begin with."""
    first, last = min(paths), max(paths)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return [part for part, _ in same]


_MANY: Final = frozenset({"various artists", "various", "va", "v.a."})
_MAIN: Final = 0.75
"""The share of songs by one artist from which on an album is this artist's."""


def _main(tracks: Sequence[Track]) -> str:
    """The artist of nearly all songs, be it with guests; empty when there is none."""
    main = _most(track.artist for track in tracks)
    key = match_key(main)
    theirs = sum(key == name or _credited_first(key, name) for name in (match_key(track.artist) for track in tracks))
    return main if theirs >= _MAIN * len(tracks) else ""


def _credited_first(key: str, name: str) -> bool:
    """Whether somebody is named first, and others behind: not Queen of Queensrÿche."""
    return name.startswith(key) and not name[len(key)].isalnum()


def _by_key(names: Iterable[str]) -> dict[str, str]:
    return {match_key(name): name for name in names if name}


def _most(names: Iterable[str]) -> str:
    """The name that is there most often, in its most frequent spelling; the first one of several."""
    spellings: dict[str, Counter[str]] = {}
    for name in names:
        if name:
            spellings.setdefault(match_key(name), Counter())[name] += 1
    if not spellings:
        return ""
    return max(spellings.values(), key=lambda counted: counted.total()).most_common(1)[0][0]


def look_at_tracks(tracks: Sequence[Track]) -> list[Finding]:
    """What people should know of, or decide, before these songs become an album."""
    findings = []
    sound = [track for track in tracks if not track.problem]
    broken = [track for track in tracks if track.problem]
    if broken and sound:
        names = listed([f"{track.name[:120]} ({track.reason.rstrip('.')})" for track in broken])
        findings.append(
            Finding(
                "broken_tracks",
                "hold",
                f"{count(len(broken), 'song')} of {len(tracks)} cannot be used: {names}. Import the album without, or "
                "remove the upload and send it again whole.",
                options=("without",),
            )
        )
    albums = _albums(sound)
    if len(albums) > 1:
        findings.append(
            Finding(
                "several_albums",
                "hold",
                f"The tags name {len(albums)} albums: {listed(albums)}. Are all songs one album?",
                options=("one",),
            )
        )
    findings += _numbers_twice(sound)
    findings += _missing_numbers(sound)
    renamed = [t for t in sound if not _fitting(t)]
    if renamed:
        names = listed([f"{track.name[:120]} is {track.extension}" for track in renamed])
        findings.append(Finding("renamed_to_true_type", "warn", f"Named wrongly, and filed as what they are: {names}."))
    copies = Counter(track.sha256 for track in sound)
    twice = [track for track in sound if copies[track.sha256] > 1]
    if twice:
        findings.append(
            Finding(
                "same_song_twice",
                "warn",
                f"The same file is there more than once and is taken once: {listed([t.name for t in twice])}.",
            )
        )
    return findings


def _albums(tracks: Sequence[Track]) -> list[str]:
    """The albums that the tags name. Two of one title are two if they are by two artists."""
    found = {
        (match_key(track.album), "" if track.compilation else match_key(track.albumartist)): track
        for track in tracks
        if track.album
    }
    if len({title for title, _ in found}) == len(found):
        return [track.album for track in found.values()]
    credited = {key for key in found if key[1]}
    return [f"{found[key].album} ({found[key].albumartist})" for key in found if key in credited]


def _numbers_twice(tracks: Sequence[Track]) -> list[Finding]:
    numbered: dict[tuple[int, int], dict[str, str]] = {}
    for track in tracks:
        if track.track:
            numbered.setdefault((track.disc or 1, track.track), {})[track.sha256] = track.name
    twice = [name for names in numbered.values() if len(names) > 1 for name in names.values()]
    if not twice:
        return []
    sentence = f"Several songs have one number: {listed(twice)}. Say which disc they are on, if there are several."
    return [Finding("numbers_twice", "warn", sentence)]


def _fitting(track: Track) -> bool:
    named = track.name.rpartition(".")[2].lower() if "." in track.name else ""
    return not named or named in _NAMES.get(track.extension, (track.extension,))


_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "m4a": ("m4a", "mp4", "m4b", "aac"),
    "ogg": ("ogg", "oga"),
    "opus": ("opus", "ogg", "oga"),
    "aiff": ("aiff", "aif", "aifc"),
    "wav": ("wav", "wave"),
}
"""Names that fit a true type beside itself."""


def _missing_numbers(tracks: Sequence[Track]) -> list[Finding]:
    discs: dict[int, set[int]] = {}
    totals: dict[int, int] = {}
    for track in tracks:
        if track.track:
            disc = track.disc or 1
            discs.setdefault(disc, set()).add(track.track)
            totals[disc] = max(totals.get(disc, 0), track.tracks)
    gone = []
    for disc, numbers in sorted(discs.items()):
        last = max(*numbers, totals[disc], 1)
        if len(tracks) > 1 and last <= _SANE:  # a single song is rarely a whole album, and nobody expects it to be
            lost = sorted(set(range(1, last + 1)) - numbers)
            gone += [f"{disc}-{number}" if disc > 1 or len(discs) > 1 else str(number) for number in lost]
    if not gone:
        return []
    return [Finding("tracks_missing", "warn", f"Of the numbered tracks some are not there: {listed(gone)}.")]


_SANE: Final = 199
"""Numbers above are catalogue numbers, years and mistakes."""


_LONGEST_NAME: Final = 255
"""Characters of a name on record: of 500 songs names of 2 KB would be most of the document."""


def short(name: str) -> str:
    """A name for people; of a long one both ends, because one tells the directory, and the other the type."""
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def count(number: int, what: str) -> str:
    """A number of things, as people write it."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence, the first few of them."""
    shown = ", ".join(name[:240] for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
