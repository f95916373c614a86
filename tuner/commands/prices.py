"""`tune prices`: the price catalogues, and their refreshing from the clouds' own price interfaces."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tuner.errors import ExitCode, UnfitEnvironmentError, UsageError
from tuner.spec.prices.catalogue import TERMS, Catalogue, catalogue_names, listed, load_catalogue

_SHOWN = {"on_demand": "on demand", "spot": "spot", "one_year": "1 year"}


def prices(name: str | None, terms: str, *, as_json: bool) -> ExitCode:
    """All catalogues in a line each, or one with its instances. Raises UsageError for one that there is not."""
    if name is None:
        every = {one: load_catalogue(one) for one in catalogue_names()}
        if as_json:
            click.echo(json.dumps({key: one.model_dump(mode="json") for key, one in every.items()}, indent=2))
            return ExitCode.DONE
        for key, one in every.items():
            click.echo(f"{key}: {one.title}, {one.region}, {len(one.instances)} instances, {one.date}")
        click.echo("`tune prices NAME` lists one; `prices: NAME` in a spec uses it")
        return ExitCode.DONE
    catalogue = load_catalogue(name)
    parts = catalogue.parts(terms)  # type: ignore[arg-type]  # a click.Choice of them
    if as_json:
        click.echo(json.dumps({**catalogue.model_dump(mode="json"), "parts": parts}, indent=2))
        return ExitCode.DONE
    _show(catalogue)
    gpus = ", ".join(f"{gpu} {one['price']:.4g}" for gpu, one in sorted(parts["gpu_hour"].items()))
    click.echo(f"Parts {terms.replace('_', ' ')}, in {catalogue.currency} per hour: core {parts['cpu_core_hour']:.4g}, "
               f"GiB {parts['memory_gib_hour']:.4g}, {gpus}")  # fmt: skip
    return ExitCode.DONE


def _show(catalogue: Catalogue) -> None:
    table = Table(title=f"{catalogue.title}, {catalogue.region}: {catalogue.currency} per hour", title_justify="left")
    for column in ("instance", "GPUs", "cores", "GiB", *(_SHOWN[one] for one in TERMS)):
        table.add_column(column, justify="left" if column in ("instance", "GPUs") else "right", no_wrap=True)
    for row in listed(catalogue):
        table.add_row(*row)
    Console().print(table)
    click.echo(f"Read on {catalogue.date}: {catalogue.source}")
    if any(one.unverified for one in catalogue.instances):
        click.echo("? marks a price that could not be verified")


def refresh(cloud: str, output: Path) -> ExitCode:
    """Write a catalogue with today's prices of the instances that ours of that cloud lists."""
    from tuner.spec.prices.clouds import INTERFACES

    if cloud not in INTERFACES:
        raise UsageError(f"no price interface of {cloud} is read; there are {', '.join(INTERFACES)}")
    if output.exists():
        raise UsageError(f"{output} exists already; name another file")
    found = INTERFACES[cloud](load_catalogue(cloud))
    text = json.dumps(found.model_dump(mode="json", exclude_none=True, exclude_defaults=True), indent=2) + "\n"
    try:
        output.write_text(text, encoding="utf-8")  # JSON is YAML
    except OSError as error:
        raise UnfitEnvironmentError(f"cannot write {output}: {error.strerror}") from error
    click.echo(f"wrote {output}: {len(found.instances)} instances; `prices: {output.name}` in a spec uses it")
    return ExitCode.DONE
