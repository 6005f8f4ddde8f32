"""`lonja demo`: the whole story on a chain and a node of its own, which are gone afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

import click

from lonja.cli.options import debug_option
from lonja.errors import Denied, LonjaError

if TYPE_CHECKING:
    from lonja.answers import Inference
    from lonja.client import AsyncClient
    from lonja.devnet.digits import DemoModel
    from lonja.devnet.world import World

_OFFER: Final = "price=0.01,days=30"
_REVOKED_WITHIN: Final = 10.0


@click.command(short_help="The whole story in a minute, on a chain and a node of its own.")
@click.option("--anvil", is_flag=True, help="Use Foundry's anvil instead of the embedded chain.")
@debug_option
def command(*, anvil: bool, debug: bool) -> int:  # noqa: ARG001 - `main` reads --debug
    """See all of it work: a model is made and published, a stranger is refused, a license is bought, the
    model sees a picture, and the license is taken back.

    Nothing is downloaded, and nothing is left behind.

    \b
    Example:
      lonja demo
    """
    return asyncio.run(_run(anvil=anvil))


class Story:
    """Prints the steps: what happened, and how long it took."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._number = 0
        self._live = sys.stdout.isatty()

    def chapter(self, title: str) -> None:
        """A heading."""
        click.echo("\n" + click.style(title, bold=True))

    def told(self, what: str, seconds: float) -> None:
        """One step that is over."""
        self._number += 1
        took = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
        click.echo(
            f"  {click.style('✓', fg='green')} {self._number:>2}  {what}  {click.style(took, dim=True)}"
        )

    @contextmanager
    def step(self, doing: str) -> Iterator[list[str]]:
        """A step that takes a moment; put the words for what happened into the list."""
        began, words = perf_counter(), [doing]
        with self.waiting(doing):
            yield words
        self.told(words[-1], perf_counter() - began)

    @contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        """A line that stands only while something is under way, on a terminal."""
        if self._live:
            click.echo(f"  …     {doing}", nl=False)
        try:
            yield
        finally:
            if self._live:
                click.echo("\r\x1b[2K", nl=False)

    def end(self) -> None:
        """The last line."""
        took = perf_counter() - self._began
        click.echo(
            f"\n{click.style('That was all of it', bold=True)}, in {took:.1f} s. "
            "Everything has been stopped and removed.\n"
            "Next: `lonja devnet` leaves such a world running for you; README.md shows how to call it."
        )


async def _run(*, anvil: bool) -> int:
    from lonja.cli.devnet import anvil_program
    from lonja.devnet.world import running_world

    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    story = Story()
    click.echo("A market for models: who holds a license may use the model, and nobody else.")
    try:
        with TemporaryDirectory(prefix="lonja-demo-") as folder:
            story.chapter("A world of its own")
            program = anvil_program() if anvil else None
            async with (
                _model_in_the_making(Path(folder) / "model") as making,
                running_world(Path(folder) / "world", anvil=program, told=story.told) as world,
            ):
                await _tell(story, world, making)
    except asyncio.CancelledError:
        click.echo("\nstopped; everything has been removed", err=True)
        return 130
    story.end()
    return 0


def _build(folder: str) -> tuple[DemoModel, float]:
    """Runs in a process of its own: NumPy's memory stays out of ours, and Ctrl-C ends it at once."""
    from lonja.devnet.digits import build

    began = perf_counter()
    return build(Path(folder)), perf_counter() - began


