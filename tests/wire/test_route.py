from __future__ import annotations

import pytest

from trt_dp.errors import UsageError
from trt_dp.wire import route
from trt_dp.wire.route import address_towards


def test_the_address_is_the_one_that_leads_to_the_host():
    """A host on loopback is reached from loopback."""
    assert address_towards(["127.0.0.1", "localhost"]).startswith("127.")


def test_a_host_on_the_coordinators_own_machine_does_not_count(monkeypatch):
    """Where others are outside, the address is the one that they reach."""
    monkeypatch.setattr(route, "_source", {"here": "127.0.0.1", "b": "10.0.0.1"}.get)
    assert address_towards(["here", "b"]) == "10.0.0.1"


def test_several_networks_are_refused(monkeypatch):
    """The user says which address all of them reach."""
    monkeypatch.setattr(route, "_source", {"a": "10.0.0.1", "b": "192.168.0.1"}.get)
    with pytest.raises(UsageError, match=r"10\.0\.0\.1, 192\.168\.0\.1.*--address"):
        address_towards(["a", "b"])


@pytest.mark.parametrize("hosts", [[], ["no-such-host.invalid"]])
def test_an_address_that_cannot_be_known_is_asked_for(hosts):
    """Without hosts, or without a way to one, the option is named."""
    with pytest.raises(UsageError, match="--address"):
        address_towards(hosts)
