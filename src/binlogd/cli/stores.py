"""Finding the store for the tools that look at one."""

from __future__ import annotations

from binlogd.config import find_data_dir
from binlogd.errors import StoreUnreadable
from binlogd.store.disk import explained
from binlogd.store.layout import DataFolder


def existing_store(data_dir: str | None, config: str | None) -> DataFolder:
    """The data folder the options lead to; StoreUnreadable when there is no store."""
    path = find_data_dir(data_dir, config=config)
    folder = DataFolder(path)
    with explained("read", path):
        folder.timelines()  # says so when it cannot be read
        there = folder.exists()
    if not there:
        raise StoreUnreadable(
            f"there is no store in {path}", hint="name its folder with --data-dir or BINLOGD_DATA_DIR"
        )
    return folder
