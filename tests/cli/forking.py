"""A program that starts processes of the command quickly: it imports everything once and forks them.

It reads a line of JSON for each from stdin, ``{"words": […], "folder": …, "said": …}``, where ``said`` names the file
for stdout and stderr, and writes the number of the process to stdout; for ``{"wait": number}`` it writes how that has
ended, as ``waitpid`` tells it; ``{}`` is answered with 0. Each process leads a group of its own. The first line is the
folder of a config, which is trained into ``first`` to have everything imported.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from killed_runs import import_everything, train


def main() -> None:
    import_everything(Path(sys.stdin.readline().strip()))
    for line in sys.stdin:
        order = json.loads(line)
        if not order:
            answer = 0
        elif "wait" in order:
            answer = os.waitpid(order["wait"], 0)[1]
        else:
            answer = os.fork()
            if answer == 0:
                os.setpgid(0, 0)
                folder = Path(order["folder"])
                train(order["words"], folder, folder, Path(order["said"]), 0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
