"""Runtime guard: what would make two runs differ is an error, naming the file and line that did it.

``with determinism_guard(loop): ...`` replaces the functions below for the time of the block. There is no tracing and
no profiling: code that calls none of them runs at full speed, and each of them costs one look at its caller's module.

| Guarded | Who may not call it |
|---|---|
| time.time, monotonic, perf_counter, process_time (and ``_ns``), time.sleep; datetime.now/utcnow/today, date.today | our rooms |
| os.urandom, os.getrandom, uuid.uuid1/uuid4, SystemRandom and so ``secrets``, module-level random.*, unseeded Random() | our rooms; with ``entropy="everybody"`` everybody |
| threading.Thread.start, _thread.start_new_thread | everybody |

Our rooms are the modules under ``core``, ``emulators`` and ``scenarios``. Names that they imported before
(``from time import time``) are replaced too. ``allow`` lists modules (with all below them) that may do anything: those
that run the machine itself. A violation is raised where it happens, and once more at the end of the block in case
somebody swallowed it.

Not caught: C code that asks the operating system itself (OpenSSL's keys, ``random.Random``'s first seeding in C before
the given seed is applied), the order of sets, and functions stored in containers or closures before the block began.
datetime is a C type: its class methods are replaced in the type's own dictionary, so its identity, its instances and
``isinstance`` stay what they are. That is CPython only, and checked when it is done.
Source: gaps.md B-45 (TWIN-02).
"""  # noqa: E501 - table rows

from __future__ import annotations

import _thread
import ctypes
import gc
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from types import FrameType
from typing import Any, Literal

from core.errors import NostroError
from emulators.loop import SimLoop

OUR_ROOMS = ("core", "emulators", "scenarios")
ALLOWED = ("core.clock", "emulators.loop", "emulators.guard", "scenarios.runner")
"""The live clock, the paced clock, this guard, and the runner that measures how long a run took."""

Entropy = Literal["ours", "everybody"]

_CLOCKS = (
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time",
    "process_time_ns", "sleep",
)  # fmt: skip
_DRAWS = (
    "random", "uniform", "triangular", "randint", "choice", "randrange", "sample", "shuffle", "choices", "gauss",
    "normalvariate", "lognormvariate", "expovariate", "betavariate", "gammavariate", "paretovariate",
    "weibullvariate", "vonmisesvariate", "getrandbits", "randbytes", "seed",
)  # fmt: skip
_DATES: tuple[tuple[type, tuple[str, ...]], ...] = ((datetime, ("now", "utcnow")), (date, ("today",)))
_PASS_ON = ("random", "secrets", "uuid", "datetime", "threading")
"""Modules that only pass their caller's wish on: the caller is whoever stands behind them."""


class Nondeterminism(NostroError):
    """Something that would differ between two runs. `what`, `file`, `line`: who did it."""

    def __init__(self, what: str, file: str, line: int, at_us: int) -> None:
        super().__init__(f"{file}:{line} calls {what} at virtual {at_us} µs: two runs would differ")
        self.what, self.file, self.line = what, file, line


class Guard:
    """What an active guard knows: its rules, and the violations so far."""

    def __init__(self, loop: SimLoop, entropy: Entropy, allow: tuple[str, ...]) -> None:
        self._loop, self._allow = loop, allow
        self._entropy_for_all = entropy == "everybody"
        self.violations: list[Nondeterminism] = []

    def check_clock(self, what: str) -> None:
        """Our rooms may not read the machine's clock."""
        self._check(what, everybody=False)

    def check_entropy(self, what: str) -> None:
        """Our rooms, or everybody, may not draw unseeded numbers."""
        self._check(what, everybody=self._entropy_for_all)

    def check_thread(self, what: str) -> None:
        """Nobody may start a thread."""
        self._check(what, everybody=True)

    def modules(self) -> list[Any]:
        """The modules of our rooms that are loaded and not allowed everything."""
        ours = [name for name in sorted(sys.modules) if _is_under(name, OUR_ROOMS)]
        return [sys.modules[name] for name in ours if not _is_under(name, self._allow)]

    def _check(self, what: str, *, everybody: bool) -> None:
        frame = _caller()
        module = str(frame.f_globals.get("__name__", ""))
        if _is_under(module, self._allow) or not (everybody or _is_under(module, OUR_ROOMS)):
            return
        violation = Nondeterminism(what, frame.f_code.co_filename, frame.f_lineno, self._loop.now_us)
        self.violations.append(violation)
        raise violation


