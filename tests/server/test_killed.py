"""The real server, killed with SIGKILL under real clients: nothing acknowledged is lost.

``KILLS=200`` makes a campaign of it (``make kills``); ``python bench/proof.py kills`` is a longer one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stagedoor.testing.kills import CLIENTS, kill_server

KILLS = int(os.environ.get("KILLS", "4"))


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    count = kill_server(tmp_path, KILLS)
    assert count >= CLIENTS
    if os.environ.get("KILLS"):
        sys.stderr.write(f"no loss in {KILLS} kills of the server under {CLIENTS} clients, {count} uploads\n")
