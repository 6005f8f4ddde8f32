from __future__ import annotations

import ssl

from node import certificates


def test_certificates_are_read_when_they_are_asked_for_and_not_before() -> None:
    with certificates.later() as load:
        late = ssl.create_default_context()
    now = ssl.create_default_context()
    assert late.verify_mode is now.verify_mode is ssl.CERT_REQUIRED
    assert late.cert_store_stats()["x509_ca"] == 0
    load()
    assert late.cert_store_stats() == now.cert_store_stats()
