"""The demo, killed anywhere, goes on to the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stagedoor.testing import media

pytest.importorskip("av", reason="needs the media extra")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    path.write_bytes(media.video(seconds=2))
    return path


def command(base: Path, clip: Path) -> list[str]:
    return [sys.executable, "-u", "-m", "stagedoor.demo", "--dir", str(base), "--video", str(clip), "--chunk", "4096"]


def killed_after(lines: int, base: Path, clip: Path) -> bool:
    """Kill the demo and its server when they have printed so many lines; False if they were done by then."""
    with subprocess.Popen(
        command(base, clip), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            if not process.stdout.readline():
                return False
        os.killpg(process.pid, signal.SIGKILL)
    return True


def goes_on(base: Path, clip: Path) -> None:
    done = subprocess.run(command(base, clip), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ no upload, data or task file is left" in done.stdout
    assert "Traceback" not in done.stderr


# The points are lines of output: a chunk, the second start, states, plan and import of the video, of the album and of
# the cover, the library, and the undo of the three.
@pytest.mark.parametrize("lines", [6, 12, 20, 23, 39, 60, 122, 139, 142, 156, 201, 205])
def test_a_killed_demo_goes_on_to_the_end(lines: int, tmp_path: Path, clip: Path) -> None:
    killed_after(lines, tmp_path, clip)
    goes_on(tmp_path, clip)


def test_a_demo_killed_again_and_again_ends(tmp_path: Path, clip: Path) -> None:
    for lines in (8, 14, 10, 40, 100, 60):
        killed_after(lines, tmp_path, clip)
    goes_on(tmp_path, clip)
