"""``binlogd verify``: every checksum, length, GTID and index of the store; with ``--repair`` it mends what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from binlogd.cli.options import config_option, data_dir_option, json_option, source_option

if TYPE_CHECKING:
    from pathlib import Path

    from binlogd.store.layout import DataFolder
    from binlogd.store.verify import Finding, Verification

EXIT_FOUND = 1


@click.command(short_help="Check every stored byte, and mend what can be mended.")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("--repair", is_flag=True, help="Fetch damaged and missing files again from the source; rebuild indexes.")
@json_option
@config_option
@source_option
@data_dir_option
def command(
    files: Sequence[str], repair: bool, as_json: bool, config: str | None, source: str | None, data_dir: str | None
) -> int:
    """Check every checksum, length, GTID and index of the store, or of these FILEs of it.

    It takes no lock and changes nothing, so that it can run beside a working binlogd; with --repair too, but for the
    newest file. Exit code 1: something is wrong, and is named; a warning or a note is not counted.
    """
    from binlogd.cli.stores import existing_store

    folder = existing_store(data_dir, config)
    only = _paths(folder, files) if files else None
    run, found = _verify(folder, only, None if as_json else _show)
    repaired: list[dict[str, str]] = []
    if repair and any(finding.level != "note" for finding in found):
        from binlogd.cli.repairs import repair as mend

        for done in mend(folder, found, config=config, source=source, data_dir=data_dir):
            repaired.append({"path": str(done.path), "done": done.done, "hint": done.hint})
            if not as_json:
                _line("repaired" if done.success else "not mended", f"{done.path.name}  {done.done}", done.hint)
        run, found = _verify(folder, only, None if as_json else _show)
    errors = [finding for finding in found if finding.level == "error"]
    if as_json:
        click.echo(json.dumps(_report(folder, run, found) | ({"repaired": repaired} if repair else {}), indent=2))
    else:
        _summary(run, len(errors), sum(finding.level == "warning" for finding in found))
    return EXIT_FOUND if errors else 0


def _paths(folder: DataFolder, files: Sequence[str]) -> set[Path]:
    """The files that are meant: by name in any timeline, or by path."""
    from pathlib import Path

    stored = [timeline.path / name for timeline in folder.timelines() for name in timeline.binlogs()]
    wanted: set[Path] = set()
    for file in files:
        place = Path(file).resolve() if "/" in file else None
        same = {path for path in stored if path.name == file or path.resolve() == place}
        if not same:
            raise click.UsageError(f"the store holds no {file}: binlogd list shows what it holds")
        wanted |= same
    return wanted


def _verify(
    folder: DataFolder, only: set[Path] | None, show: Callable[[Finding], None] | None
) -> tuple[Verification, list[Finding]]:
    """One run: everything it found was shown as it was found."""
    from binlogd.cli.bar import a_bar
    from binlogd.cli.stores import published
    from binlogd.store.verify import Verification

    found = []
    with a_bar() as progress:
        run = Verification(folder, published=published(folder), only=only, progress=progress)
        for finding in run.findings():
            found.append(finding)
            if show is not None:
                show(finding)
    return run, found


def _show(finding: Finding) -> None:
    place = "" if finding.offset is None else f" at {finding.offset}"
    what = f" ({finding.event})" if finding.event else ""
    name = f"{finding.path.parent.name}/{finding.path.name}"
    _line(finding.level, f"{name}{place}{what}  {finding.message}", finding.hint)


def _line(status: str, text: str, hint: str) -> None:
    from binlogd.cli.tables import printable

    click.echo(printable(f"{status:<8}  {text}{f' — {hint}' if hint else ''}"))


def _summary(run: Verification, errors: int, warnings: int) -> None:
    from binlogd.cli.status import counted
    from binlogd.units import human_size

    checked = f"{counted(run.files, 'file')}, {human_size(run.bytes)}, {counted(run.transactions, 'transaction')}"
    found = [
        counted(number, noun) if number else f"no {noun}s"
        for number, noun in ((errors, "error"), (warnings, "warning"))
    ]
    click.echo(f"{checked}: {', '.join(found)}")
    if run.unsummed:
        names = ", ".join(path.name for path in run.unsummed[:3]) + (", …" if len(run.unsummed) > 3 else "")
        click.echo(
            f"{len(run.unsummed)} of them without checksums (binlog_checksum=NONE), where only the structure can tell"
            f" and changed data goes unnoticed: {names}"
        )


def _report(folder: DataFolder, run: Verification, found: list[Finding]) -> dict[str, Any]:
    return {
        "store": str(folder.path),
        "sound": not any(finding.level == "error" for finding in found),
        "files": run.files,
        "bytes": run.bytes,
        "transactions": run.transactions,
        "without_checksums": [str(path) for path in run.unsummed],
        "findings": [
            {
                "level": finding.level.value,
                "kind": finding.kind.value,
                "timeline": int(finding.path.parent.name.partition("-")[0]),
                "name": finding.path.name,
                "path": str(finding.path),
                "offset": finding.offset,
                "event": finding.event or None,
                "message": finding.message,
                "hint": finding.hint,
            }
            for finding in found
        ],
    }