def _alone() -> None:
    """One thread: the chain and the node start at the same time."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"


@asynccontextmanager
async def _model_in_the_making(folder: Path) -> AsyncIterator[asyncio.Future[tuple[DemoModel, float]]]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_alone)
    # Ctrl-C is ours to answer: blocked, it stays blocked in the new process, from its first instruction.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        making = asyncio.get_running_loop().run_in_executor(pool, _build, str(folder))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield making
    finally:
        making.cancel()  # else its end would be reported as an error that nobody has seen
        for process in list((pool._processes or {}).values()):
            process.terminate()  # it has nothing to lose, and training is not worth waiting for
        pool.shutdown(wait=True, cancel_futures=True)


@asynccontextmanager
async def _people(world: World) -> AsyncIterator[tuple[AsyncClient, AsyncClient, AsyncClient]]:
    from lonja.client import AsyncClient

    async with (
        AsyncClient.from_devnet(world.devnet_json, role="publisher") as publisher,
        AsyncClient.from_devnet(world.devnet_json, role="licensee") as licensee,
        AsyncClient.from_devnet(world.devnet_json, role="stranger") as stranger,
    ):
        yield publisher, licensee, stranger


async def _tell(story: Story, world: World, making: Awaitable[tuple[DemoModel, float]]) -> None:
    async with _people(world) as (publisher, licensee, stranger):
        story.told(
            f"three people with money: publisher {_short(publisher)}, licensee {_short(licensee)}, "
            f"stranger {_short(stranger)}",
            0,
        )
        story.chapter("A model")
        with story.waiting("drawing digits and learning to read them"):
            model, seconds = await making
        story.told(
            f"a network has learned to read digits from fonts: {model.accuracy:.1%} right on new pictures",
            seconds,
        )
        click.echo(click.style(f"        its health verdict: {model.verdict.sentence()}", dim=True))
        token_id = await _publish(story, publisher, model)
        await _refused(story, stranger, model)
        answer = await _license_and_infer(story, licensee, model, token_id)
        _show(model, answer)
        await _revoke(story, publisher, licensee, model, token_id)


async def _publish(story: Story, publisher: AsyncClient, model: DemoModel) -> int:
    from lonja.terms import parse_offer

    story.chapter("Publishing")
    with story.step("the publisher uploads the model and registers it") as words:
        published = await publisher.publish(model.onnx, model.metadata, offers=[parse_offer(_OFFER)])
        words.append(f"the model is on chain as token {published.token_id}, for 0.01 coins per 30 days")
    click.echo(click.style(f"        weights  {published.weights_cid}", dim=True))
    click.echo(click.style(f"        metadata {published.metadata_cid}", dim=True))
    if published.token_id is None:
        raise LonjaError("the model was not registered")
    return published.token_id


async def _refused(story: Story, stranger: AsyncClient, model: DemoModel) -> None:
    story.chapter("Without a license")
    with story.step("the stranger signs in and asks the model") as words:
        try:
            await stranger.infer("digits", image=model.picture)
        except Denied as error:
            words.append(f"the stranger signed in and asked, and was refused: {error.status} {error.message}")
        else:
            raise LonjaError("the stranger was served without a license: this must not happen")


async def _license_and_infer(
    story: Story, licensee: AsyncClient, model: DemoModel, token_id: int
) -> Inference:
    story.chapter("With a license")
    with story.step("the licensee buys a license") as words:
        bought = await licensee.buy(token_id)
        words.append(f"the licensee bought a license; transaction {bought.tx[:10]}…")
    with story.step("the licensee signs in") as words:
        await licensee.sign_in()
        words.append("the licensee signed in with an Ethereum account, without a password")
    with story.step("the model is loaded and looks at the picture") as words:
        answer = await licensee.infer("digits", image=model.picture)
        words.append("the model was loaded by its CID and looked at this picture")
    return answer


async def _revoke(
    story: Story, publisher: AsyncClient, licensee: AsyncClient, model: DemoModel, token_id: int
) -> None:
    story.chapter("The license is taken back")
    with story.step("the publisher revokes the license") as words:
        await publisher.revoke(token_id, licensee.address)
        words.append("the publisher revoked the license; the unused time is paid back")
    with story.step("the licensee asks again") as words:
        error = await _until_refused(licensee, model)
        words.append(f"the licensee asked again and was refused: {error.status} {error.message}")


async def _until_refused(licensee: AsyncClient, model: DemoModel) -> Denied:
    """Ask until the node has heard of the revocation: within a block and 2 s."""
    async with asyncio.timeout(_REVOKED_WITHIN):
        while True:
            try:
                await licensee.infer("digits", image=model.picture)
            except Denied as error:
                return error
            await asyncio.sleep(0.05)


def _show(model: DemoModel, answer: Inference) -> None:
    from lonja.cli.pictures import bars, picture

    drawn = picture(model.picture, columns=28, colour=sys.stdout.isatty())
    click.echo("\n" + _indented(drawn) + "\n")
    click.echo(_indented(bars([(each.label, each.confidence) for each in answer.classes])))
    verdict = "It is right." if answer.top.label == model.label else f"It should have said {model.label}."
    click.echo(
        f"\n        “{answer.top.label}!”  {verdict}  {answer.metrics.inference_time_ms:.2f} ms in the model"
    )


def _indented(text: str) -> str:
    return "\n".join("        " + line for line in text.splitlines())


def _short(client: AsyncClient) -> str:
    return client.address[:8] + "…"
