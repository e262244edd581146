"""
A process that prepares the same manifest again and again, killed (kill -9) at another of its renames each time and
then run once more.

    python tests/support/prepare_kills.py CHECKPOINT MANIFEST OUT 1 5 9

It loads the libraries once and forks a child for each run. On the last line it prints, for each rename, how many
shards the killed run left and how many of them the next one made again.
"""

import json
import os
import signal
import sys
from pathlib import Path

from finetune.data import prepare as module
from finetune.data.sources import open_source


def run(checkpoint: str, manifest: str, out: Path, kill_at: int | None, made: Path | None) -> int:
    """Prepare in a child, killed before its `kill_at`-th rename; give its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    rename, write_shard = os.replace, module._write_shard
    count = 0

    def counted(*paths):
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*paths)

    def noted(work, number, rows):
        made.write_text((made.read_text() if made.exists() else "") + f"{number}\n")
        write_shard(work, number, rows)

    os.replace = counted
    if made is not None:
        module._write_shard = noted
    try:
        module.prepare(open_source(manifest), out, checkpoint, shard_items=4)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Command line: see the module's docstring."""
    checkpoint, manifest, folder, *places = sys.argv[1:]
    found = []
    for place in map(int, places):
        out = Path(folder) / str(place)
        status = run(checkpoint, manifest, out, place, None)
        kept = len(list((out / "work").glob("shard-*.parquet")))
        made = Path(folder) / f"made-{place}"
        again = run(checkpoint, manifest, out, None, made)
        remade = len(made.read_text().split()) if made.exists() else 0
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        found.append({"place": place, "killed": killed, "kept": kept, "resumed": again == 0, "remade": remade})
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
