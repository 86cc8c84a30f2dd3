"""The catalogue, for looking things up while annotating, and for showing what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, runtime_checkable

from ...library.entries import FIELDS, Album, AlbumContent, Counts, Found, Song, Video
from ...protocols.fields import Answer
from ...protocols.problems import WireError
from ..core import Core
from ..http import Send
from .artwork import send_picture
from .routes import Call, Handler, Media, Param, Reply, Route, json_answer
from .schemas import Schemas, plain

__all__ = ["CATALOGUE", "Browsable", "CatalogueRoutes"]


@runtime_checkable
class Browsable(Protocol):
    """A library that can be looked through, as `stagedoor.library.catalogue.Catalogue`."""

    def counts(self) -> Counts:
        """How much there is."""
        ...

    def search(self, text: str, limit: int = 20) -> tuple[Found, ...]:
        """What has all the words of a text in its names."""
        ...

    def suggest(self, field: str, prefix: str = "", limit: int = 10, *, artist: str | None = None) -> tuple[str, ...]:
        """How an annotation may go on."""
        ...

    def albums(self, *, artist: str | None = None, limit: int = 100, offset: int = 0) -> tuple[Album, ...]:
        """A page of the albums."""
        ...

    def album(self, albumid: str) -> AlbumContent | None:
        """An album and what is on it."""
        ...

    def songs(
        self, *, artist: str | None = None, search: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[Song, ...]:
        """A page of the songs."""
        ...

    def videos(
        self, *, artist: str | None = None, search: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[Video, ...]:
        """A page of the music videos."""
        ...


def _several(name: str, kind: type | None) -> tuple[Media, ...]:
    def schema(schemas: Schemas) -> dict[str, Any]:
        items = {"type": "string"} if kind is None else schemas.of(kind)
        return {"type": "object", "properties": {name: {"type": "array", "items": items}}, "required": [name]}

    return (Media(schema=schema),)


_ARTIST: Final = Param("artist", "Only this artist's, in any spelling.")
_SEARCH: Final = Param("search", "Only those with all these words in their names.")
_LIMIT: Final = Param("limit", "The most to return.", kind="integer", least=1, most=1000, default=100)
_FEW: Final = Param("limit", "The most to return, of each kind.", kind="integer", least=1, most=100, default=20)
_OFFSET: Final = Param("offset", "How many to pass over.", kind="integer", most=10**9, default=0)
_PROBLEMS: Final = (404, 422, 503)

CATALOGUE: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/catalogue",
        "counts",
        "How much the catalogue holds.",
        tag="catalogue",
        replies=(Reply(200, "Numbers.", (Media(schema=lambda s: s.of(Counts)),)),),
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        "/api/catalogue/search",
        "search",
        "Artists, albums, songs and videos that have all the words of a text in their names, the best of each first.",
        tag="catalogue",
        query=(Param("text", "As people type it.", required=True), _FEW),
        replies=(Reply(200, "What was found.", _several("found", Found)),),
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        "/api/catalogue/suggest",
        "suggest",
        "How an annotation may go on.",
        tag="catalogue",
        query=(
            Param("field", "Which annotation.", choices=FIELDS, required=True),
            Param("prefix", "What was typed so far.", default=""),
            Param("artist", "Only of this artist's albums and videos, in any spelling."),
            _FEW,
        ),
        replies=(Reply(200, "Suggestions, best first.", _several("suggestions", None)),),
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        "/api/catalogue/albums",
        "albums",
        "A page of the albums, by artist, year and name.",
        tag="catalogue",
        query=(_ARTIST, _LIMIT, _OFFSET),
        replies=(Reply(200, "The page.", _several("albums", Album)),),
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        "/api/catalogue/albums/{id}",
        "album",
        "An album and what is on it.",
        tag="catalogue",
        inside=(Param("id", "The album's id.", required=True, longest=40),),
        replies=(Reply(200, "The album.", (Media(schema=lambda s: s.of(AlbumContent)),)),),
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        "/api/catalogue/songs",
        "songs",
        "A page of the songs, by name.",
        tag="catalogue",
        query=(_ARTIST, _SEARCH, _LIMIT, _OFFSET),
        replies=(Reply(200, "The page.", _several("songs", Song)),),
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        "/api/catalogue/videos",
        "videos",
        "A page of the music videos, by artist, name and year.",
        tag="catalogue",
        query=(_ARTIST, _SEARCH, _LIMIT, _OFFSET),
        replies=(Reply(200, "The page.", _several("videos", Video)),),
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        "/api/artwork/{path}",
        "artwork",
        "A picture of the artwork directory. A slash in the path is a slash.",
        tag="catalogue",
        inside=(Param("path", "Relative to the artwork directory.", required=True, longest=4096),),
        replies=(
            Reply(
                200,
                "The picture.",
                tuple(Media(f"image/{kind}") for kind in ("jpeg", "png", "webp")),
                {"ETag": "Changes with the file."},
            ),
        ),
        problems=(404, 503),
    ),
)


class CatalogueRoutes:
    """Answers `CATALOGUE`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[str, Handler] = {
            "counts": self._ask(None, lambda library, v: library.counts()),
            "search": self._ask("found", lambda library, v: library.search(v["text"], v["limit"])),
            "suggest": self._ask(
                "suggestions",
                lambda library, v: library.suggest(v["field"], v["prefix"], v["limit"], artist=v["artist"]),
            ),
            "albums": self._ask(
                "albums", lambda library, v: library.albums(artist=v["artist"], limit=v["limit"], offset=v["offset"])
            ),
            "album": self._ask(None, lambda library, v: library.album(v["id"])),
            "songs": self._ask("songs", lambda library, v: library.songs(**v)),
            "videos": self._ask("videos", lambda library, v: library.videos(**v)),
            "artwork": self._artwork,
        }

    def _ask(self, name: str | None, question: Callable[[Browsable, Mapping[str, Any]], object]) -> Handler:
        async def answer(call: Call, send: Send) -> Answer:
            library = self._core.uploads.ports.library
            if not isinstance(library, Browsable):
                raise WireError("The library here cannot be looked through.", status=404, code="no_catalogue")
            found = await self._core.read(question, library, call.values)
            if found is None:
                raise WireError("The catalogue has no such thing.", status=404, code="not_in_catalogue")
            return json_answer(plain(found) if name is None else {name: plain(found)})

        return answer

    async def _artwork(self, call: Call, send: Send) -> Answer | None:
        return await send_picture(self._core, call["path"], call.request, send)
