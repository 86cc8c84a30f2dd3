"""One call of a command: its options, its directories, and whom to ask for changes."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from attrs import frozen

from ..adapters.inprocess import InlineBus
from ..engine import Uploads
from ..errors import ConfigurationError, InUse, TaskNotFound, UploadError
from ..ports import Clock
from ..server.whereabouts import Whereabouts, find, look_up
from ..tasks import JSON, UploadTask, check_id
from . import FAILED, IN_USE, NOT_FOUND, USAGE
from .desk import RemoteDesk, api_key, server_desk
from .records import Records, owner_of
from .screen import Screen, safe
from .stopping import Stop

__all__ = ["Call", "a_pair", "an_id", "homeless", "sentence_of", "status_of"]


def status_of(error: Exception) -> int:
    """The exit code for what went wrong."""
    match error:
        case TaskNotFound() | FileNotFoundError():
            return NOT_FOUND
        case InUse():
            return IN_USE
        case ConfigurationError():
            return USAGE
    return FAILED


def sentence_of(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, UploadError):
        return error.sentence
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return f"{error}"


@frozen(slots=False)
class Call:
    """A command, and what it works with.

    Attributes:
        options: From the parser.
        out: Standard output.
        err: Standard error.
        clock: Seconds since the epoch.
    """

    options: argparse.Namespace
    out: Screen
    err: Screen
    clock: Clock

    @property
    def root(self) -> str:
        """The uploads directory, absolute."""
        return os.path.abspath(str(self.options.data))

    @property
    def music(self) -> str:
        """The music directory as it was said, absolute."""
        return os.path.abspath(str(self.options.music))

    @property
    def artwork(self) -> str:
        """The artwork directory as it was said, absolute."""
        given = self.options.artwork
        return os.path.abspath(given) if given else os.path.join(os.path.dirname(self.root), "artwork")

    @property
    def trees(self) -> Mapping[str, str]:
        """The library's directories by their names: those of the server that owns the uploads directory, if it tells.

        Others than the server's have nothing to do with its uploads.
        """
        ours = {"music": self.music, "artwork": self.artwork}
        return ours if self.server is None else {**ours, **self.server.trees}

    @cached_property
    def server(self) -> Whereabouts | None:
        """The server that owns the uploads directory, if there is one and it has put its address on record."""
        owner = owner_of(self.root)
        return None if owner is None or owner[0] <= 0 else find(Path(self.root), owner[0])

    def placed(self, task: UploadTask) -> list[str]:
        """Where its files are; empty if that cannot be seen from here: a server may be in a room of its own."""
        trees = self.trees
        if self.server is not None and not all(os.path.isdir(self.server.trees.get(f.root, "")) for f in task.placed):
            return []
        return [os.path.join(trees.get(file.root, ""), file.path) for file in task.placed]

    @cached_property
    def records(self) -> Records:
        """The uploads on record, for looking only.

        Raises:
            ConfigurationError: There is no uploads directory.
        """
        self._must_exist()
        naming = None if self.server is None else self.server.naming
        return Records(self.root, self.trees, self.clock, naming or self.options.naming)

    def _must_exist(self) -> None:
        if not os.path.isdir(self.root):
            raise ConfigurationError(
                f"There is no uploads directory {self.root}. Say where it is with --data or STAGEDOOR_DATA; "
                "stagedoor add makes one."
            )
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise ConfigurationError(
                f"The uploads directory {self.root} is another user's, and you may not look into it. If a server "
                "serves it, that can be asked: over its page, its API, or with stagedoor upload --server URL."
            )

    def uploadid(self) -> str:
        """The id that was meant: as given, or the only one that starts like it.

        Raises:
            TaskNotFound: There is none.
            ConfigurationError: There are several.
        """
        given: str = self.options.id
        known = self.records.ids()
        if given in known:
            return given
        meant = [uploadid for uploadid in known if uploadid.startswith(given)]
        if len(meant) > 1:
            raise ConfigurationError(
                f"{given} could be {', '.join(meant[:5])}{' …' * (len(meant) > 5)}. Say more of it."
            )
        if not meant:
            raise TaskNotFound(given)
        return meant[0]

    def task(self) -> UploadTask:
        """The upload that was meant."""
        uploadid = self.uploadid()
        task = self.records.find(uploadid)
        if task is None:
            raise TaskNotFound(uploadid)
        return task

    def fail(self, error: Exception) -> int:
        """Say what went wrong; returns the exit status."""
        status, sentence = status_of(error), sentence_of(error)
        if isinstance(error, InUse) and error.code == InUse.default_code:
            owner = owner_of(self.root)
            if owner is not None and owner[1]:
                sentence = f"{sentence} Process {owner[0]} is: {owner[1]}"
            address = look_up(Path(self.root), owner[0] if owner is not None and owner[0] > 0 else None)
            if address is not None:
                sentence = f"{sentence.rstrip('.')}. It serves {address}: stagedoor upload sends files there."
        if self.options.json:
            code = error.code if isinstance(error, UploadError) else "os_error"
            self.out.json({"error": {"code": code, "sentence": sentence, "status": status}})
        self.err.say(f"stagedoor: {sentence}", "red")
        return status

    @contextmanager
    def desk(self, stop: Stop, *, create: bool = False) -> Iterator[Uploads | RemoteDesk]:
        """Whom to ask for changes: the server that owns the directory, else `uploads`."""
        if self.server is None:
            with self.uploads(create=create) as uploads:
                yield uploads
        else:
            key = api_key(self.options.key_file)
            with server_desk(self.server, key, root=self.root, pause=stop.pause, clock=self.clock) as desk:
                yield desk

    @contextmanager
    def uploads(self, *, create: bool = False) -> Iterator[Uploads]:
        """Own the directory for a while.

        Args:
            create: Make directories that are missing. Else it is a mistake if they are: a library in the wrong place
                would be taken for an empty one.
        """
        if not create:
            self._must_exist()
            if not os.path.isdir(self.music):
                raise ConfigurationError(
                    f"There is no music directory {self.music}. Say where it is with --music or STAGEDOOR_MUSIC."
                )
        with Uploads.open(
            self.root,
            music=self.music,
            artwork=self.artwork,
            naming=self.options.naming,
            durability=self.options.durability,
            bus=InlineBus(),
            clock=self.clock,
        ) as uploads:
            for path in uploads.recovery.quarantined:
                self.err.sign("warn", f"{path} belonged to no upload and was put there.")
            for uploadid, reason in uploads.recovery.lost.items():
                self.err.sign("bad", f"Upload {uploadid}: {reason}")
            for at, path in uploads.recovery.kept.items():
                self.err.sign("warn", homeless(at, path))
            yield uploads


def homeless(at: str, path: str) -> str:
    """A sentence about what was replaced by a lost upload: where it is, and the name that it had, if it is known."""
    name = f"it was {path}" if path else "the name that it had is not on record"
    return f"{at} was replaced by an upload that is lost; {name}. Put it back by hand, or delete it."


def an_id(given: str) -> str:
    """An argument that is the id of an upload."""
    try:
        return check_id(given)
    except UploadError as error:
        raise argparse.ArgumentTypeError(safe(error.sentence)) from None


def a_pair(given: str) -> tuple[str, JSON]:
    """An argument like ``KEY=VALUE``, the value a text or an object in JSON."""
    key, sign, value = given.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"{safe(given)!r} is not KEY=VALUE")
    if value.startswith("{"):  # as in tracks={"3": {"skip": true}}
        with suppress(ValueError):
            return key, json.loads(value)
    return key, value
