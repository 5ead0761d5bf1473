"""Whether a process does its work: `python -m diurna_deploy.healthy READY_FILE`, for health checks of containers.

It does once it has made its ready file, and for as long as it answers where that says its metrics are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final
from urllib.request import ProxyHandler, build_opener

_ANSWER_SECONDS: Final = 4.0


def main(ready_file: str) -> int:
    """0 where it does; else 1, with the reason on the error output."""
    try:
        url = json.loads(Path(ready_file).read_text(encoding="utf-8"))["metrics_url"]
        if url is not None:
            # No proxy has a part in asking a neighbour.
            with build_opener(ProxyHandler({})).open(url, timeout=_ANSWER_SECONDS):
                pass
    except (OSError, ValueError, KeyError) as error:
        print(f"{ready_file}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
