from __future__ import annotations

import contextlib
import random

import pytest

from node.cid import Cid
from node.errors import InputTooLarge
from node.ipfs.car import CarInvalid, CarReader
from node.ipfs.item import Recorder
from node.ipfs.unixfs import NodeInvalid, decode, encode_file, encode_folder, encode_leaf
from node.ipfs.verifier import Verifier
from tests.fakes.dags import car, file_node, folder, leaf

A, B = leaf(b"a" * 50), leaf(b"b" * 60)
FILE = file_node(A, B)
TREE = folder(("one", FILE), ("two", A))
HONEST = car(TREE, FILE, A, B, A)


class Memory(Recorder):
    """Keeps every file in memory, the last unchecked leaf apart."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self._unchecked = b""

    def file(self, place: str) -> None:
        super().file(place)
        self.files[place] = b""

    def write(self, piece: memoryview) -> None:
        self._unchecked += bytes(piece)

    def take_back(self) -> None:
        self._unchecked = b""

    def keep_leaf(self, cid: Cid, size: int, kind: int) -> None:
        self.files[self._place] += self._unchecked
        self._unchecked = b""
        super().keep_leaf(cid, size, kind)


def verify(content: bytes, *, step: int) -> dict[str, bytes] | None:
    """The files in a CAR, or None if it is not whole."""
    memory = Memory()
    verifier = Verifier(open_writer=lambda _: memory, limit=10_000)
    verifier.want(TREE[0])
    reader = CarReader(verifier)
    for at in range(0, len(content), step):
        reader.feed(content[at : at + step])
    return memory.files if reader.close() and verifier.complete else None


@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
def test_an_honest_car_is_read_however_it_is_cut(step: int) -> None:
    assert verify(HONEST, step=step) == {"one": A[1] + B[1], "two": A[1]}


@pytest.mark.parametrize("seed", range(400))
def test_no_change_to_a_car_brings_other_content(seed: int) -> None:
    rng = random.Random(seed)
    changed = bytearray(HONEST)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(changed))
        how = rng.randrange(4)
        if how == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del changed[at : at + rng.randint(1, 40)]
        elif how == 2:
            changed[at:at] = rng.randbytes(rng.randint(1, 40))
        else:
            changed[at:at] = changed[rng.randrange(len(changed)) :][: rng.randint(1, 120)]
        if not changed:
            break
    try:
        files = verify(bytes(changed), step=rng.choice([1, 13, 1000]))
    except (CarInvalid, NodeInvalid, InputTooLarge):
        return
    assert files in (None, {"one": A[1] + B[1], "two": A[1]})


@pytest.mark.parametrize("seed", range(300))
def test_any_bytes_as_a_node_are_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    samples = [FILE[1], TREE[1], encode_leaf(b"abc"), encode_file([], []), encode_folder([])]
    raw = bytearray(rng.choice(samples))
    for _ in range(rng.randint(1, 4)):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    with contextlib.suppress(NodeInvalid):
        decode(bytes(raw))
