"""The shim: one small process per pod that outlives the server and does everything the pod needs (DESIGN §4).

Forked by `starter`, with the plan and the secrets in a pipe and the control socket as a descriptor; nothing of the
pod's is in its arguments or its environment. Its life, told step by step in the state file:

    pending    preparing: the environment is built (in a worker, so `stop` ends it at once)
    pending    starting: disks, cgroup, network, sandbox; the launcher says hello and gets command and environment
    pending    not_ready: the process runs (`started_at`); the probe looks at its port
    ready
    stopping   SIGTERM was sent; the caller comes with `kill` after its grace
    exited     everything is taken away again, the log is complete

It then stays until followers have read the log (or `_LINGER_FOLLOWED_SECONDS`), cuts the log to what is kept, and ends.
A shim that dies takes its pod with it: bubblewrap and the kernel see to that. One thread; standard library only.
"""

import json
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from neuropod.runtimes.local import linux, spawn
from neuropod.runtimes.local.control import ControlServer, Request, answer
from neuropod.runtimes.local.environments import PrepareFailedError
from neuropod.runtimes.local.execs import Doors, Execs
from neuropod.runtimes.local.incoming import open_port
from neuropod.runtimes.local.loop import Loop, Timer
from neuropod.runtimes.local.output import Output
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.podenv import Start, start_of
from neuropod.runtimes.local.probe import Probe
from neuropod.runtimes.local.resources import NotPreparedError, Resources, prepare_environment
from neuropod.runtimes.local.state import ProcessId, State, boot_id, write_state
from neuropod.runtimes.local.worker import Worker
from neuropod.runtimes.logfiles import LogWriter, trim

_LINGER_SECONDS = 3.0  # for a follower that comes when the end is already there
_LINGER_FOLLOWED_SECONDS = 60.0
_MEASURE_SECONDS = 10.0  # between two measurements of folders that have no limit of their own, at least
_MEASURE_SHARE = 30  # and this many times as long as the last one took


