"""Uploads over plain HTTP: for people with curl, for scripts, and for our page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from attrs import frozen

from ...diagrams import svg
from ...engine import Uploads
from ...errors import StorageError, TaskNotFound
from ...explain import Explanation, explain
from ...lifecycle import ROWS, By, Kind, State, Trigger
from ...protocols.fields import Answer, media_type, number
from ...protocols.messages import encode_task
from ...protocols.offers import guess_contenttype, new_id
from ...protocols.problems import WireError
from ...session import PLANNING_STATES
from ...tasks import Event, Offer, Plan, Step, UploadTask
from ..concatenation import refuse_final
from ..core import Core
from ..http import Request, Send
from .artwork import answer_picture, find_thumbnail, read_cover, send_picture
from .board import LISTED, Board, Line, line_of
from .routes import ID, Call, Handler, Media, Param, Reply, Route, Schema, json_answer
from .schemas import Schemas, plain

__all__ = ["TRIGGERS", "UPLOADS", "UploadRoutes", "etag_of", "task_schema"]


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────────────


def task_schema(schemas: Schemas) -> dict[str, Any]:
    """A whole task, as `encode_task` writes it."""
    schemas.of(Step, without=("token",))
    return schemas.of(UploadTask, without=("foreign",), more={"schema": {"type": "integer", "description": "Of this."}})


def _list_schema(schemas: Schemas) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A page of uploads.",
        "properties": {
            "uploads": {"type": "array", "items": schemas.of(Line)},
            "next": {"type": ["string", "null"], "description": "The cursor of the next page; null on the last one."},
            "counts": {
                "type": "object",
                "description": "Uploads in each state, whatever the filter.",
                "properties": {state.value: {"type": "integer"} for state in LISTED},
                "required": [state.value for state in LISTED],
            },
            "total": {"type": "integer", "description": "All uploads, whatever the filter."},
        },
        "required": ["uploads", "next", "counts", "total"],
    }


def _offered_schema(schemas: Schemas) -> dict[str, Any]:
    place = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "description": "Relative to this server."},
            "method": {"type": "string"},
            "offset": {"type": "integer", "description": "Where to go on, in bytes."},
        },
        "required": ["url", "offset"],
    }
    return {
        "type": "object",
        "description": "An upload, and where its bytes can be sent.",
        "properties": {
            "upload": task_schema(schemas),
            "known": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Where the library has a file with this SHA-1 already. Advice: send it all the same, or "
                "remove the upload.",
            },
            "send": {
                "type": "object",
                "properties": dict.fromkeys(("http", "tus", "resumable", "websocket"), place),
                "required": ["http", "tus", "resumable", "websocket"],
            },
        },
        "required": ["upload", "known", "send"],
    }


def _known_schema(schemas: Schemas) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"sha1": {"type": "string"}, "known": {"type": "array", "items": {"type": "string"}}},
        "required": ["sha1", "known"],
    }


def _history_schema(schemas: Schemas) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"history": {"type": "array", "items": schemas.of(Event)}},
        "required": ["history"],
    }


def _plan_schema(schemas: Schemas) -> dict[str, Any]:
    taken = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Which of its files have names that are taken now, as root/path; empty once it is carried out.",
    }
    return schemas.of(Plan, name="Outlook", more={"taken": taken})


def _of(cls: type) -> Schema:
    return lambda schemas: schemas.of(cls)


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────

_SHA1: Final = "[0-9A-Fa-f]{40}"
_TASK: Final = (Media(schema=task_schema),)
_ANNOTATIONS: Final = Param("annotations", "What to say about the upload, by key.", kind="object", required=True)
_CONTENTTYPE: Final = Param(
    "contenttype",
    "video, album, artwork or a registered one; guessed when it is not said.",
    pattern="[a-z][a-z0-9]{0,31}",
)
_IF_MATCH: Final = "With If-Match, only if the upload is still at that ETag; else 412."


@frozen
class _Action:
    """What a trigger of the table is over HTTP.

    Attributes:
        word: In the path.
        call: What it calls.
        body: What it takes.
        slow: Whether it may take long.
    """

    word: str
    call: Callable[[Uploads, str, Mapping[str, Any]], UploadTask]
    body: tuple[Param, ...] = ()
    slow: bool = False


_IMPORT: Final = (Param("trigger_import", "Whether the import follows.", kind="boolean", default=False),)

_ACTIONS: Final[Mapping[Trigger, _Action]] = {
    Trigger.ANNOTATE: _Action("annotate", lambda u, i, v: u.annotate(i, v["annotations"]), (_ANNOTATIONS,)),
    Trigger.DECLARE: _Action(
        "declare",
        lambda u, i, v: u.declare(i, filesize=v.get("filesize"), sha1=v.get("sha1")),
        (
            Param("filesize", "In bytes.", kind="integer"),
            Param("sha1", "Of the whole file, 40 hexadecimal digits.", pattern=_SHA1),
        ),
    ),
    Trigger.REQUEST: _Action(
        "request", lambda u, i, v: u.request(i, trigger_import=v["trigger_import"]), _IMPORT, slow=True
    ),
    Trigger.INTEGRATE: _Action(
        "integrate", lambda u, i, v: u.integrate(i, trigger_import=v["trigger_import"]), _IMPORT, slow=True
    ),
    Trigger.START_IMPORT: _Action("start_import", lambda u, i, v: u.start_import(i)),
    Trigger.RETRY: _Action("retry", lambda u, i, v: u.retry(i)),
    Trigger.REQUEST_UNDO: _Action("undo", lambda u, i, v: u.undo(i), slow=True),
    Trigger.REMOVE: _Action("remove", lambda u, i, v: u.remove(i)),
}

TRIGGERS: Final[tuple[Trigger, ...]] = (
    *(t for t in dict.fromkeys(row.trigger for row in ROWS if By.CLIENT in row.by) if t is not Trigger.CHUNK),
    Trigger.INTEGRATE,
)
"""The client's triggers of the table, each of which is a route; bytes have routes of their own. ``integrate`` is the
worker's: here it means to ask for it and to wait until it is done."""


