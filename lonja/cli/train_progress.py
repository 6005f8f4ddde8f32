"""Progress of a training: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Group

    from training.stats import Progress

_LINES: Final = 10


class Lines:
    """One line for each tenth of the epochs."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._next = 1

    def __call__(self, progress: Progress) -> None:
        if progress.epoch < self._next or not progress.stats.epochs:
            return
        self._next = progress.epoch + max(1, progress.epochs // _LINES)
        self._write(f"epoch {progress.epoch} of {progress.epochs}  {losses(progress)}")


@contextmanager
def live() -> Iterator[Callable[[Progress], None]]:
    """A table that is drawn anew, on standard error, and gone at the end."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=10, transient=True) as shown:
        yield lambda progress: shown.update(_view(progress))


def losses(progress: Progress) -> str:
    """`loss 0.123  validation 0.234 (score 0.956)`."""
    stats = progress.stats
    parts = [f"loss {stats.loss[-1]:.4g}"] if stats.loss else []
    if stats.epochs and (last := stats.epochs[-1]).validation_loss is not None:
        parts.append(f"validation {last.validation_loss:.4g} (score {last.validation_score:.4f})")
    return "  ".join(parts)


def _view(progress: Progress) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table("layer", "gradient norm", "change a step", "alive", box=None, header_style="dim")
    for layer in progress.stats.layers:
        table.add_row(
            layer.name,
            f"{layer.grad_norm[-1]:.3g}" if layer.grad_norm else "",
            f"{layer.deep_update_ratio[-1]:.1e}" if layer.deep_update_ratio else "",
            _alive(layer.alive[-1]) if layer.alive else "",
        )
    head = Text(f"epoch {progress.epoch} of {progress.epochs}  step {progress.step}  {losses(progress)}")
    return Group(head, ProgressBar(total=progress.steps, completed=progress.step, width=60), table)


def _alive(share: float) -> str:
    color = "green" if share > 0.8 else "yellow" if share > 0.6 else "red"
    return f"[{color}]{share:.0%}[/{color}]"