@contextmanager
def determinism_guard(
    loop: SimLoop, *, entropy: Entropy = "ours", allow: tuple[str, ...] = ALLOWED
) -> Iterator[Guard]:
    """Guard the block; `Nondeterminism` for whoever does what two runs would not do alike."""
    guard = Guard(loop, entropy, allow)
    with ExitStack() as undo:
        for owner, name, check in _guarded_functions(guard):
            _replace(undo, guard, owner, name, check)
        for kind, names in _DATES:
            for name in names:
                _replace_class_method(undo, kind, name, guard.check_clock)
        _replace(undo, guard, random.Random, "seed", guard.check_entropy, only_if=_is_unseeded)
        yield guard
    if guard.violations:
        raise guard.violations[0]


def _guarded_functions(guard: Guard) -> Iterator[tuple[Any, str, Callable[[str], None]]]:
    for name in _CLOCKS:
        yield time, name, guard.check_clock
    for name in _DRAWS:
        yield random, name, guard.check_entropy
    for name in ("random", "getrandbits", "randbytes"):
        yield random.SystemRandom, name, guard.check_entropy
    for owner, names in ((os, ("urandom", "getrandom")), (uuid, ("uuid1", "uuid4"))):
        for name in names:
            if hasattr(owner, name):
                yield owner, name, guard.check_entropy
    yield threading.Thread, "start", guard.check_thread  # noqa: TID251 - to refuse it
    yield _thread, "start_new_thread", guard.check_thread


def _replace(
    undo: ExitStack,
    guard: Guard,
    owner: Any,
    name: str,
    check: Callable[[str], None],
    *,
    only_if: Callable[..., bool] = lambda *_args, **_kwargs: True,
) -> None:
    """Put a checking function in a name's place, also where our modules hold the original under a name of theirs."""
    original = getattr(owner, name)
    what = f"{owner.__name__}.{name}" if not isinstance(owner, type) else f"{owner.__module__}.{owner.__name__}.{name}"

    def checked(*args: Any, **kwargs: Any) -> Any:
        if only_if(*args, **kwargs):
            check(what)
        return original(*args, **kwargs)

    _set(undo, owner, name, original, checked)
    for module in guard.modules():
        for alias in [alias for alias, held in vars(module).items() if held is original]:
            _set(undo, module, alias, original, checked)


def _set(undo: ExitStack, owner: Any, name: str, original: Any, checked: Any) -> None:
    undo.callback(setattr, owner, name, original)
    setattr(owner, name, checked)


def _replace_class_method(undo: ExitStack, kind: type, name: str, check: Callable[[str], None]) -> None:
    """The same for a class method of a C type, which refuses setattr."""
    contents: dict[str, Any] = gc.get_referents(kind.__dict__)[0]
    original = contents[name]

    def checked(cls: type, *args: Any, **kwargs: Any) -> Any:
        check(f"{kind.__module__}.{kind.__name__}.{name}")
        return original.__get__(None, cls)(*args, **kwargs)

    def put(method: Any) -> None:
        contents[name] = method
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))

    undo.callback(put, original)
    put(classmethod(checked))
    if getattr(getattr(kind, name), "__func__", None) is not checked:
        raise RuntimeError(f"this Python does not let {kind.__name__}.{name} be guarded")


def _is_unseeded(_stream: random.Random, seed: Any = None, *_version: Any, **named: Any) -> bool:
    return seed is None and named.get("a") is None


def _is_under(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def _caller() -> FrameType:
    """The frame that wanted it: the nearest one that is neither ours here nor only passes a wish on."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")) in (__name__, *_PASS_ON):
        frame = frame.f_back
    return frame