def _trigger_route(trigger: Trigger) -> Route:
    action = _ACTIONS[trigger]
    rows = [row for row in ROWS if row.trigger is trigger]
    doc = " ".join(dict.fromkeys(row.doc for row in rows if row.kind is not Kind.FAILURE))
    states = ", ".join(dict.fromkeys(row.source.value for row in rows))
    return Route(
        "POST",
        f"/api/uploads/{{id}}/{action.word}",
        action.word,
        f"{doc}\n\nPossible in: {states}. {_IF_MATCH}",
        tag="uploads",
        inside=(ID,),
        body=action.body,
        replies=(Reply(200, "The upload as it is then.", _TASK),),
        problems=(404, 409, 412, 413, 415, 422, 500, 503, 507),
    )


UPLOADS: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/uploads",
        "list_uploads",
        "A page of all uploads, but for those that are being removed.\n\n"
        "A page that was filtered may be short, or empty, and still have a next one: one request looks at a bounded "
        "number of uploads.",
        tag="uploads",
        query=(
            Param("state", "Only these states.", kind="list", choices=tuple(state.value for state in LISTED)),
            Param("contenttype", "Only this content type.", longest=32),
            Param("text", "Only those with all these words in id, file name, names or message.", longest=200),
            Param("order", "By id, or the newest change first.", choices=("id", "newest"), default="id"),
            Param("limit", "The most uploads on the page.", kind="integer", least=1, most=1000, default=100),
            Param("cursor", "`next` of the page before; the other parameters must be the same.", longest=200),
        ),
        replies=(Reply(200, "The page.", (Media(schema=_list_schema),)),),
        problems=(503,),
    ),
    Route(
        "POST",
        "/api/uploads",
        "initiate",
        "Declare an upload, or take one up that was declared before.\n\n"
        "The answer says where its bytes can be sent over each wire, and whether the library has such a file already.",
        tag="uploads",
        body=(
            Param("id", "Chosen by the client; a random one when it is not said.", pattern=ID.pattern, longest=128),
            Param("filename", "Of the source file; its extension counts.", required=True),
            _CONTENTTYPE,
            Param("filesize", "In bytes; may come later.", kind="integer", least=1, null=True),
            Param("sha1", "Of the whole file; may come later, or never.", pattern=_SHA1, null=True),
            Param("mimetype", "Advice.", default="application/octet-stream"),
            Param("annotations", "What is known already.", kind="object"),
        ),
        replies=(
            Reply(201, "It is new.", (Media(schema=_offered_schema),), {"Location": "Of the upload in this API."}),
            Reply(200, "It was declared before.", (Media(schema=_offered_schema),)),
        ),
        problems=(403, 409, 413, 415, 503, 507),
    ),
    Route(
        "GET",
        "/api/uploads/{id}",
        "get_upload",
        "The whole upload. Its paths are relative to their directories.",
        tag="uploads",
        inside=(ID,),
        replies=(Reply(200, "The upload.", _TASK, {"ETag": "Changes with the upload."}),),
        problems=(404, 503),
    ),
    Route(
        "PATCH",
        "/api/uploads/{id}",
        "patch_upload",
        "Say something about an upload.\n\n"
        "Keys of `annotations` are merged over those that are there, one level deep; a key is never taken away, and "
        "null is a value. So this is no merge patch (RFC 7396), and only application/json is taken. " + _IF_MATCH,
        tag="uploads",
        inside=(ID,),
        body=(_ANNOTATIONS,),
        replies=(Reply(200, "The upload as it is then.", _TASK, {"ETag": "Changes with the upload."}),),
        problems=(404, 409, 412, 413, 415, 503, 507),
    ),
    Route(
        "DELETE",
        "/api/uploads/{id}",
        "delete_upload",
        "Remove an upload. What it brought into the library stays; to take that back, undo first. " + _IF_MATCH,
        tag="uploads",
        inside=(ID,),
        replies=(Reply(204, "It is being removed, and its id is no longer valid."),),
        problems=(404, 409, 412, 503, 507),
    ),
    Route(
        "PUT",
        "/api/uploads/{id}/data",
        "put_data",
        "Send a file, or the rest of it, in one request; an upload that was not declared yet is.\n\n"
        "`curl -T film.mp4 'http://127.0.0.1:8337/api/uploads/my-film/data?filename=film.mp4'`. What came of a request "
        "that broke off is kept: ask for the offset, and send the rest with `offset`.",
        tag="uploads",
        inside=(ID,),
        query=(
            Param("filename", "Of the source file, for a new upload; else its id."),
            _CONTENTTYPE,
            Param("sha1", "Of the whole file, for a new upload.", pattern=_SHA1),
            Param("offset", "Where the body belongs, in bytes.", kind="integer", default=0),
        ),
        raw=True,
        replies=(
            Reply(201, "It was declared with this request.", _TASK, {"Location": "Of the upload in this API."}),
            Reply(200, "It was declared before.", _TASK),
        ),
        problems=(403, 404, 408, 409, 413, 415, 422, 500, 503, 507),
    ),
    Route(
        "GET",
        "/api/uploads/{id}/plan",
        "plan",
        "What integration would do, or did. Nothing is touched.",
        tag="uploads",
        inside=(ID,),
        replies=(Reply(200, "The plan.", (Media(schema=_plan_schema),)),),
        problems=(404, 409, 422, 503),
    ),
    Route(
        "GET",
        "/api/uploads/{id}/history",
        "history",
        "What happened to an upload, oldest first.",
        tag="uploads",
        inside=(ID,),
        replies=(Reply(200, "The history.", (Media(schema=_history_schema),)),),
        problems=(404, 503),
    ),
    Route(
        "GET",
        "/api/uploads/{id}/explain",
        "explain",
        "Why an upload is where it is, what happens next, and what may be done about it, in sentences.",
        tag="uploads",
        inside=(ID,),
        replies=(Reply(200, "The explanation.", (Media(schema=_of(Explanation)),)),),
        problems=(404, 503),
    ),
    Route(
        "GET",
        "/api/uploads/{id}/diagram.svg",
        "upload_diagram",
        "The life cycle, with the way that an upload took.",
        tag="uploads",
        inside=(ID,),
        replies=(Reply(200, "The picture.", (Media("image/svg+xml"),)),),
        problems=(404, 503),
    ),
    Route(
        "GET",
        "/api/uploads/{id}/thumbnail",
        "thumbnail",
        "A small picture of what an upload brought, once its artwork is there.\n\n"
        "Of a cover that was found fine and waits for its import: what was sent, if it has at most 8 MiB.",
        tag="uploads",
        inside=(ID,),
        replies=(Reply(200, "The picture.", tuple(Media(f"image/{kind}") for kind in ("jpeg", "png", "webp"))),),
        problems=(404, 503),
    ),
    *(_trigger_route(trigger) for trigger in TRIGGERS),
    Route(
        "GET",
        "/api/known/{sha1}",
        "known",
        "Whether the library has a file with this SHA-1, or one from an upload with it. Advice, no proof.",
        tag="uploads",
        inside=(Param("sha1", "40 hexadecimal digits.", pattern=_SHA1, required=True, longest=40),),
        replies=(Reply(200, "Where it is; empty when it is not.", (Media(schema=_known_schema),)),),
        problems=(503,),
    ),
)

