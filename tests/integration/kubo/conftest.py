"""One Kubo daemon for a module's tests; a test that kills it starts it again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Services
from tests.fakes.kubo import KuboDaemon, kubo_daemon


@pytest.fixture(scope="module")
def kubo(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboDaemon]:
    with kubo_daemon(services.path("ipfs"), tmp_path_factory.mktemp("kubo")) as daemon:
        yield daemon
