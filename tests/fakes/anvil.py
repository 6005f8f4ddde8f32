"""A real chain in a process of its own: Foundry's anvil on a free port."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def anvil(program: Path, *options: str) -> Iterator[str]:
    """Start it and give its URL; ended with the context."""
    process = subprocess.Popen(
        [program, "--port", "0", "--host", "127.0.0.1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    drain = None
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"Listening on (\S+)", line)
            if found:
                break
        else:
            raise AssertionError("anvil ended before it listened")
        drain = threading.Thread(target=process.stdout.read, daemon=True)  # a full pipe would stop it
        drain.start()
        yield f"http://{found[1]}"
    finally:
        process.kill()
        process.wait()
        if drain is not None:
            drain.join()
        assert process.stdout is not None
        process.stdout.close()
