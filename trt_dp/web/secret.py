"""A value that must not be seen: it shows as *** wherever it is printed."""

from __future__ import annotations

from trt_dp.errors import UsageError


class Secret:
    """An API key; `reveal` is called by whoever writes it to a socket, and by nobody else."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value.isascii() or not value.isprintable() or not value.strip():
            msg = "the API key is empty or has characters that no header can carry: set it again"
            raise UsageError(msg)
        self._value = value.strip()

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def scrub(self, text: str) -> str:
        """The text with *** where it holds the value."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        """Stars."""
        return "Secret('***')"

    def __reduce__(self) -> str:
        """Raises: a key is not written anywhere, nor sent to another process."""
        msg = "a Secret cannot be pickled"
        raise TypeError(msg)
