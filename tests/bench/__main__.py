"""``python -m tests.bench [NAME …] [--json FILE]``: run the benchmarks, print every figure with its machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

BENCHES = ("loop", "storage", "jobs", "airstar_wire", "procedures", "cost", "sm2", "socket_codec", "socket_server",
           "socket_procedures", "sftp", "matching", "deposits", "day")


def machine() -> str:
    """Processor, cores, Python."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def figures(name: str) -> dict[str, float]:
    """One benchmark in a process of its own, so that none warms or fills another's memory."""
    code = f"import json, importlib; print(json.dumps(importlib.import_module('tests.bench.bench_{name}').measure()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("names", nargs="*", help="which; all by default")
    cli.add_argument("--json", type=Path, help="also write the figures there")
    args = cli.parse_args()
    results: dict[str, dict[str, float]] = {}
    print(machine(), flush=True)
    for name in args.names or BENCHES:
        results[name] = figures(name)
        print(f"\n{name}", flush=True)
        for figure, value in results[name].items():
            print(f"  {figure:54} {value:16,.3f}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "figures": results}, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
