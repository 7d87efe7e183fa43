"""What a message tells users to install."""

from __future__ import annotations

from importlib import metadata

import pytest

from trt_dp.system.extras import pip_install


def test_an_extra_is_told_as_its_packages():
    """The command names packages that an index has, and never trt-dp itself, which none has."""
    assert pip_install("server") == "pip install 'httptools>=0.6'"
    assert "trt-dp" not in pip_install("demo")
    assert "'gguf>=" in pip_install("demo")  # by the extra that it asks for


@pytest.mark.parametrize("extra", metadata.metadata("trt-dp").get_all("Provides-Extra"))
def test_every_extra_has_a_command(extra):
    """No extra of trt-dp is without packages."""
    assert pip_install(extra).startswith("pip install ")
    assert "checkout" not in pip_install(extra)


def test_without_metadata_the_checkout_is_named(monkeypatch):
    """Where trt-dp runs from a folder, it cannot know the packages, and says where they are declared."""
    missing = metadata.PackageNotFoundError("trt-dp")
    monkeypatch.setattr(metadata, "requires", lambda _: (_ for _ in ()).throw(missing))
    assert pip_install("server") == "pip install '.[server]' in a checkout of trt-dp"
