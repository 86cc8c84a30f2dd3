"""The composition root of a server: engines, management, settings."""

from __future__ import annotations

import os
import time

from ..adapters.inprocess import InlineBus
from ..adapters.local import DirectoryLock, LocalBytes, LocalTasks
from ..engine import Uploads
from ..errors import ContentRejected
from ..library.memory import NullLibrary
from ..ports import Clock, Illustrated, Library, Preprocessed, Source, Surroundings, WorkItem
from ..settings import Settings
from ..tasks import Plan, UploadTask
from ..worker import Worker
from .config import ServerConfig
from .core import Core

__all__ = ["Part", "open_core", "open_parts"]


class Part:
    """The content type of a tus partial upload: it has none, and nothing is ever done with it."""

    name = "part"
    has_artwork = False

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """See `ContentType.preprocess`."""
        raise ContentRejected("A part of an upload has no content of its own.", code="part")

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """See `ContentType.plan`."""
        return Plan(())

    def import_(self, task: UploadTask, library: Library) -> None:
        """See `ContentType.import_`."""

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        """See `ContentType.illustrate`."""
        raise ContentRejected("A part of an upload has no pictures.", code="part")


def open_core(
    uploads: Uploads | None, config: ServerConfig, *, management: bool, settings: Settings | None = None
) -> Core:
    """Open what is not given.

    Raises:
        InUse: Another process owns the directory.
        ConfigurationError: It cannot work like this.
    """
    if uploads is not None:
        return Core(
            uploads, config, worker=Worker(uploads, threads=config.workers) if management else None, owned=False
        )
    opened = Uploads.open(
        config.data,
        music=config.music,
        artwork=config.artwork,
        naming=config.naming,
        durability=config.durability,
        settings=settings,
        bus=InlineBus(),  # the hub queues, and calls nobody
    )
    try:
        parts = open_parts(config, opened.settings, clock=opened.clock)
        worker = Worker(opened, threads=config.workers) if management else None
        return Core(opened, config, parts=parts, worker=worker)
    except BaseException:
        opened.close()
        raise


class _NoWork:
    """The work queue of parts: nothing is ever done with them, and what is due for nobody must not be kept."""

    def submit(self, item: WorkItem) -> None:
        """See `WorkQueue.submit`."""

    def take(self, now: float) -> WorkItem | None:
        """See `WorkQueue.take`."""
        return None

    def wait(self, now: float, timeout: float | None) -> None:
        """See `WorkQueue.wait`."""

    def wake(self) -> None:
        """See `WorkQueue.wake`."""

    def close(self) -> None:
        """See `WorkQueue.close`."""


def open_parts(config: ServerConfig, settings: Settings, *, clock: Clock = time.time) -> Uploads:
    """An engine for the pieces of tus concatenations. They are no uploads: nobody hears of them, nothing is done.

    Raises:
        InUse: Another process owns the directory.
        ConfigurationError: It cannot work like this.
    """
    root = os.path.join(os.path.abspath(config.data), "parts")
    lock = DirectoryLock(root)
    try:
        store = LocalBytes(root, durability=config.durability)
        return Uploads(
            bytes=store,
            tasks=LocalTasks(root, durability=config.durability),
            trees={},
            library=NullLibrary(),
            contents=[Part()],
            settings=settings,
            bus=InlineBus(),
            work=_NoWork(),
            clock=clock,
            resources=[lock.close, store.release],
        )
    except BaseException:
        lock.close()
        raise
