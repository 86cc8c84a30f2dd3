"""A server with real media and a browser that looks at it, for tests of one upload's card."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from attrs import frozen

from stagedoor.engine import Uploads
from stagedoor.tasks import JSON, Offer, UploadTask
from stagedoor.testing import archives, sounds
from stagedoor.testing.pictures import picture

from .browsing import PATIENCE, Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["Stage", "album"]

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


def album(name: str, artist: str = "The Understudies", *, discs: int = 2, broken: bool = False) -> bytes:
    """A stored zip of three songs a disc, and a cover."""
    files: dict[str, bytes] = {}
    for disc in range(1, discs + 1):
        for number, title in enumerate(("Enter", "Prompt Box", "Exit"), 1):
            tags = {"title": f"{title} {disc}", "track": f"{number}/3", "disc": f"{disc}/{discs}", "date": "1998"}
            data = sounds.song("mp3", artist=artist, album=name, seed=10 * disc + number + len(name), **tags)
            files[f"{name}/CD{disc}/{number:02} {title}.mp3"] = data[:200] if broken and number == 2 else data
    return archives.zips({**files, f"{name}/cover.jpg": picture("JPEG", (600, 600))})


@frozen
class Stage:
    """A server and a browser."""

    site: Site
    browser: Browser

    @property
    def uploads(self) -> Uploads:
        """The engine of the server that runs, so that a test can be somebody else."""
        service = self.site._service
        assert service is not None
        assert service._app is not None
        return service._app.core.uploads

    def offer(self, data: bytes, filename: str, contenttype: str, annotations: dict[str, JSON] | None = None) -> str:
        """Declares an upload; its id."""
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        offer = Offer(
            sha1,
            filename=filename,
            contenttype=contenttype,
            filesize=len(data),
            sha1=sha1,
            annotations=annotations or {},
        )
        return self.uploads.initiate(offer).id

    def send(self, data: bytes, filename: str, contenttype: str, **annotations: JSON) -> str:
        """Sends an upload, and waits until it rests; its id."""
        uploadid = self.offer(data, filename, contenttype, annotations)
        self.uploads.receive(uploadid, offset=0, data=data)
        self.rest(uploadid)
        return uploadid

    def rest(self, uploadid: str) -> UploadTask:
        """The upload as it rests."""
        task = self.uploads.wait(uploadid, timeout=PATIENCE)
        assert task is not None
        return task

    def bring(self, uploadid: str) -> UploadTask:
        """Imports an upload."""
        self.uploads.request(uploadid, trigger_import=True)
        return self.rest(uploadid)

    def card(self, uploadid: str, *, size: str = "desktop", **context: Any) -> Page:
        """A tab with the card of an upload, live."""
        width, height = SIZES[size]
        page = self.browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.add_init_script(
            "window.failures = []; addEventListener('error', (event) => failures.push(event.message));"
        )
        page.goto(f"{self.site.url}/#/uploads/{uploadid}")
        page.locator("#connection", has_text="Live").wait_for()
        page.locator("upload-card:not([aria-busy])").wait_for()
        return page