class Shim:
    """The life of one incarnation."""

    def __init__(self, plan: Plan, secrets: dict[str, str], listener: socket.socket) -> None:
        self.plan = plan
        self._secrets = secrets
        self._loop = Loop()
        self._control = ControlServer(self._loop, listener, self._requested)
        self._log = LogWriter(plan.log_dir)
        self._resources = Resources(plan, self._loop)
        self._worker: Worker | None = None
        self._measuring: Worker | None = None
        self._started: spawn.Started | None = None
        self._hello: spawn.Hello | None = None
        self._outcome_due = False  # the order was given, and what became of it was not heard yet
        self._started_as: Start | None = None  # how commands beside it are started too
        self._execs = Execs(self._loop, self._doors)
        self._output: Output | None = None
        self._probe: Probe | None = None
        self._timers: list[Timer] = []
        self._measured_from = 0.0
        self._end_reason: str | None = None  # why it ends, when we end it
        me = ProcessId.of(os.getpid())
        self._state = State(plan.installation, plan.pod, plan.incarnation, boot_id(), me.pid, me.start_time, taken=True)

    def run(self) -> None:
        """Live until the end."""
        self._control.start()
        self._set()
        # First the loop, then the work: who watches sees every step.
        self._loop.call_later(0, self._prepare)
        self._loop.run()

    def _set(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        with suppress(FileNotFoundError):  # removed after the end
            write_state(self.plan.state_dir, self._state)
        self._control.nudge_watchers()

    # ---- pending

    def _prepare(self) -> None:
        try:
            environment = prepare_environment(self.plan, report=None)
        except NotPreparedError:
            self._set(reason="preparing", message="The environment is being prepared.")
            self._worker = Worker(
                self._loop,
                partial(_build, self.plan),
                on_told=self._build_told,
                on_end=self._build_ended,
            )
            return
        except Exception as error:  # noqa: BLE001 - the owner is told, whatever it is
            self._finish("prepare_failed", str(error))
            return
        self._resources.environment = environment
        self._start()

    def _build_told(self, told: dict[str, Any]) -> None:
        if "failed" in told:
            self._end_reason = "prepare_failed"
            self._set(message=told["failed"])
        else:
            self._set(progress=told)

    def _build_ended(self, succeeded: bool) -> None:
        self._worker = None
        if self._end_reason == "prepare_failed" or not succeeded:
            message = self._state.message if self._end_reason else "Building the environment ended unexpectedly."
            self._finish("prepare_failed", message)
            return
        self._set(reason="starting", message="", progress=None)
        self._prepare()

    def _start(self) -> None:
        try:
            self._resources.attach()
            sandbox = self._resources.sandbox()
            self._started = spawn.start(
                sandbox,
                inside=self._resources.inside,
                enter_cgroup=self._resources.enter_cgroup,
                owner=(self.plan.uid, self.plan.gid) if self.plan.mode == "root" else None,
            )
        except Exception as error:  # noqa: BLE001 - the owner is told, whatever it is
            traceback.print_exc()
            self._finish(self._resources.reason_of(error), f"The pod cannot be started: {error}")
            return
        self._output = Output(self._loop, self._started.output, self._log, self._control.nudge_followers)
        self._loop.add_reader(self._started.channel.fileno(), self._heard_hello)
        self._loop.add_reader(self._started.pidfd, self._main_ended)

    def _heard_hello(self) -> None:
        started = self._required_started()
        self._loop.remove(started.channel.fileno())
        self._hello = spawn.hear_hello(started.channel)
        if self._hello is None:
            return  # the sandbox did not start; its end comes next
        if self._end_reason is not None:
            self._kill_all()  # it was ended while it started
            return
        if self.plan.mode == "root" and self._hello.uid != self.plan.uid:
            self._end_reason = "internal"
            self._set(message="The sandbox did not drop its privileges.")
            self._kill_all()
            return
        self._resources.hold_namespace(started.pid)
        self._started_as = start = start_of(self.plan, self._resources.places, self._secrets)
        venv = None if start.venv is None else (self._resources.podvenv_module, *start.venv)
        spawn.give_order(started.channel, command=start.command, env=start.env, cwd=start.cwd, venv=venv)
        self._secrets = {}
        self._outcome_due = True
        self._loop.add_reader(started.channel.fileno(), self._heard_outcome)

    def _heard_outcome(self) -> None:
        started = self._required_started()
        self._outcome_due = False
        self._loop.remove(started.channel.fileno())
        failure = spawn.hear_outcome(started.channel)
        started.channel.close()
        hello = self._hello
        if failure is not None:
            self._set(message=f"It cannot be started: {failure}")
            return
        if hello is None or self._state.phase != "pending":
            return
        changes: dict[str, Any] = {
            "main_pid": hello.process.pid,
            "main_start_time": hello.process.start_time,
            "started_at": linux.wall_time(),
            "address": self._resources.address,
        }
        if self.plan.ready_port is None:
            self._set(phase="ready", reason="ready", ready_at=changes["started_at"], **changes)
        else:
            self._set(reason="not_ready", message=f"Waiting for port {self.plan.ready_port}.", **changes)
            self._probe = Probe(
                self._loop,
                self._resources.inside,
                self.plan.ready_port,
                http=self.plan.ready_http,
                on_ready=self._is_ready,
            )
            self._probe.start()
        if self._resources.must_measure:
            self._timers.append(self._loop.call_later(_MEASURE_SECONDS, self._measure))

    def _is_ready(self) -> None:
        if self._state.phase == "pending":
            self._set(phase="ready", reason="ready", message="", ready_at=linux.wall_time())

    def _required_started(self) -> spawn.Started:
        if self._started is None:
            raise RuntimeError("nothing was started")
        return self._started

    # ---- disks without a limit of their own (modes user and none)

    def _measure(self) -> None:
        self._measured_from = time.monotonic()
        self._measuring = Worker(
            self._loop, self._resources.measure, on_told=self._overrun, on_end=lambda _: self._measured()
        )

    def _measured(self) -> None:
        self._measuring = None
        if self._state.phase in {"pending", "ready"}:
            # A tree of millions takes its time: looking shall cost a few per cent of a core, no more.
            pause = max(_MEASURE_SECONDS, _MEASURE_SHARE * (time.monotonic() - self._measured_from))
            self._timers = [self._loop.call_later(pause, self._measure)]

    def _overrun(self, sentence: str) -> None:
        self._log.write(f"\nneuropod: {sentence}\n".encode())
        self._end_reason = self._end_reason or "disk_full"
        self._set(message=sentence)
        self._kill_all()

    # ---- requests

    def _requested(self, request: Request, connection: socket.socket) -> None:
        match request["op"]:
            case "connect":
                open_port(self._loop, self._resources.inside, self._runs, int(request["port"]), connection)
            case "exec":
                self._execs.requested(request, connection)
            case "stop":
                self._stop(str(request["reason"]))
                answer(connection, {"ok": True})
            case "kill":
                self._kill(str(request["reason"]))
                answer(connection, {"ok": True})
            case "leave":
                if self._state.phase == "exited":
                    self._loop.stop()
            case _:
                answer(connection, {"error": "unknown request"})

    @property
    def _runs(self) -> bool:
        return self._hello is not None and self._state.phase != "exited"

    def _doors(self) -> Doors | None:
        hello, start = self._hello, self._started_as
        if hello is None or start is None or self._state.started_at is None or self._state.phase == "exited":
            return None
        return Doors(self._resources.entrance(hello.pidfd), start, self._resources.enter_cgroup)

    def _stop(self, reason: str) -> None:
        if self._state.phase in {"stopping", "exited"}:
            return
        self._end_reason = reason
        if self._started is None:
            self._finish(reason, "")
            return
        self._set(phase="stopping", reason=reason, message="", stopping_at=linux.wall_time())
        hello = self._hello
        if hello is None or self._state.started_at is None:
            self._kill_all()
        else:
            linux.signal_group(hello.pidfd, hello.process.pid, signal.SIGTERM)

    def _kill(self, reason: str) -> None:
        if self._state.phase == "exited":
            return
        self._end_reason = self._end_reason or reason
        if self._started is None:
            self._finish(self._end_reason, "")
            return
        if self._state.phase != "stopping":
            self._set(phase="stopping", reason=self._end_reason, message="", stopping_at=linux.wall_time())
        self._kill_all()

    def _kill_all(self) -> None:
        started = self._required_started()
        self._cancel_workers()
        self._resources.kill()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(started.pidfd, signal.SIGKILL)

    def _cancel_workers(self) -> None:
        for worker in (self._worker, self._measuring):
            if worker is not None:
                worker.cancel()
        self._worker = self._measuring = None

    # ---- the end

    def _main_ended(self) -> None:
        started = self._required_started()
        ended_at = linux.wall_time()
        if self._outcome_due:
            self._heard_outcome()  # a command so short that its end came in the same moment
        self._loop.remove(started.channel.fileno())
        started.channel.close()
        self._loop.remove(started.pidfd)
        _, status = os.waitpid(started.pid, 0)
        os.close(started.pidfd)
        code = os.waitstatus_to_exitcode(status)
        code = 128 - code if code < 0 else code
        self._cancel_workers()  # they are descendants too
        self._execs.end()
        self._resources.kill()
        self._resources.wait_until_empty()
        if self._end_reason is not None:
            reason, message = self._end_reason, self._state.message if self._end_reason == "disk_full" else ""
        elif self._hello is None:
            reason, message = "internal", f"The sandbox did not start (exit code {code}); the log says more."
        elif code == 137 and self._resources.out_of_memory():
            reason, message = "out_of_memory", f"It used more than its {self.plan.memory_bytes // 10**6} MB of memory."
        else:
            reason, message = "exited" if code == 0 else "crashed", self._state.message if code in {126, 127} else ""
        self._finish(reason, message, exit_code=None if self._hello is None else code, finished_at=ended_at)

    def _finish(self, reason: str, message: str, **changes: Any) -> None:
        """Take everything away, say that it is over, and stay a little for who reads the log."""
        for timer in self._timers:
            timer.cancel()
        self._cancel_workers()
        if self._probe is not None:
            self._probe.close()
        if self._output is not None:
            self._output.finish()
        self._log.close()
        self._resources.detach()
        changes.setdefault("finished_at", linux.wall_time())
        self._set(phase="exited", reason=reason, message=message, progress=None, **changes)
        self._control.nudge_followers(ended=True)
        self._loop.call_later(_LINGER_FOLLOWED_SECONDS, self._loop.stop)
        self._loop.call_later(_LINGER_SECONDS, self._leave_when_unread)

    def _leave_when_unread(self) -> None:
        self._control.on_followers_gone = self._loop.stop
        if not self._control.followers:
            self._loop.stop()

    def leave(self) -> None:
        """Cut the log to what is kept and close; the process ends next."""
        trim(self.plan.log_dir, self.plan.log_bytes)
        self._control.close()

    def broken(self, error: BaseException) -> None:
        """End the pod because of a defect of ours, and say so as well as it still goes."""
        with suppress(Exception):
            self._resources.kill()
        with suppress(Exception):
            self._set(
                phase="exited",
                reason="internal",
                finished_at=linux.wall_time(),
                message=f"The pod's shim failed: {error!r}",
            )


def _build(plan: Plan, tell: Callable[[Any], None]) -> None:
    """Build the environment; runs in a worker."""
    try:
        prepare_environment(plan, report=tell)
    except PrepareFailedError as error:
        tell({"failed": str(error)})


def main(source: int, listener: socket.socket) -> None:
    """Read plan and secrets from a pipe and live one incarnation's life; called in a process of its own."""
    with os.fdopen(source, "rb") as pipe:
        data = pipe.read()
    if not data.endswith(b"\n"):
        return  # the server died while it told us: nothing was begun, and ensure comes again
    told = json.loads(data)
    plan = Plan.from_json(told["plan"])
    os.umask(0o077)
    linux.join_new_session_keyring()
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    with suppress(OSError):  # as root: the last to go for want of memory, since its pod goes with it
        Path("/proc/self/oom_score_adj").write_text("-900")
    shim = Shim(plan, told["secrets"], listener)
    try:
        shim.run()
    except BaseException as error:
        shim.broken(error)
        raise
    shim.leave()
