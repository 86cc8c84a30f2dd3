"""One target of `stagedoor.testing.fuzzing` under Atheris; ``bench/proof.py fuzz`` runs all.

``pip install --group fuzz`` first. ``python bench/fuzz.py tags --runs 100000 --seconds 60`` keeps what it learns in
``.cache/fuzz/tags/corpus``, and puts what it finds beside it; ``python bench/fuzz.py tags --show FILE`` looks at such a
file once more, without Atheris; the status is 1 when it takes too long.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(".cache/fuzz")
SECONDS: Final = 5
"""For one input; by the clock under Atheris."""
MEGABYTES: Final = 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz; the status is Atheris' own, 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--runs", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=int, default=1_200)
    parser.add_argument("--seed", type=int, default=0, help="0 for another one each time")
    parser.add_argument("--show", type=Path, help="look at this input only")
    options = parser.parse_args(argv)
    if options.show:
        from stagedoor.testing.fuzzing import TARGETS

        began = time.process_time()
        taken = {one.name: one for one in TARGETS}[options.name].look(options.show.read_bytes())
        took = time.process_time() - began
        print(f"{'taken' if taken else 'refused'} after {took:.3f} s of processor time")
        return int(took > SECONDS)

    import atheris

    with atheris.instrument_imports(include=["stagedoor", "tinytag"]):
        from stagedoor.testing.fuzzing import TARGETS
    target = {one.name: one for one in TARGETS}[options.name]
    home = ROOT / target.name
    corpus, seeds = home / "corpus", home / "seeds"
    for directory in (corpus, seeds):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (seeds / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def look(data: bytes) -> None:
        target.look(data)

    arguments = {
        "runs": options.runs, "max_total_time": options.seconds, "max_len": target.longest, "timeout": SECONDS,
        "rss_limit_mb": MEGABYTES, "artifact_prefix": f"{home}/", "print_final_stats": 1, "seed": options.seed,
    }  # fmt: skip
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in arguments.items()), str(corpus), str(seeds)], look
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
