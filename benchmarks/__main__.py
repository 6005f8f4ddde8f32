"""All figures of docs/benchmarks.md, measured on this machine and written there.

    python -m benchmarks [NAME ...]    only those; the others keep the figures of their last run

Each section is the output of one module, run as a process of its own.
"""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.report import machine

SECTIONS = {
    "node": "The node, end to end",
    "license_check": "The license check",
    "fetch": "Verified fetch",
    "image": "Pictures",
    "worker": "Workers",
    "http": "The HTTP layer alone",
    "kernels": "Kernels",
    "training": "Training",
    "bare": "Bare models",
}
PAGE = Path(__file__).resolve().parent.parent / "docs/benchmarks.md"
HEAD = """# Figures

Written by `make bench` (`python -m benchmarks [NAME ...]` for a part); nothing here is typed by hand.
Compare within a section only: each was measured in one run, beside what a user would pick instead.
"""


def main(wanted: list[str]) -> int:
    unknown = set(wanted) - set(SECTIONS)
    if unknown:
        print(
            f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}",
            file=sys.stderr,
        )
        return 2
    texts = _written()
    failed = 0
    for name in wanted or SECTIONS:
        print(f"== {name}", flush=True)
        run = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True, check=False
        )
        print(run.stdout, flush=True)
        if run.returncode:
            failed = 1
            continue
        about = inspect.getdoc(importlib.import_module(f"benchmarks.{name}")) or ""
        texts[name] = f"{about}\n\nMeasured on: {machine()}.\n\n{run.stdout.strip()}\n"
        PAGE.write_text(_page(texts))
    return failed


def _page(texts: dict[str, str]) -> str:
    parts = [
        f"## {title}\n\n<!-- {name} -->\n{texts[name]}" for name, title in SECTIONS.items() if name in texts
    ]
    return HEAD + "\n" + "\n".join(parts)


def _written() -> dict[str, str]:
    """The sections that the page has now."""
    if not PAGE.exists():
        return {}
    found = re.split(r"## .*\n\n<!-- (\w+) -->\n", PAGE.read_text())
    return {name: text.rstrip("\n") + "\n" for name, text in zip(found[1::2], found[2::2], strict=True)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
