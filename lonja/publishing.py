"""From a model file and a draft manifest to a token: everything is checked before anything is sent or paid.

Enters: paths and terms. Leaves: `Published`. The order is: validate the draft, compute the CIDs, put the
content where it shall live, register the token. A failure before the last step costs no gas.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from lonja.answers import Published
from lonja.errors import ApiError, ModelNotServed, NodeUnreachable, ResponseInvalid, UsageInvalid
from lonja.sign_in import decoded
from lonja.terms import OfferTerms

if TYPE_CHECKING:
    from bare_models.reader import Container
    from lonja.client import AsyncClient
    from node.ipfs.importer import Imported, Profile
    from node.models.manifest import ModelDraft

CAR: Final = "application/vnd.ipld.car"
_HEARD_WITHIN: Final = 10.0
PROFILES: Final = ("unixfs-v1-2025", "unixfs-v0-2015", "kubo-cid-v1")
Progress = Callable[[str, int, int], None]
"""Called with a stage's name, bytes done, and bytes in all."""


def _silent(_stage: str, _done: int, _whole: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model ready to be sent: its DAGs in the order of a CAR (manifest, labels if any, weights).

    `publisher` is the account that must register its token, None where the manifest names nobody.
    """

    manifest: Imported
    labels: Imported | None
    weights: Imported
    publisher: str | None

    @property
    def dags(self) -> list[Imported]:
        return [self.manifest, *([self.labels] if self.labels else []), self.weights]

    @property
    def size(self) -> int:
        """Bytes of content, without the CAR's own."""
        return sum(dag.size for dag in self.dags)


class Target(Protocol):
    """Where a bundle's content goes."""

    @property
    def registers(self) -> bool:
        """Whether a token is made for what was put there."""

    async def put(self, client: AsyncClient, /, bundle: Bundle, *, progress: Progress) -> None:
        """Store all of it, or raise."""


def prepare(
    model: Path,
    manifest: Path,
    *,
    profile: str = PROFILES[0],
    publisher: str | None = None,
    progress: Progress = _silent,
) -> Bundle:
    """Validate, hash and import a model. Nothing leaves this machine.

    `publisher` goes into the manifest where the draft names nobody.

    Raises
    ------
    UsageInvalid
        A file is missing, is not what the manifest says, or the folder holds no single ONNX file.
    node.errors.ManifestInvalid, node.errors.InvalidInput
    """
    from node.ipfs.importer import import_any, import_bytes
    from node.models import manifest as manifests

    kind = _profile(profile)
    raw = _read(manifest)
    draft = manifests.parse_draft(raw)
    bare = draft.model.format == "bare"
    graph = bare_file(model) if bare else find_graph(model)
    container = container_of(graph) if bare else None
    if container is None:
        check_graph(graph, folder=model if model.is_dir() else None)
    else:
        raw = check_bare(graph, raw, draft.model, container=container)
    labels = None
    if isinstance(draft.model.labels, manifests.LabelsFile):
        text = _read(manifest.parent / draft.model.labels.file)
        manifests.parse_labels(text)
        labels = import_bytes(text, profile=kind)
    sha256 = _sha256(graph, progress)
    weights = import_any(model, profile=kind)
    described = manifests.Weights(
        cid=str(weights.root),
        bytes=weights.size,
        sha256=sha256,
        file=graph.relative_to(model).as_posix() if model.is_dir() else None,
        container=container,
        dtype="float32" if container == "raw" else None,
    )
    finished = manifests.complete(
        raw, weights=described, labels_cid=labels.root if labels else None, publisher=publisher
    )
    named = draft.model.publisher or publisher
    return Bundle(import_bytes(finished, profile=kind), labels, weights, named)


def bare_file(model: Path) -> Path:
    """The file of a bare model. Raises `UsageInvalid`."""
    if not model.is_file():
        raise UsageInvalid(f"{model} must be the file of a bare model: MODEL.safetensors or weights.bin")
    return model


def container_of(model: Path) -> Container:
    """How a bare model's numbers lie in the file, by its name. Raises `UsageInvalid`."""
    if model.suffix == ".safetensors":
        return "safetensors"
    if model.suffix == ".bin":
        return "raw"
    raise UsageInvalid(f"{model.name} must end in .safetensors or, for raw float32, in .bin")


def check_bare(model: Path, raw: bytes, draft: ModelDraft, *, container: Container) -> bytes:
    """Load a bare model as a node will, and add the layers that its file describes to a draft without them.

    Raises
    ------
    UsageInvalid
    """
    from bare_models.layers import BareInvalid
    from bare_models.network import Network
    from bare_models.reader import read, read_layers

    try:
        if draft.layers is None and container == "raw":
            raise UsageInvalid("model.layers is missing: a raw file does not say what its layers are")
        layers = draft.layers or read_layers(model)
        numbers = read(
            model, layers, container=container, sha256=None, max_bytes=model.stat().st_size + 2**20
        )
        Network(layers, numbers.tensors, allow_nan=draft.allow_nan)
    except BareInvalid as error:
        raise UsageInvalid(f"{model.name}: {error}") from None
    if draft.layers is not None:
        return raw
    members = msgspec.json.decode(raw)
    members["model"]["layers"] = msgspec.to_builtins(layers)
    return msgspec.json.encode(members)


def find_graph(model: Path) -> Path:
    """The ONNX file itself: `model`, or the one `.onnx` of that folder. Raises `UsageInvalid`."""
    if model.is_file():
        return model
    if not model.is_dir():
        raise UsageInvalid(f"{model} is not there")
    graphs = sorted(model.glob("*.onnx"))
    if len(graphs) != 1:
        names = ", ".join(graph.name for graph in graphs[:5]) or "none"
        raise UsageInvalid(f"{model} must hold one .onnx file at its top; there is {names}")
    return graphs[0]


def check_graph(graph: Path, *, folder: Path | None) -> None:
    """Look at an ONNX file as a node does before it loads one. Raises `UsageInvalid`."""
    from node.runtime import graph as graphs
    from node.runtime.backend import Refused

    try:
        graphs.check(graph, folder=folder, max_bytes=2**63)
    except Refused as refused:
        raise UsageInvalid(f"{graph.name}: {refused.message}") from None


@dataclass(frozen=True, slots=True)
class ToNode:
    """The node that the client talks to, whose operator must allow the publisher."""

    registers: bool = True

    async def put(self, client: AsyncClient, /, bundle: Bundle, *, progress: Progress) -> None:
        from node.ipfs.importer import car_chunks

        signer = client.signer()
        headers = await signer.by_session("POST", "/api/publish", b"")
        size = await asyncio.to_thread(lambda: sum(map(len, car_chunks(bundle.dags))))
        sending = _counted(_pieces(car_chunks(bundle.dags)), size, progress)
        answer = await client.transport.upload(
            "/api/publish", sending, size=size, headers=headers, content_type=CAR
        )
        roots = decoded(answer, _Stored).roots
        if missing := [str(dag.root) for dag in bundle.dags if str(dag.root) not in roots]:
            raise ResponseInvalid(f"the node did not store {', '.join(missing)}")


@dataclass(frozen=True, slots=True)
class ToFile:
    """A `.car` file, to be brought anywhere by other means; no token is registered."""

    path: Path
    registers: bool = False

    async def put(self, _client: AsyncClient, /, bundle: Bundle, *, progress: Progress) -> None:
        from node.ipfs.importer import write_car

        progress("writing", 0, bundle.size)
        try:
            await asyncio.to_thread(write_car, self.path, *bundle.dags)
        except OSError as error:
            raise UsageInvalid(f"{self.path}: {error.strerror or error}") from None
        progress("writing", bundle.size, bundle.size)


@dataclass(frozen=True, slots=True)
class ToKubo:
    """A Kubo daemon by its RPC URL; the roots it returns must be ours."""

    api_url: str
    registers: bool = True

    async def put(self, _client: AsyncClient, /, bundle: Bundle, *, progress: Progress) -> None:
        from tempfile import TemporaryDirectory

        from node.ipfs.importer import write_car
        from node.ipfs.kubo import Kubo

        kubo = Kubo(self.api_url)
        with TemporaryDirectory(prefix="lonja-publish-") as folder:
            for index, dag in enumerate(bundle.dags):
                car = Path(folder) / f"{index}.car"
                await asyncio.to_thread(write_car, car, dag)
                progress("to Kubo", index, len(bundle.dags))
                await kubo.import_car(car, root=dag.root)
        progress("to Kubo", len(bundle.dags), len(bundle.dags))


def parse_target(text: str) -> Target:
    """`node`, `kubo:URL` or `FILE.car`. Raises `UsageInvalid`."""
    if text == "node":
        return ToNode()
    if text.startswith(("kubo:http://", "kubo:https://")):
        return ToKubo(text.removeprefix("kubo:"))
    if text.endswith(".car"):
        return ToFile(Path(text))
    raise UsageInvalid(f"{text!r} is no place to publish to: node, kubo:http://127.0.0.1:5001 or FILE.car")


async def publish(
    client: AsyncClient,
    model: Path,
    manifest: Path,
    *,
    offers: list[OfferTerms],
    to: Target | None,
    update: int | None,
    profile: str,
    progress: Progress | None,
) -> Published:
    """See `AsyncClient.publish`."""
    told, target = progress or _silent, to or ToNode()
    publisher = await _publisher(client, update if target.registers else None)
    bundle = await asyncio.to_thread(
        prepare, model, manifest, profile=profile, publisher=publisher, progress=told
    )
    metadata_cid = str(bundle.manifest.root)
    token_id, sent = update, None
    if target.registers:
        before = await client.market.require_can_publish(update)
        _check_publisher(bundle, publisher)
        if before == metadata_cid and not offers:
            raise UsageInvalid(f"model {update} is this already ({metadata_cid}): there is nothing to update")
    await target.put(client, bundle, progress=told)
    if target.registers and update is None:
        token_id, sent = await client.market.register(metadata_cid, offers)
    elif target.registers and update is not None:
        sent = await client.market.update(update, metadata_cid, offers)
    if isinstance(target, ToNode) and token_id is not None:
        await _until_known(client, await client.market.canonical_name(token_id), metadata_cid)
    return Published(token_id, metadata_cid, str(bundle.weights.root), sent)


async def _publisher(client: AsyncClient, update: int | None) -> str | None:
    """Who registers the token, or has registered the one to update; None without a key."""
    if update is not None:
        return await client.market.publisher(update)
    return None if client.identity is None else client.address


def _check_publisher(bundle: Bundle, registrant: str | None) -> None:
    if (bundle.publisher or "").lower() != (registrant or "").lower():
        raise UsageInvalid(
            f"model.publisher is {bundle.publisher}, but {registrant} registers the token: no node would "
            "serve it; leave it out, and it is filled in"
        )


async def _until_known(client: AsyncClient, name: str, metadata_cid: str) -> None:
    """Wait until the node has heard of the token, so that the next call finds it; not for long, and whether
    it serves the token is its operator's choice: publishing is over either way."""
    with suppress(ModelNotServed, TimeoutError, NodeUnreachable):
        async with asyncio.timeout(_HEARD_WITHIN):
            while not await _knows(client, name, metadata_cid):  # noqa: ASYNC110 - the node tells no event
                await asyncio.sleep(0.1)


async def _knows(client: AsyncClient, name: str, metadata_cid: str) -> bool:
    try:
        return (await client.model(name)).manifest_cid == metadata_cid
    except ModelNotServed:
        raise
    except ApiError:
        return False


class _Stored(msgspec.Struct, frozen=True):
    roots: list[str]


def _profile(name: str) -> Profile:
    from node.ipfs.importer import Profile

    known = dict(
        zip(PROFILES, (Profile.UNIXFS_V1_2025, Profile.UNIXFS_V0_2015, Profile.KUBO_CID_V1), strict=True)
    )
    if name not in known:
        raise UsageInvalid(f"{name!r} is not a profile; there are {', '.join(known)}")
    return known[name]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageInvalid(f"{path}: {error.strerror or error}") from None


def _sha256(path: Path, progress: Progress) -> str:
    size, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            done += len(chunk)
            progress("hashing", done, size)
    return digest.hexdigest()


async def _pieces(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks of a reading iterator, the reading done in a thread."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _counted(chunks: AsyncIterator[bytes], size: int, progress: Progress) -> AsyncIterator[bytes]:
    done = 0
    async for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress("uploading", done, size)
