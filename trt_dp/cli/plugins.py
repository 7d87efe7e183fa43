"""The command plugins: what is installed."""

from __future__ import annotations

import typer


def plugins() -> None:
    """List the engines, builders, launchers, servers and formats that are installed."""
    from trt_dp import plugins as found

    for group in (
        found.ENGINES,
        found.BUILDERS,
        found.LAUNCHERS,
        found.SERVERS,
        found.READERS,
        found.WRITERS,
    ):
        typer.echo(group.rpartition(".")[2])
        for point in found.names(group):
            package = point.dist.name if point.dist else "?"
            typer.echo(f"  {point.name:<12} {point.value} ({package})")
