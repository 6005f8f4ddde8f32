"""Every kernel test runs once a tier that this processor has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cython_ops import _kernels


@pytest.fixture(params=_kernels.available_tiers())
def tier(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _kernels.active_tier()
    _kernels.use_tier(request.param)
    yield request.param
    _kernels.use_tier(before)
