"""The decoder's child process: the only place where strangers' bytes meet FFmpeg, Pillow and archives.

`stagedoor.content.decoding.pool` runs this package as a program of its own (``python -I -S child FD PARENT``), by path
and not with ``-m``: importing it as a part of the library would load the whole library into a process that must
know nothing. So it imports the standard library, itself, and the media libraries once they can be found.

It reads one configuration from its socket, imports, uses everything once so that nothing is left to be loaded,
locks itself in (`confine`), says how, and then serves requests one after the other: a JSON document and the
input as a file descriptor, answered by a JSON document and blobs, or by a stream. It is told no path and can open
none.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any

from .archive import extract_archive, list_archive
from .archive import warm_up as warm_up_archives
from .audio import embedded_cover, probe_audio
from .audio import warm_up as warm_up_audio
from .common import Answer, Frame, Input, Operation, RejectedError, Streaming
from .image import make_cover, probe_image
from .image import warm_up as warm_up_images
from .sandbox import PR_SET_PDEATHSIG, confine, prctl
from .video import image_of, probe_video, video_artwork

MAX_REQUEST = 1 << 16
_RENEWAL = 64 << 20
"""Bytes of a stream, sent or said to have been passed over, after which it has its processor time anew."""


def _warm_up() -> None:
    """Use once what is loaded at its first use; afterwards no file can be opened."""
    from PIL import Image, JpegImagePlugin, WebPImagePlugin  # noqa: F401 (registers the two formats)

    Image.preinit()
    picture = Image.new("RGB", (16, 16))
    for form, options in (("JPEG", {"progressive": True}), ("WEBP", {"save_all": True, "append_images": [picture]})):
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        Image.open(buffer, formats=(form,)).load()
    warm_up_images()
    warm_up_archives()
    import av

    # PyAV imports a module for each kind of stream when it meets the first one.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    warm_up_audio()
    frame = av.VideoFrame(16, 16, "yuv420p")
    image_of(frame, (8, 8)).resize((4, 4), Image.Resampling.LANCZOS)
    "\N{LATIN SMALL LETTER A}".encode("utf-8", "replace").decode("utf-8", "replace")


OPERATIONS: dict[str, Operation] = {
    "embedded_cover": embedded_cover,
    "make_cover": make_cover,
    "probe_audio": probe_audio,
    "probe_image": probe_image,
    "probe_video": probe_video,
    "video_artwork": video_artwork,
}
STREAMS: dict[str, Streaming] = {
    "extract_archive": extract_archive,
    "list_archive": list_archive,
}


# ── the protocol ──────────────────────────────────────────────────────────────────────────────────────────────


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A request: four bytes of length, big-endian, and JSON; a descriptor comes along. ``None`` at the end."""
    data, fds, _, _ = socket.recv_fds(connection, 4 + MAX_REQUEST, 2)
    while data and (len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big")):
        more = connection.recv(4 + MAX_REQUEST)
        if not more:
            return None
        data += more
    return (json.loads(data[4:]), fds) if data else None


def send(connection: socket.socket, document: Mapping[str, Any], blobs: list[bytes]) -> None:
    """An answer: four bytes of length, big-endian, and JSON with the lengths of the blobs; then the blobs."""
    raw = json.dumps({**document, "blobs": [len(blob) for blob in blobs]}).encode()
    connection.sendall(len(raw).to_bytes(4, "big") + raw)
    for blob in blobs:
        connection.sendall(blob)


def _where(error: BaseException) -> str:
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {error} in {' '.join(lines)}"[:1000]


def send_frame(connection: socket.socket, frame: Frame, *, last: bool = False) -> None:
    """A frame of a stream: ``B`` for bytes, ``D`` for a document, ``E`` for the last one; the length; the frame."""
    raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    kind = b"B" if isinstance(frame, bytes) else b"E" if last else b"D"
    connection.sendall(struct.pack(">cI", kind, len(raw)))
    connection.sendall(raw)


def _work(connection: socket.socket, request: Mapping[str, Any], source: Input, settings: Mapping[str, Any]) -> Answer:
    """Do what is asked; a stream is sent as it comes."""
    name, arguments = request["operation"], request["arguments"]
    if name in OPERATIONS:
        answer, blobs = OPERATIONS[name](source, arguments, settings)
        return {"answer": answer}, blobs
    sent = 0
    for frame in STREAMS[name](source, arguments, settings):
        send_frame(connection, frame)
        sent += len(frame) if isinstance(frame, bytes) else frame.get("passed", 0)
        if sent >= _RENEWAL:  # what a large archive takes is no sign of harm; how much it may be is bounded elsewhere
            sent = 0
            signal.setitimer(signal.ITIMER_PROF, settings["cpu_seconds"])
    return {"answer": {}}, []


def serve(connection: socket.socket, configuration: Mapping[str, Any]) -> None:
    """Answer requests until the parent closes the connection."""
    while (message := receive(connection)) is not None:
        request, fds = message
        source = Input(fds[0], request["size"])
        # Its signal ends the process, and is not blocked by a loop in C. The parent counts wall-clock time.
        signal.setitimer(signal.ITIMER_PROF, configuration["cpu_seconds"])
        blobs: list[bytes] = []
        document: dict[str, Any]
        try:
            document, blobs = _work(connection, request, source, configuration)
        except RejectedError as rejected:
            document = {"rejected": rejected.code, "numbers": rejected.numbers}
        except MemoryError:
            document = {"rejected": "decoder_memory", "numbers": {}}
        except Exception as error:  # noqa: BLE001 (the edge of the process: the parent logs it)
            document = {"failed": _where(error)}
        signal.setitimer(signal.ITIMER_PROF, 0)
        if source.error is not None:
            document, blobs = {"storage": source.error.errno or 0}, []
        os.close(source.fd)
        if request["operation"] in STREAMS:
            send_frame(connection, document, last=True)
        else:
            send(connection, document, blobs)


def main() -> None:
    """Run the child: ``argv[1]`` is the socket's descriptor, ``argv[2]`` the process id of the parent."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        return  # it died before the line above
    connection = socket.socket(fileno=int(sys.argv[1]))
    message = receive(connection)
    if message is None:
        return
    configuration = message[0]
    sys.path += [entry for entry in configuration["path"] if entry not in sys.path]
    try:
        import av

        _warm_up()
    except ImportError as error:
        send(connection, {"missing": str(error)}, [])
        return
    os.nice(10)
    av.logging.set_level(None)
    send(connection, {"ready": confine(configuration)}, [])
    serve(connection, configuration)
