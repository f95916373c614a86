"""`python -m benchmarks.fuzz [--minutes N] [--count N] [--kind NAME] [--seed N]`: mutated inputs of every kind.

Prints, per kind: how many were tried, and of those internal errors, hangs (20 s), inputs that cost over 2 s of this
process, errors of a spec or a table without a place, control characters in what is printed. Ends with 1 where any is
not zero, and names the seeds: `--kind specs --seed 17 --count 1` tries that one again, and shows what it said.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.fuzzing.kinds import Kinds

_TIMES_AS_MANY_SPECS = 10
_SHOWN = 5


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long at most")
    parser.add_argument("--count", type=int, default=1000, help="of each kind, and ten times as many specs")
    parser.add_argument("--kind", action="append", help="only that one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        kinds = Kinds(Path(folder))
        tried: Counter[str] = Counter()
        problems: dict[str, Counter[str]] = {name: Counter() for name in kinds.names()}
        examples: list[str] = []
        slowest: dict[str, float] = dict.fromkeys(kinds.names(), 0.0)
        for number in range(asked.count):
            for name in asked.kind or kinds.names():
                for part in range(_TIMES_AS_MANY_SPECS if name == "specs" and asked.count > 1 else 1):
                    if time.monotonic() > end:
                        break
                    seed = asked.seed + number * (_TIMES_AS_MANY_SPECS if name == "specs" else 1) + part
                    found = kinds.tried(name, seed)
                    tried[name] += 1
                    slowest[name] = max(slowest[name], found.seconds)
                    if found.problem is not None:
                        problems[name][found.problem.partition(":")[0]] += 1
                        said = " | ".join(found.said.strip().splitlines()[-2:])[:200]
                        examples.append(f"{name} seed {seed}: {found.problem} ({found.seconds:.1f} s) {said}")
                    elif asked.count == 1:
                        print(f"{name} seed {seed}: {found.said.strip()[:500]}")
    print(
        f"{'kind':14}{'tried':>8}{'internal':>10}{'hang':>7}{'over 2 s':>10}{'no place':>10}{'other':>7}{'slowest':>10}"
    )
    for name in kinds.names():
        counts = problems[name]
        known = [counts[one] for one in ("internal error", "hang", "slow", "no place")]
        cells = "".join(f"{one:>{width}}" for one, width in zip(known, (10, 7, 10, 10), strict=True))
        other = sum(counts.values()) - sum(known)
        print(f"{name:14}{tried[name]:>8}{cells}{other:>7}{slowest[name]:>9.2f}s")
    for text in examples[:_SHOWN] if asked.count > _SHOWN else examples:
        print(text)
    return 1 if examples else 0


if __name__ == "__main__":
    sys.exit(main())
