"""Schemes: where songs, videos and pictures go. One for MusicDB, and one each for what other servers are used to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

from ...errors import ConfigurationError
from .templates import FieldRejected, Template, Value

__all__ = ["COVER_FIELDS", "SCHEMES", "SONG_FIELDS", "VIDEO_FIELDS", "Scheme"]

SONG_FIELDS: Final[Mapping[str, str]] = {
    "albumartist": "the artist of the album",
    "artist": "the artist of the song",
    "album": "the title of the album",
    "year": "the year of the release",
    "disc": "the number of the disc, of albums with several",
    "track": "the number of the song on its disc",
    "title": "the title of the song",
}
VIDEO_FIELDS: Final[Mapping[str, str]] = {
    "artist": "the artist",
    "year": "the year of the release",
    "title": "the title of the video",
}
COVER_FIELDS: Final[Mapping[str, str]] = {
    "albumartist": "the artist of the album",
    "album": "the title of the album",
    "year": "the year of the release",
}

_KINDS: Final = {
    "song": (SONG_FIELDS, "title"),
    "compilation": (SONG_FIELDS, "title"),
    "video": (VIDEO_FIELDS, "title"),
    "cover": (COVER_FIELDS, "album"),
    "pictures": (VIDEO_FIELDS, "title"),
}
"""By attribute of a scheme: the fields that its template may use, and the one without which names would collide."""


@frozen(kw_only=True)
class Scheme:
    """Templates for everything that is placed in the library.

    Attributes:
        name: Of the preset that it is, or ``custom``.
        song: Songs in the music directory; fields are `SONG_FIELDS`.
        compilation: Songs of albums by several artists; as `song` when ``None``.
        video: Videos in the music directory; fields are `VIDEO_FIELDS`.
        cover: Covers of albums in the artwork directory; fields are `COVER_FIELDS`.
        pictures: The directory of a video's pictures in the artwork directory; fields are `VIDEO_FIELDS`.
    """

    name: str
    song: Template
    video: Template
    cover: Template
    pictures: Template
    compilation: Template | None = None

    @classmethod
    def custom(
        cls,
        *,
        preset: str = "musicdb",
        song: str | None = None,
        compilation: str | None = None,
        video: str | None = None,
        cover: str | None = None,
        pictures: str | None = None,
    ) -> Scheme:
        """A preset with some templates replaced.

        Args:
            preset: A key of `SCHEMES`.
            song: A template, as are the others; what is left out stays as in the preset.
            compilation: ``""`` to file compilations like other albums.
            video: See above.
            cover: See above.
            pictures: See above.

        Raises:
            ConfigurationError: ``invalid_template``, or ``unknown_scheme``.
        """
        base = SCHEMES.get(preset) if isinstance(preset, str) else None
        if base is None:
            raise ConfigurationError(
                f"There is no naming scheme {str(preset)[:60]!r}. Choose one of these: {', '.join(SCHEMES)}.",
                code="unknown_scheme",
            )
        if all(text is None for text in (song, compilation, video, cover, pictures)):
            return base

        def given(kind: str, text: str | None, inherited: Template) -> Template:
            return inherited if text is None else _parse(kind, text)

        filed_apart = _parse("compilation", compilation) if compilation else None
        return cls(
            name="custom",
            song=given("song", song, base.song),
            video=given("video", video, base.video),
            cover=given("cover", cover, base.cover),
            pictures=given("pictures", pictures, base.pictures),
            compilation=base.compilation if compilation is None else filed_apart,
        )

    def for_songs(self, *, compilation: bool = False) -> Template:
        """The template for the songs of an album."""
        return self.compilation if compilation and self.compilation is not None else self.song

    def song_path(
        self, values: Mapping[str, Value], extension: str, *, compilation: bool = False, there: Iterable[str] = ()
    ) -> str:
        """The path of a song in the music directory; its artist and that of the album stand in for each other.

        Args:
            values: By field. ``disc`` is ``None`` when the album has one disc, ``track`` when nobody knows it.
            extension: Of the file.
            compilation: Whether the album is by several artists.
            there: As `Template.path`.

        Raises:
            ContentRejected: As `Template.path`.
        """
        return self.for_songs(compilation=compilation).path(_with_artists(values), extension, there=there)

    def song_problems(self, values: Mapping[str, Value], *, compilation: bool = False) -> tuple[FieldRejected, ...]:
        """What `song_path` would raise, for all fields at once."""
        return self.for_songs(compilation=compilation).problems(_with_artists(values))


def _with_artists(values: Mapping[str, Value]) -> Mapping[str, Value]:
    artist, albumartist = (
        None if isinstance(value, str) and not value.strip() else value
        for value in (values.get("artist"), values.get("albumartist"))
    )
    return {
        **values,
        "artist": albumartist if artist is None else artist,
        "albumartist": artist if albumartist is None else albumartist,
    }


def _parse(kind: str, text: str) -> Template:
    fields, required = _KINDS[kind]
    return Template.parse(text, fields=fields, required=[required])


def _scheme(name: str, *, compilation: str | None = None, **templates: str) -> Scheme:
    parsed = {kind: _parse(kind, text) for kind, text in templates.items()}
    return Scheme(name=name, compilation=_parse("compilation", compilation) if compilation else None, **parsed)


# Videos and their pictures are MusicDB's everywhere: beets and Navidrome know none, and in a library of music videos of
# Jellyfin folders and files "can be named however you want" (https://jellyfin.org/docs/general/server/media/music-videos).
_VIDEO: Final = "{artist}/{year} - {title}"

# The name that beets gives to covers (`art_filename`), and under which Navidrome (`CoverArtPriority`) and Jellyfin look
# for one beside the songs; the artwork directory is laid out like the music directory.
_COVER: Final = "{albumartist}/{album}/cover"

SCHEMES: Final[Mapping[str, Scheme]] = {
    scheme.name: scheme
    for scheme in (
        # The scheme of MusicDB's music directory: "Artist/YYYY - Album/[C-]N Title.ext", C the disc of albums with
        # several, N the plain number of the track; "Artist/YYYY - Name.ext"; "Artist - Album.jpg".
        _scheme(
            "musicdb",
            song="{albumartist}/{year} - {album}/[{disc}-][{track} ]{title}",
            video=_VIDEO,
            cover="{albumartist} - {album}",
            pictures=_VIDEO,
        ),
        # Navidrome goes by tags alone; for one's own sanity its guidelines recommend folders "Artist/Album/" and names
        # like "01 - Song Title.mp3" (https://www.navidrome.org/docs/usage/library/tagging/, "File and Folder Naming").
        # About discs they say nothing; a number in front keeps "01 - Intro" apart from "01 - Intro".
        _scheme(
            "navidrome",
            song="{albumartist}/{album}/[{disc}-][{track:02} - ]{title}",
            video=_VIDEO,
            cover=_COVER,
            pictures=_VIDEO,
        ),
        # The defaults of beets: "$albumartist/$album%aunique{}/$track $title", and for compilations
        # "Compilations/$album%aunique{}/$track $title" (https://beets.readthedocs.io/en/stable/reference/config.html,
        # "paths", and `beets/config_default.yaml`). Numbers count through all discs there (`per_disc_numbering: no`);
        # here they count from one on each, so the disc is in front. `%aunique{}` has to look into the library.
        _scheme(
            "beets",
            song="{albumartist}/{album}/[{disc}-][{track:02} ]{title}",
            compilation="Compilations/{album}/[{disc}-][{track:02} ]{title}",
            video=_VIDEO,
            cover=_COVER,
            pictures=_VIDEO,
        ),
        # Jellyfin wants one folder an album, and "the tracks for all discs in one folder", as in "Disc 1 Track 1.ogg";
        # other names do not matter to it (https://jellyfin.org/docs/general/server/media/music/, "Discs").
        _scheme(
            "jellyfin",
            song="{albumartist}/{album}/[Disc {disc} ][Track {track:02} ]{title}",
            video=_VIDEO,
            cover=_COVER,
            pictures=_VIDEO,
        ),
    )
}
"""The presets by name. ``musicdb`` is the default."""
