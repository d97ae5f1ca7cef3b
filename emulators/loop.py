"""The event loop is the clock: an asyncio loop whose timers are entries of a SimPy schedule.

Rules
-----
* Virtual time is an integer number of microseconds since the loop's origin: ``loop.now_us``; ``loop.time()`` gives
  the same moment as float seconds. It moves only from one scheduled event to the next.
* Order is SimPy's: (time, priority, running number). Timers set for one moment fire in the order in which they were
  set, mixed with SimPy's own events; asyncio's own heap does not promise that.
* Whatever an event makes ready runs before the next event is taken, so coroutines see each event's consequences at
  its own moment.
* `speed` is the one knob: ``math.inf`` jumps from event to event; a factor is that many virtual seconds per real
  second; 0 stands still. Real sockets are served at every speed, but a jumping clock does not wait for them unless
  `outside_work` says so.
* Nothing runs on a thread: `run_in_executor` calls in line. Signal handlers, child processes and pipes are refused.

A wait that nothing can end raises `Deadlock`; callbacks that never let time pass raise `Runaway`.
Source: gaps.md B-50 (TWIN-01), B-45 (TWIN-02).
"""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
from asyncio import futures, selector_events
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from time import monotonic  # noqa: TID251 - a paced clock follows the machine's
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, cast

import simpy
from simpy.events import NORMAL

from core.clock import US_PER_MS, US_PER_S
from core.errors import NostroError

if TYPE_CHECKING:
    from emulators.network import Network

T = TypeVar("T")

RUNAWAY_LIMIT = 1_000_000
"""Callbacks at one virtual moment after which the loop gives up."""

_BURST = 1_024
"""Ready callbacks run before events due at the same moment get a turn, so a spinning task cannot starve them."""

_COMPACT_ABOVE = 1_024
"""Cancelled timers are swept out of the schedule when there are more than this and they are its larger half."""

_SAMPLE = 1_000
"""Callbacks looked at to name those that spin."""

_LONGEST_SELECT_S = 24 * 3_600.0
_AFTER_ALL_OTHERS = 2
_COMPLETE_FUTURE = getattr(futures, "_set_result_unless_cancelled", None)
"""What asyncio.sleep asks to be called. It only completes a future, whose callbacks carry contexts of their own."""


class Deadlock(NostroError):
    """Nothing is scheduled and nobody outside can wake the loop, yet somebody waits. `waiting`: one line per task."""

    def __init__(self, at_us: int, scheduled: int, waiting: Sequence[str]) -> None:
        listing = "".join(f"\n  {line}" for line in waiting) or "\n  no task at all"
        cause = "the clock is paused and no socket is open" if scheduled else "nothing is scheduled"
        super().__init__(f"deadlock at {at_us} µs: {cause} and these wait:{listing}")
        self.at_us, self.waiting = at_us, tuple(waiting)


class Runaway(NostroError):
    """Callbacks follow one another without virtual time passing. `spinning`: (callback, times in a sample)."""

    def __init__(self, at_us: int, limit: int, spinning: Sequence[tuple[str, int]]) -> None:
        listing = "".join(f"\n  {times} of {_SAMPLE}: {what}" for what, times in spinning)
        super().__init__(f"runaway at {at_us} µs: more than {limit} callbacks at one moment; most frequent:{listing}")
        self.at_us, self.limit, self.spinning = at_us, limit, tuple(spinning)


