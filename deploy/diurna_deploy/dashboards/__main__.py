"""Writes every dashboard into a directory, a file each."""

from __future__ import annotations

import sys
from pathlib import Path

from diurna_deploy.dashboards import DASHBOARDS


def main(directory: str) -> None:
    """Replaces the files that are there."""
    for dashboard in DASHBOARDS:
        path = Path(directory) / f"{dashboard.uid}.json"
        path.write_text(dashboard.text(), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
