from __future__ import annotations

import socket
import struct
import threading

import pytest

from node.runtime import linux, protocol
from node.runtime.protocol import Done, Receiver, Run
from node.runtime.worker import Server, Watch


class Echo:
    """A pipeline that answers each request with its body."""

    batch_size = 8

    def answer(self, requests: list[tuple[Run, bytes]], _stop: object, _dead: object) -> object:
        return [(Done(run.id, 0, 0, 0, 0, None), body) for run, body in requests]


def asking(number: int) -> bytes:
    return protocol.frame(Run(number, "tensor", False, None, None, 1e12, 0.0), body_length=2) + b"[]"


def test_an_idle_worker_gives_memory_back_once_and_answers_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trims = threading.Semaphore(0)
    monkeypatch.setattr(linux, "trim_heap", trims.release)
    ours, theirs = socket.socketpair()
    control, _other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 5_000))
    receiver = Receiver(max_header=protocol.MAX_HEADER, max_body=protocol.MAX_BODY)
    server = threading.Thread(target=Server(theirs, receiver, Watch(control), Echo()).run)  # type: ignore[arg-type]
    with ours, theirs, control, _other:
        server.start()
        for number in (1, 2):
            ours.sendall(asking(number))
            assert ours.recv(4096).endswith(b"[]")
            assert trims.acquire(timeout=5)
            assert not trims.acquire(timeout=0.05)
        ours.shutdown(socket.SHUT_WR)
        server.join(timeout=5)
        assert not server.is_alive()