SVG_HEADERS: Final = (
    ("Content-Type", "image/svg+xml"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
)
"""Of our own pictures. Their style sheet is inside; opened by itself such a picture can do nothing."""


def etag_of(task: UploadTask) -> str:
    """Changes whenever the answer does; progress changes no document, so the offset counts as well."""
    return f'"{task.uid}.{task.revision}.{task.offset}"'


class UploadRoutes:
    """Answers `UPLOADS`."""

    def __init__(self, core: Core, board: Board) -> None:
        self._core, self._board, self._uploads = core, board, core.uploads
        self.handlers: dict[str, Handler] = {
            "list_uploads": self._list,
            "initiate": self._initiate,
            "get_upload": self._get,
            "patch_upload": self._patch,
            "delete_upload": self._delete,
            "put_data": self._put,
            "plan": self._plan,
            "history": self._history,
            "explain": self._explain,
            "upload_diagram": self._diagram,
            "thumbnail": self._thumbnail,
            "known": self._known,
            **{action.word: self._trigger(action) for action in _ACTIONS.values()},
        }

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _list(self, call: Call, send: Send) -> Answer:
        def page() -> dict[str, Any]:
            self._board.fill()
            found = self._board.page(
                states=tuple(State(state) for state in call["state"]) if call["state"] else LISTED,
                contenttype=call["contenttype"],
                text=call["text"],
                order=call["order"],
                limit=call["limit"],
                cursor=call["cursor"],
            )
            counts = self._board.counts()
            lines = [line_of(task) for task in found.tasks]
            return {"uploads": lines, "next": found.next, "counts": counts, "total": sum(counts.values())}

        return json_answer(await self._core.read(page))

    async def _find(self, uploadid: str) -> UploadTask:
        """An upload; unlike `Uploads.get`, whoever asks for one that is not there is heard by nobody else."""
        task = await self._core.read(self._uploads.find, uploadid)
        if task is None:
            raise TaskNotFound(uploadid)
        return task

    async def _get(self, call: Call, send: Send) -> Answer:
        return _task(await self._find(call["id"]))

    async def _plan(self, call: Call, send: Send) -> Answer:
        task = await self._find(call["id"])

        def plan() -> dict[str, Any]:
            found = self._uploads.plan(task.id)
            # What is on record is being carried out, or was: files of its own are in nobody's way.
            ahead = task.state in PLANNING_STATES and found != task.plan
            return {**plain(found), "taken": list(_taken(self._uploads, found)) if ahead else []}

        return json_answer(await self._core.step(task.id, plan))

    async def _history(self, call: Call, send: Send) -> Answer:
        return json_answer({"history": plain((await self._find(call["id"])).history)})

    async def _explain(self, call: Call, send: Send) -> Answer:
        task = await self._find(call["id"])
        return json_answer(plain(await self._core.read(explain, self._uploads, task)))

    async def _diagram(self, call: Call, send: Send) -> Answer:
        task = await self._find(call["id"])

        def draw() -> bytes:
            return svg(task=task).encode()

        return Answer(200, (*SVG_HEADERS, ("Cache-Control", "no-store")), await self._core.read(draw))

    async def _thumbnail(self, call: Call, send: Send) -> Answer | None:
        task = await self._find(call["id"])
        path = await self._core.read(find_thumbnail, self._uploads, task)
        if path is None and (sent := await self._core.read(read_cover, self._uploads, task)) is not None:
            return answer_picture(sent, etag_of(task), call.request)
        if path is None:
            raise WireError(f"There is no picture of {task.id} (yet).", status=404, code="no_picture")
        return await send_picture(self._core, path, call.request, send)

    async def _known(self, call: Call, send: Send) -> Answer:
        sha1 = call["sha1"].lower()
        return json_answer({"sha1": sha1, "known": list(await self._core.read(self._uploads.known, sha1))})

    # ── doing ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _initiate(self, call: Call, send: Send) -> Answer:
        offer = Offer(
            call["id"] or new_id(),
            filename=call["filename"],
            contenttype=call["contenttype"] or guess_contenttype(call["mimetype"], call["filename"]),
            filesize=call["filesize"],
            sha1=call["sha1"],
            mimetype=call["mimetype"],
            annotations=call["annotations"] or {},
        )

        def initiate() -> tuple[bool, UploadTask, list[str]]:
            known = [] if offer.sha1 is None else list(self._uploads.known(offer.sha1))
            new = self._uploads.find(offer.id) is None
            return new, self._uploads.initiate(offer), known

        new, task, known = await self._core.event(offer.id, initiate)
        mount = call.request.mount
        places = {
            "http": {"url": f"{mount}/api/uploads/{task.id}/data", "method": "PUT", "offset": task.offset},
            "tus": {"url": f"{mount}/files/{task.id}", "method": "PATCH", "offset": task.offset},
            "resumable": {"url": f"{mount}/uploads/{task.id}", "method": "PATCH", "offset": task.offset},
            "websocket": {"url": f"{mount}/ws", "offset": task.offset},
        }
        body = b'{"upload":%b,"known":%b,"send":%b}' % (encode_task(task), *map(_raw, (known, places)))
        headers = (("Location", f"{mount}/api/uploads/{task.id}"),) if new else ()
        return json_answer(body, 201 if new else 200, headers)

    async def _patch(self, call: Call, send: Send) -> Answer:
        return await self._fire(call, _ACTIONS[Trigger.ANNOTATE])

    async def _delete(self, call: Call, send: Send) -> Answer:
        await self._fire(call, _ACTIONS[Trigger.REMOVE])
        return Answer(204)

    def _trigger(self, action: _Action) -> Handler:
        async def fire(call: Call, send: Send) -> Answer:
            return await self._fire(call, action)

        return fire

    async def _fire(self, call: Call, action: _Action) -> Answer:
        uploadid, wanted = call["id"], call.request.headers.get("if-match")

        def fire() -> UploadTask:
            if wanted is not None:
                _check_match(wanted, self._uploads.find(uploadid))
            return action.call(self._uploads, uploadid, call.values)

        happen = self._core.step if action.slow else self._core.event
        return _task(await happen(uploadid, fire))

    async def _put(self, call: Call, send: Send) -> Answer:
        request, uploadid = call.request, call["id"]
        if request.headers.get("content-encoding", "identity") != "identity":
            raise WireError(
                "Send the file as it is, without a Content-Encoding.",
                status=415,
                code="unsupported_media_type",
                headers=(("Accept-Encoding", "identity"),),
            )
        if "content-range" in request.headers:  # RFC 9110, section 14.5
            raise WireError("Say where the body belongs with the parameter offset, not with Content-Range.")
        found = await self._core.read(self._uploads.find, uploadid)
        new = found is None
        if found is not None:
            refuse_final(found)
        else:
            await self._core.event(uploadid, self._uploads.initiate, _offer_of(call, request))
        task = await self._core.take_in(self._uploads, uploadid, request.body, offset=call["offset"])
        if task.filesize is None and task.state is State.WAITFORCHUNK:  # the body said where the file ends
            task = await self._core.event(uploadid, self._uploads.declare, uploadid, filesize=task.offset)
        headers = (("Location", f"{request.mount}/api/uploads/{uploadid}"),) if new else ()
        return json_answer(encode_task(task), 201 if new else 200, headers)


def _offer_of(call: Call, request: Request) -> Offer:
    mimetype = media_type(request.headers.get("content-type", "")) or "application/octet-stream"
    filename = call["filename"] or call["id"]
    length = request.headers.get("content-length")
    return Offer(
        call["id"],
        filename=filename,
        contenttype=call["contenttype"] or guess_contenttype(mimetype, filename),
        filesize=None if length is None else call["offset"] + number("Content-Length", length),
        sha1=call["sha1"],
        mimetype=mimetype,
    )


def _taken(uploads: Uploads, plan: Plan) -> Iterator[str]:
    for file in (*plan.files, *plan.artwork):
        tree = uploads.ports.trees.get(file.root)
        with suppress(StorageError):  # whoever plans says what is wrong there
            if tree is not None and tree.exists(file.path):
                yield f"{file.root}/{file.path}"


def _check_match(wanted: str, task: UploadTask | None) -> None:
    """RFC 9110, section 13.1.1. Asked just before the engine is: merging keys needs no more."""
    if task is not None and (wanted.strip() == "*" or etag_of(task) in (tag.strip() for tag in wanted.split(","))):
        return
    raise WireError(
        "The upload has changed since you looked at it. Look again, and decide anew.",
        status=412,
        code="precondition_failed",
    )


def _task(task: UploadTask) -> Answer:
    return json_answer(encode_task(task), headers=(("ETag", etag_of(task)),))


def _raw(value: object) -> bytes:
    return json_answer(value).body
