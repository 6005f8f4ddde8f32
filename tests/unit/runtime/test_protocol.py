from __future__ import annotations

import random

import pytest

from node.runtime import protocol
from node.runtime.protocol import Done, Failed, FrameInvalid, Receiver, Run


def receiver() -> Receiver:
    return Receiver(max_header=protocol.MAX_ANSWER_HEADER, max_body=protocol.MAX_ANSWER_BODY)


def feed(into: Receiver, raw: bytes) -> None:
    while raw:
        space = into.space()
        count = min(len(space), len(raw))
        space[:count] = raw[:count]
        into.received(count)
        raw = raw[count:]
        if raw:
            assert list(into.answers()) == []


def answer(number: int, body: bytes, *, batch: int = 1) -> bytes:
    done = Done(number, 1.0, 2.0, 3.0, 4.0, None, batch)
    return protocol.frame(done, body_length=len(body)) + body


@pytest.mark.parametrize("seed", range(5))
def test_frames_survive_any_cutting_of_the_stream(seed: int) -> None:
    random_ = random.Random(seed)
    bodies = [random_.randbytes(random_.choice([0, 1, 100, 70_000, 600_000])) for _ in range(12)]
    stream = b"".join(answer(number, body) for number, body in enumerate(bodies))
    into, found = receiver(), []
    while stream:
        count = min(random_.choice([1, 7, 1000, 300_000]), len(into.space()), len(stream))
        into.space()[:count] = stream[:count]
        into.received(count)
        stream = stream[count:]
        found += [(message.id, body) for message, body in into.answers()]
    assert found == list(enumerate(bodies))
    assert not into.partial


def test_a_large_frame_leaves_no_large_buffer_behind() -> None:
    into = receiver()
    feed(into, answer(1, bytes(3_000_000)))
    assert len(list(into.answers())) == 1
    feed(into, answer(2, b"small"))
    assert len(list(into.answers())) == 1
    assert len(into.space()) <= protocol.READ_CHUNK


@pytest.mark.parametrize(
    "raw",
    [
        protocol.PREFIX.pack(protocol.MAX_ANSWER_HEADER + 1, 0),
        protocol.PREFIX.pack(1, protocol.MAX_ANSWER_BODY + 1),
        answer(1, b"[]", batch=0),
        answer(1, b"[]", batch=protocol.MAX_BATCH + 1),
        protocol.PREFIX.pack(4, 0) + b"\xc1abc",
        protocol.PREFIX.pack(1, 0) + b"\x90",
        protocol.frame(Run(1, "tensor", False, None, None, 0.0, 0.0)),
        protocol.PREFIX.pack(3, 0) + bytes([0x92, 20, 1]),
    ],
    ids=[
        "long header",
        "long body",
        "empty batch",
        "impossible batch",
        "not msgpack",
        "empty array",
        "an order, not an answer",
        "too few members",
    ],
)
def test_what_breaks_the_protocol_is_refused(raw: bytes) -> None:
    into = receiver()
    feed(into, raw)
    with pytest.raises(FrameInvalid):
        list(into.answers())


@pytest.mark.parametrize("seed", range(200))
def test_noise_never_raises_anything_else(seed: int) -> None:
    random_ = random.Random(seed)
    header = random_.randbytes(random_.randrange(40))
    into = receiver()
    feed(into, protocol.PREFIX.pack(len(header), 0) + header)
    try:
        messages = [message for message, _ in into.answers()]
    except FrameInvalid:
        return
    assert all(isinstance(message, protocol.Answer) for message in messages)


def test_control_noise_is_refused() -> None:
    with pytest.raises(FrameInvalid):
        protocol.read_seen(b"\x93\x21\xa1x\x90")


def test_a_control_message_with_all_ids_fits_into_its_bound() -> None:
    ids = [2**63 - number for number in range(protocol.CONTROL_IDS)]
    assert len(protocol.control(protocol.Terminate(ids))) <= protocol.MAX_CONTROL
    assert len(protocol.control(protocol.Seen(ids, []))) <= protocol.MAX_CONTROL


def test_failed_carries_code_and_text() -> None:
    into = receiver()
    feed(into, protocol.frame(Failed(7, "invalid_input", "not a picture")))
    assert list(into.answers()) == [(Failed(7, "invalid_input", "not a picture"), b"")]
