"""Cross-origin requests: off, or an exact list."""

from __future__ import annotations

import pytest

from stagedoor.errors import ConfigurationError
from stagedoor.protocols.cors import Cors

HERE = "https://music.example"


def test_it_is_off_by_default() -> None:
    assert Cors().headers(HERE) == ()
    assert Cors().preflight(HERE) == ()
    assert not Cors().allows(HERE)


@pytest.mark.parametrize("origin", [None, "null", "https://music.example.evil", "http://music.example", HERE + ":444"])
def test_origins_are_exact(origin: str | None) -> None:
    cors = Cors([HERE])
    assert not cors.allows(origin)
    # A cache must not give this answer to the page that is allowed.
    assert cors.headers(origin) == cors.preflight(origin) == (("Vary", "Origin"),)


def test_a_page_may_read_what_a_tus_client_needs() -> None:
    headers = dict(Cors([HERE]).headers(HERE))
    assert headers["Access-Control-Allow-Origin"] == HERE
    exposed = headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Upload-Offset", "Location", "Upload-Length", "Upload-Metadata", "Upload-Expires", "Tus-Extension",
            "Upload-Concat", "Upload-Defer-Length", "Upload-Complete", "Upload-Limit"} <= set(exposed)  # fmt: skip


def test_a_preflight_names_methods_and_fields() -> None:
    cors = Cors([HERE])
    asked = {"origin": HERE, "access-control-request-method": "PATCH"}
    assert cors.is_preflight("OPTIONS", asked)
    assert not cors.is_preflight("OPTIONS", {"origin": HERE})
    assert not cors.is_preflight("PATCH", asked)
    headers = dict(cors.preflight(HERE))
    assert "PATCH" in headers["Access-Control-Allow-Methods"]
    assert {"Tus-Resumable", "Upload-Checksum", "X-HTTP-Method-Override", "Upload-Draft-Interop-Version"} <= set(
        headers["Access-Control-Allow-Headers"].split(", ")
    )


@pytest.mark.parametrize("origin", ["*", "https://*.example", "music.example", "https://music.example/", "https://"])
def test_an_origin_is_no_pattern(origin: str) -> None:
    with pytest.raises(ConfigurationError):
        Cors([origin])
