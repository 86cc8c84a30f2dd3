"""Bodies of any size into the engine from Django views. Put `urlpatterns(uploads)` into your URLconf.

Open the engine in one process: `AppConfig.ready` runs in each worker, and a second one gets `InUse`.
"""

import json
from collections.abc import Callable

from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from stagedoor import Offer, OffsetMismatch, Refused, TaskNotFound, UploadError, Uploads

PIECE = 256 << 10

View = Callable[..., JsonResponse]


def urlpatterns(uploads: Uploads) -> list[URLPattern]:
    """Two addresses: the list to declare at, and each upload."""

    @csrf_exempt  # programs have no cookies: ask for a key of your own instead
    @require_http_methods(["POST"])
    @told
    def declare(request: HttpRequest) -> JsonResponse:
        said = json.loads(request.body)
        task = uploads.initiate(
            Offer(said["id"], filename=said["filename"], contenttype=said["contenttype"], filesize=said["filesize"])
        )
        return JsonResponse({"offset": task.offset}, status=201)

    @csrf_exempt
    @require_http_methods(["GET", "PATCH"])
    @told
    def upload(request: HttpRequest, uploadid: str) -> JsonResponse:
        task = uploads.get(uploadid)
        if request.method == "PATCH":
            inflow = uploads.inflow(uploadid, offset=int(request.headers.get("Upload-Offset", 0)))
            try:
                while piece := request.read(PIECE):  # not request.body, which would take it into memory
                    inflow.write(piece)
                task = inflow.commit()
            finally:
                inflow.close()  # a connection that breaks loses nothing of what came
        return JsonResponse({"offset": task.offset, "state": task.state})

    return [path("uploads", declare), path("uploads/<str:uploadid>", upload)]


def told(view: View) -> View:
    """Turn what the engine refuses into answers."""

    def answer(request: HttpRequest, **more: str) -> JsonResponse:
        try:
            return view(request, **more)
        except UploadError as error:
            status = 404 if isinstance(error, TaskNotFound) else 409 if isinstance(error, Refused) else 500
            expected = error.expected if isinstance(error, OffsetMismatch) else None
            return JsonResponse({"code": error.code, "sentence": error.sentence, "offset": expected}, status=status)

    return answer