class Outcome(Generic[T]):
    """How a coroutine ended, as a value: SimPy would rebuild a raised exception from its ``args`` and so damage it."""

    __slots__ = ("error", "result")

    def __init__(self, result: T | None, error: BaseException | None) -> None:
        self.result, self.error = result, error

    def unwrap(self) -> T:
        """The coroutine's result, or its own exception, raised."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class Ready:
    """A callback to run at this moment. Names as in asyncio.Handle: both kinds stand in the ready queue."""

    __slots__ = ("__weakref__", "_args", "_callback", "_context")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args: Any = args
        self._context = context

    def cancel(self) -> None:
        """Never run it; harmless afterwards."""
        self._callback = self._args = None

    def cancelled(self) -> bool:
        return self._args is None

    def __repr__(self) -> str:
        return f"<Ready {'cancelled' if self._callback is None else _name_of(self._callback)}>"


class Timer:
    """An entry of the SimPy schedule that calls back once; without a context it runs in the loop's own."""

    __slots__ = ("__weakref__", "_args", "_callback", "_context", "_loop", "due_us")

    def __init__(
        self,
        loop: SimLoop,
        due_us: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self._loop = loop
        self.due_us = due_us
        self._callback: Callable[..., object] | None = callback
        self._args: Any = args
        self._context = context

    def cancel(self) -> None:
        """Never fire; harmless afterwards."""
        if self._callback is not None:
            self._callback = self._args = None
            self._loop._forget_cancelled()

    def cancelled(self) -> bool:
        return self._args is None

    def when(self) -> float:
        """Due moment in the seconds of ``loop.time()``."""
        return self.due_us / US_PER_S

    def __repr__(self) -> str:
        state = "done" if self._callback is None else _name_of(self._callback)
        return f"<Timer {self.due_us} µs {'cancelled' if self.cancelled() else state}>"


def _refusal(what: str, instead: str) -> Any:
    """A method that says why the loop has no such thing. asyncio's libraries expect NotImplementedError."""

    def refuse(*_arguments: Any, **_options: Any) -> NoReturn:
        raise NotImplementedError(f"virtual time has no place for {what}: {instead}")

    return refuse


class Environment(simpy.Environment):
    """SimPy's environment in integer microseconds; the loop steps it, nobody else."""

    def schedule(self, event: Any, priority: Any = NORMAL, delay: Any = 0) -> None:
        if type(delay) is not int:
            raise TypeError(f"a delay is an integer number of microseconds, not {delay!r}")
        heappush(self._queue, (self._now + delay, priority, next(self._eid), event))

    def step(self) -> NoReturn:
        raise RuntimeError("the event loop steps this environment: use loop.run_until_complete")

    def run(self, until: Any = None) -> NoReturn:  # noqa: ARG002 - SimPy's signature
        raise RuntimeError("the event loop runs this environment: use loop.run_until_complete(loop.wait(event))")


class SimLoop(selector_events.BaseSelectorEventLoop):
    """An asyncio loop in virtual time. Everything inherited that touches real sockets works on them as usual.

    ``speed``: ``math.inf``, a factor > 0, or 0. ``runaway_limit``: callbacks allowed at one virtual moment.
    """

    # asyncio's own attributes that this class works on; its type stubs leave them out
    _ready: deque[Any]
    _closed: bool
    _stopping: bool
    _debug: bool
    _selector: selectors.BaseSelector
    _check_closed: Callable[[], None]
    _check_thread: Callable[[], None]
    _check_callback: Callable[[Any, str], None]
    _process_events: Callable[[Any], None]
    _write_to_self: Callable[[], None]

    def __init__(self, speed: float = math.inf, *, runaway_limit: int = RUNAWAY_LIMIT) -> None:
        self._fds = 0
        self._leaving = False
        super().__init__(selectors.DefaultSelector())
        self.env = Environment(0)
        self.network: Network | None = None
        self.runaway_limit = runaway_limit
        self._queue: list[Any] = cast(Any, self.env._queue)
        self._next_number = self.env._eid.__next__
        self._cancelled_timers = 0
        self._outside_work = 0
        self._anchor_us, self._anchor_real = 0, 0.0
        self.speed = speed
        self.set_speed(speed)

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def now_us(self) -> int:
        """Virtual microseconds since the loop's origin."""
        return self.env._now  # type: ignore[return-value]

    def time(self) -> float:
        """`now_us` in seconds."""
        return self.env._now / US_PER_S

    def set_speed(self, speed: float) -> None:
        """Change the pace at this moment: ``math.inf`` jumps, a factor paces, 0 pauses."""
        if not speed >= 0:
            raise ValueError(f"speed is a factor >= 0 or math.inf, not {speed!r}")
        self.speed = speed
        self._anchor_us, self._anchor_real = self.now_us, monotonic()
        self._leaving = True

    def advance(self, us: int) -> asyncio.Future[int]:
        """Let ``us`` microseconds pass at once, whatever the speed.

        The future gives the moment reached, when everything due until then has run.
        """
        if us < 0:
            raise ValueError(f"time does not run backwards: {us} µs")
        return self._advance_to(self.now_us + us)

    def advance_to_next_event(self) -> asyncio.Future[int]:
        """Go to the next scheduled moment and run all that is due then; stays where it is if nothing is scheduled."""
        self._drop_cancelled_heads()
        return self._advance_to(self._queue[0][0] if self._queue else self.now_us)

    def _advance_to(self, moment_us: int) -> asyncio.Future[int]:
        reached: asyncio.Future[int] = self.create_future()
        arrival = Timer(self, moment_us, _complete, (reached, moment_us), None)
        heappush(self._queue, (moment_us, _AFTER_ALL_OTHERS, self._next_number(), arrival))
        if self.speed != math.inf:
            self._anchor_us += max(0, moment_us - int(self._target_us()))
        return reached

    @contextmanager
    def outside_work(self) -> Iterator[None]:
        """Something real (a socket, a thread) works for us: the clock must not jump before it has answered."""
        self._outside_work += 1
        self._leaving = True
        try:
            yield
        finally:
            self._outside_work -= 1
            self._leaving = True

    # -- scheduling ------------------------------------------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        handle = Ready(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        self._check_closed()
        handle = Ready(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        self._write_to_self()
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        due_us = self.env._now + int(delay * US_PER_S + 0.5) if delay > 0 else self.env._now
        return self._set_timer(due_us, callback, args, context)  # type: ignore[arg-type]

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        due_us = max(int(when * US_PER_S + 0.5), self.now_us)
        return self._set_timer(due_us, callback, args, context)

    def call_after_us(self, us: int, callback: Callable[..., object], *args: Any) -> Timer:
        """The cheapest timer: call back after ``us`` >= 0 microseconds, in the loop's own context."""
        due_us: int = self.env._now + us  # type: ignore[assignment]
        timer = Timer(self, due_us, callback, args, None)
        heappush(self._queue, (due_us, NORMAL, self._next_number(), timer))
        return timer

    def _set_timer(
        self, due_us: int, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> Timer:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_at")
        if context is None and callback is not _COMPLETE_FUTURE:
            context = copy_context()
        timer = Timer(self, due_us, callback, args, context)
        heappush(self._queue, (due_us, NORMAL, self._next_number(), timer))
        return timer

    def _forget_cancelled(self) -> None:
        """Count a cancelled timer; sweep when they are the larger half, so timeouts that are met cost no memory."""
        self._cancelled_timers += 1
        if self._cancelled_timers > _COMPACT_ABOVE and self._cancelled_timers * 2 > len(self._queue):
            self._queue[:] = [entry for entry in self._queue if not _is_cancelled(entry[3])]
            heapify(self._queue)
            self._cancelled_timers = 0

    def _drop_cancelled_heads(self) -> None:
        while self._queue and _is_cancelled(self._queue[0][3]):
            heappop(self._queue)
            self._cancelled_timers -= 1

    # -- running ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        super().stop()
        self._leaving = True

    def close(self) -> None:
        super().close()
        self._queue.clear()

    def _run_once(self) -> None:
        """Run until somebody asks to leave: a stop, a new speed, a real socket."""
        self._leaving = self._stopping
        if self.speed == math.inf and not self._fds and not self._outside_work:
            self._run_jumping()
        else:
            self._run_served()

    def _run_jumping(self) -> None:
        """From event to event without looking at the machine: no system call, no clock.

        The steps of `_run_ready` and `_fire` are written out here: two calls less per event are a tenth of its cost.
        """
        env, queue, ready, burst = self.env, self._queue, self._ready, range(_BURST)
        now, spins = env._now, 0
        while True:
            for _ in burst:
                if not ready:
                    break
                handle = ready.popleft()
                callback = handle._callback
                if callback is None:
                    continue
                try:
                    handle._context.run(callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._report(callback, error)
            else:
                spins += _BURST
            if self._leaving:
                return
            if spins > self.runaway_limit:
                raise self._runaway()
            if ready and not (queue and queue[0][0] <= now):
                continue
            if not queue:
                raise self._deadlock()
            when, _, _, event = heappop(queue)
            if type(event) is not Timer:
                env._now = when
                _process(event)
            else:
                callback = event._callback
                if callback is None:
                    self._cancelled_timers -= 1
                    continue
                env._now = when
                event._callback = None
                try:
                    if event._context is None:
                        callback(*event._args)
                    else:
                        event._context.run(callback, *event._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._report(callback, error)
            spins = spins + 1 if when == now else 0
            now = when

    def _run_served(self) -> None:
        """Event by event, with a look at the sockets before each: paced, paused, or jumping with real sockets open."""
        spins, before_us = 0, -1
        while True:
            spins += self._run_ready()
            if self._leaving:
                return
            if spins > self.runaway_limit:
                raise self._runaway()
            patience_s = self._patience_s()
            if patience_s != 0.0:
                spins = 0
                self._refuse_endless_wait(patience_s)
            self._process_events(self._selector.select(patience_s))
            self._follow_target()
            if self._fire_due():
                spins += 1
            if self.now_us != before_us:
                spins, before_us = 0, self.now_us

    def _run_ready(self) -> int:
        """Run what is ready, at most one burst; gives the number of callbacks run."""
        for done in range(_BURST):
            if not self._ready:
                return done
            handle = self._ready.popleft()
            if handle._callback is not None:
                self._call(handle._context, handle._callback, handle._args)
        return _BURST

    def _fire_due(self) -> bool:
        """Fire the next event if the clock has reached it."""
        self._drop_cancelled_heads()
        if not self._queue or self._queue[0][0] > self._target_us():
            return False
        when, _, _, event = heappop(self._queue)
        self.env._now = when
        if isinstance(event, Timer):
            callback, event._callback = event._callback, None
            self._call(event._context, callback, event._args)
        else:
            _process(event)
        return True

    def _call(self, context: Context | None, callback: Any, args: Any) -> None:
        try:
            if context is None:
                callback(*args)
            else:
                context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(callback, error)

    def _target_us(self) -> float:
        """The moment up to which events may fire now."""
        if self.speed == math.inf:
            return self.now_us if self._outside_work or self._ready else math.inf
        return self._anchor_us + int((monotonic() - self._anchor_real) * self.speed * US_PER_S)

    def _patience_s(self) -> float | None:
        """Real seconds the sockets may be waited for; None: until one of them speaks."""
        if self._ready:
            return 0.0
        self._drop_cancelled_heads()
        if not self._queue:
            return None
        ahead_us: float = self._queue[0][0] - self._target_us()
        if ahead_us <= 0:
            return 0.0
        if self.speed in (0, math.inf):
            return None
        return min(ahead_us / US_PER_S / self.speed, _LONGEST_SELECT_S)

    def _refuse_endless_wait(self, patience_s: float | None) -> None:
        if patience_s is None and not self._fds and not self._outside_work:
            raise self._deadlock()

    def _follow_target(self) -> None:
        """Between two events a paced clock moves too: what a socket brings has its own moment."""
        if self.speed != math.inf:
            self._drop_cancelled_heads()
            horizon = self._queue[0][0] if self._queue else math.inf
            self.env._now = max(self.now_us, int(min(self._target_us(), horizon)))

    def _report(self, callback: Callable[..., object], error: BaseException) -> None:
        self.call_exception_handler({"message": f"Exception in callback {_name_of(callback)}", "exception": error})

    # -- what went wrong -------------------------------------------------------------------------------------------

    def _deadlock(self) -> Deadlock:
        tasks = sorted(asyncio.all_tasks(self), key=_order_of_task)
        return Deadlock(self.now_us, len(self._queue), [describe(task) for task in tasks])

    def _runaway(self) -> Runaway:
        """Run a sample on and count, since those that are ready now need not be those that spin."""
        seen: Counter[str] = Counter()
        for _ in range(_SAMPLE):
            if self._ready:
                handle = self._ready.popleft()
                if handle._callback is not None:
                    seen[_name_of(handle._callback)] += 1
                    self._call(handle._context, handle._callback, handle._args)
            elif self._queue:
                seen[_name_of_event(self._queue[0][3])] += 1
                self._step_sample()
        return Runaway(self.now_us, self.runaway_limit, seen.most_common(5))

    def _step_sample(self) -> None:
        if self._queue[0][0] > self.now_us:
            return
        _, _, _, event = heappop(self._queue)
        if not isinstance(event, Timer):
            _process(event)
        elif event._callback is not None:
            callback, event._callback = event._callback, None
            self._call(event._context, callback, event._args)

    # -- SimPy and coroutines on one clock -------------------------------------------------------------------------

    def wait(self, event: simpy.Event) -> asyncio.Future[Any]:
        """A SimPy event (or process) as an awaitable: gives its value or raises the very exception it failed with."""
        future: asyncio.Future[Any] = self.create_future()

        def settle(happened: simpy.Event) -> None:
            if future.done():
                return
            if happened._ok:
                future.set_result(happened._value)
            else:
                happened._defused = True
                future.set_exception(happened._value)

        if event.processed:
            settle(event)
        else:
            event.callbacks.append(settle)
        return future

    def event_of(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> simpy.Event:
        """A coroutine as a SimPy event whose value is an `Outcome`: ``(yield loop.event_of(ask())).unwrap()``."""
        event = self.env.event()

        def settle(task: asyncio.Task[T]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            event.succeed(Outcome(task.result() if error is None else None, error))

        self.create_task(coroutine, name=name).add_done_callback(settle)
        return event

    # -- sockets ---------------------------------------------------------------------------------------------------

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Over the memory network if one is attached and no socket is given; else over a real socket."""
        if self.network is None or options.get("sock") is not None:
            return await super().create_connection(protocol_factory, host, port, **options)
        return await self.network.create_connection(protocol_factory, host, port, **options)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """On the memory network if one is attached and no socket is given; else on a real socket."""
        if self.network is None or options.get("sock") is not None:
            return await super().create_server(protocol_factory, host, port, **options)
        return await self.network.create_server(protocol_factory, host, port, **options)

    async def create_datagram_endpoint(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        if self.network is not None and options.get("sock") is None:
            raise NotImplementedError("the memory network carries streams, no datagrams")
        return await super().create_datagram_endpoint(protocol_factory, *args, **options)

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """In line; with a memory network attached, only its own names and literal addresses are known."""
        if self.network is not None:
            host = self.network.address_of(host)
            flags |= socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        """In line; with a memory network attached, an address is its own name."""
        if self.network is not None:
            flags |= socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        return socket.getnameinfo(sockaddr, flags)

    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        return self._count_fds(super()._add_reader(fd, callback, *args))  # type: ignore[misc]

    def _remove_reader(self, fd: Any) -> Any:
        return self._count_fds(super()._remove_reader(fd))  # type: ignore[misc]

    def _add_writer(self, fd: Any, callback: Any, *args: Any) -> Any:
        return self._count_fds(super()._add_writer(fd, callback, *args))  # type: ignore[misc]

    def _remove_writer(self, fd: Any) -> Any:
        return self._count_fds(super()._remove_writer(fd))  # type: ignore[misc]

    def _count_fds(self, answer: T) -> T:
        """Real descriptors beside the loop's own wake-up pipe decide which way the loop runs."""
        if not self._closed:
            fds = max(0, len(self._selector.get_map()) - 1)
            self._leaving = self._leaving or bool(fds) != bool(self._fds)
            self._fds = fds
        return answer

    # -- what would need a thread, a signal or a child process -----------------------------------------------------

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]  # noqa: ARG002
        """Call in line: a thread would answer at a moment nobody can repeat."""
        self._check_closed()
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002
        self._executor_shutdown_called = True

    set_default_executor = _refusal("an executor", "run_in_executor calls in line")
    add_signal_handler = _refusal("a signal handler", "a signal comes at a wall-clock moment")
    remove_signal_handler = _refusal("a signal handler", "none can have been set")
    subprocess_exec = _refusal("a child process", "emulate what it does")
    subprocess_shell = _refusal("a child process", "emulate what it does")
    connect_read_pipe = _refusal("a pipe", "use the memory network")
    connect_write_pipe = _refusal("a pipe", "use the memory network")


class LoopClock:
    """`core.clock.Clock` of a run: the loop's virtual time counted from an epoch moment, ``origin_ms``."""

    __slots__ = ("_env", "_origin_us")

    def __init__(self, loop: SimLoop, origin_ms: int) -> None:
        self._env = loop.env
        self._origin_us = origin_ms * US_PER_MS

    def now_us(self) -> int:
        """Epoch microseconds."""
        return self._origin_us + self._env._now  # type: ignore[return-value]

    def now_ms(self) -> int:
        """Epoch milliseconds."""
        return (self._origin_us + self._env._now) // US_PER_MS  # type: ignore[return-value]


def describe(task: asyncio.Task[Any]) -> str:
    """``'name' coroutine waits at file:line in function``: the innermost line outside asyncio itself."""
    coroutine: Any = task.get_coro()
    what = getattr(coroutine, "__qualname__", type(coroutine).__name__)
    frames = [frame for frame in _frames_of(coroutine) if "/asyncio/" not in frame.f_code.co_filename]
    if not frames:
        return f"{task.get_name()!r} {what} has not begun" if not task.done() else f"{task.get_name()!r} {what} is done"
    innermost = frames[-1]
    code = innermost.f_code
    return f"{task.get_name()!r} {what} waits at {code.co_filename}:{innermost.f_lineno} in {code.co_qualname}"


def _frames_of(awaited: Any) -> Iterator[FrameType]:
    """Frames of a suspended coroutine, outermost first, through everything it awaits."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None) or _frame_of_agen(awaited)
        if frame is None:
            return
        yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _frame_of_agen(awaited: Any) -> FrameType | None:
    return getattr(awaited, "ag_frame", None)


def _order_of_task(task: asyncio.Task[Any]) -> tuple[int, str]:
    """asyncio keeps tasks in a set: by name, so that Task-2 stands before Task-10."""
    return len(task.get_name()), task.get_name()


class Cancellable(Protocol):
    """What can still be called off."""

    def cancel(self) -> None: ...


def timer_of(loop: asyncio.AbstractEventLoop) -> Callable[..., Cancellable]:
    """Call back after some µs: the virtual loop's cheapest timer, or an ordinary loop's."""
    if isinstance(loop, SimLoop):
        return loop.call_after_us

    def after_us(us: int, callback: Callable[..., object], *args: object) -> Cancellable:
        return loop.call_later(us / US_PER_S, callback, *args)

    return after_us


def _process(event: Any) -> None:
    """What `simpy.Environment.step` does with an event, but a failure nobody handled is raised as it is."""
    callbacks, event.callbacks = event.callbacks, None
    for callback in callbacks:
        callback(event)
    if not event._ok and not hasattr(event, "_defused"):
        raise event._value


def _is_cancelled(event: object) -> bool:
    return type(event) is Timer and event._callback is None


def _complete(reached: asyncio.Future[int], moment_us: int) -> None:
    if not reached.done():
        reached.set_result(moment_us)


def _name_of(callback: Callable[..., object]) -> str:
    """A task step by its task and line, anything else by its own name and line."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return describe(owner)
    target: Any = getattr(callback, "func", callback)
    code = getattr(target, "__code__", None)
    name = getattr(target, "__qualname__", repr(target))
    return f"{name} at {code.co_filename}:{code.co_firstlineno}" if code else name


def _name_of_event(event: Any) -> str:
    if isinstance(event, Timer):
        return "cancelled timer" if event._callback is None else _name_of(event._callback)
    names = [_name_of_waiter(callback) for callback in event.callbacks or ()]
    return f"SimPy {type(event).__name__} for {', '.join(names) or 'nobody'}"


def _name_of_waiter(callback: Any) -> str:
    owner = getattr(callback, "__self__", None)
    return f"process {owner.name}" if isinstance(owner, simpy.Process) else _name_of(callback)
