"""Bodies of any size into the engine from Flask views; Flask's own threads do the work."""

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from stagedoor import Offer, OffsetMismatch, Refused, TaskNotFound, UploadError, Uploads

PIECE = 256 << 10


def create(uploads: Uploads) -> Flask:
    """The application; who opens the engine closes it."""
    app = Flask(__name__)

    @app.post("/uploads")
    def declare() -> ResponseReturnValue:
        told = request.get_json()
        task = uploads.initiate(
            Offer(told["id"], filename=told["filename"], contenttype=told["contenttype"], filesize=told["filesize"])
        )
        return jsonify(offset=task.offset), 201

    @app.patch("/uploads/<uploadid>")
    def receive(uploadid: str) -> ResponseReturnValue:
        inflow = uploads.inflow(uploadid, offset=request.headers.get("Upload-Offset", 0, int))
        try:
            while piece := request.stream.read(PIECE):
                inflow.write(piece)
            task = inflow.commit()
        finally:
            inflow.close()  # a connection that breaks loses nothing of what came
        return jsonify(offset=task.offset, state=task.state)

    @app.get("/uploads/<uploadid>")
    def show(uploadid: str) -> ResponseReturnValue:
        task = uploads.get(uploadid)
        return jsonify(offset=task.offset, state=task.state)

    @app.errorhandler(UploadError)
    def refuse(error: UploadError) -> ResponseReturnValue:
        expected = error.expected if isinstance(error, OffsetMismatch) else None
        status = 404 if isinstance(error, TaskNotFound) else 409 if isinstance(error, Refused) else 500
        return jsonify(code=error.code, sentence=error.sentence, offset=expected), status

    return app
