"""``python -m tests.fuzz [TARGET …] [--seconds N]``: search with atheris, guided by coverage; a finding ends with 1.

Each target runs in a process of its own. Its corpus grows in ``runs/fuzz/TARGET``; an input that breaks a property is
written to ``runs/fuzz`` and can be given to ``--replay TARGET FILE``. Needs the optional dependency ``fuzz``.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path
from random import Random

WORK = Path(__file__).parents[2] / "runs" / "fuzz"
MAX_LENGTH = 70_000
ONE_TRY_S = 10


def search(name: str, seconds: int, seed: int) -> None:
    """In this process; ends it. The code under test is imported here and not before, so that atheris sees it."""
    import atheris

    with atheris.instrument_imports(include=["core.wire.socket"]):
        import core.wire.socket.day_list  # noqa: F401
    from tests.fuzz import properties, seeds

    corpus = WORK / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed_bytes in seeds.seeds(name):
        (corpus / hashlib.sha256(seed_bytes).hexdigest()[:20]).write_bytes(seed_bytes)
    arguments = [sys.argv[0], f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-seed={seed}",
                 f"-timeout={ONE_TRY_S}", f"-artifact_prefix={WORK / name}-", f"-dict={_dictionary(seeds.words())}",
                 "-print_final_stats=1", "-verbosity=1", str(corpus)]  # fmt: skip

    def change(data: bytes, random: Random) -> bytes:
        """Half of the changes are libFuzzer's, which knows what has opened new ways."""
        return bytes(atheris.Mutate(data, len(data) + 256)) if random.randrange(2) else seeds.edited(data, random)

    def mutate(data: bytes, limit: int, number: int) -> bytes:
        return seeds.changed(name, data, Random(number), change)[:limit]

    atheris.Setup(arguments, properties.TARGETS[name], custom_mutator=mutate)
    atheris.Fuzz()


def _dictionary(words: list[bytes]) -> Path:
    """The words as libFuzzer reads them."""
    path = WORK / "words.dict"
    path.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words))
    return path


def replay(name: str, file: Path) -> None:
    """One input again, with its traceback."""
    from tests.fuzz import properties

    properties.TARGETS[name](file.read_bytes())
    print(f"{name} holds for {file}")


def main() -> int:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("targets", nargs="*", help="which; all by default")
    cli.add_argument("--seconds", type=int, default=60, help="for each target")
    cli.add_argument("--seed", type=int, default=1)
    cli.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    cli.add_argument("--here", help=argparse.SUPPRESS)
    args = cli.parse_args()
    if args.here:
        search(args.here, args.seconds, args.seed)
    if args.replay:
        replay(args.replay[0], Path(args.replay[1]))
        return 0
    return search_all(args.targets, args.seconds, args.seed)


def search_all(wanted: list[str], seconds: int, seed: int) -> int:
    """One process after the other; 1 if a property is broken."""
    from tests.fuzz.properties import TARGETS

    unknown = [name for name in wanted if name not in TARGETS]
    if unknown:
        print(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
        return 2
    broken = []
    for name in wanted or TARGETS:
        print(f"\n{name}: {seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--here", name, "--seconds", str(seconds), "--seed", str(seed)]
        if subprocess.run(command, check=False).returncode:
            broken.append(name)
    print(f"\nbroken: {', '.join(broken)}" if broken else "\nevery property holds", flush=True)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
