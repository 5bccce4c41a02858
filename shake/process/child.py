"""A child process of the supervisor: started, watched by the loop, replaced when it exits."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Generic

from shake.process import heartbeat
from shake.process.heartbeat import Heartbeat, Liveness
from shake.process.loop import Loop
from shake.process.messages import FromChild, Ping, Pong, Silent, Start
from shake.process.role import Sent, SetUp, Taken
from shake.process.site import ChildConnection
from shake.process.spawn_many import Process

#: Seconds that a dismissed child has to end by itself.
EXIT_SECONDS = 2.0


class Child(Generic[SetUp, Taken, Sent]):
    """A running child. It exits by itself as soon as the supervisor's end of its channel closes.

    It is pinged every few seconds. While it does not answer, ``on_message`` receives Silent; then
    it is killed, and ``on_exit`` is called as for any other exit. Before that, and when it
    answers again, ``on_message`` receives that each Silent is over. ``launched``: see Site.launch.
    """

    def __init__(
        self,
        loop: Loop,
        launched: tuple[Process, ChildConnection[SetUp, Taken, Sent]],
        start: Start,
        set_up: SetUp,
        on_message: Callable[[FromChild | Sent], None],
        on_exit: Callable[[str], None],
    ) -> None:
        self._process, self.channel = launched
        self._loop = loop
        self._name = start.name
        self._on_message = on_message
        self._on_exit = on_exit
        self._over = False
        self._kill_at = 0.0  # on the monotonic clock, once it is dismissed
        self._killed = ""  # why, where it did not answer
        self._heartbeat = Heartbeat(loop.clock())
        self._reported: set[str] = set()
        self.channel.attach(loop, self)
        self.channel.begin(start, set_up)
        self._beat()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Taken) -> None:
        self.channel.send(message)

    def read(self) -> bool:
        """Handle the messages that are there; False where the child is gone."""
        received, alive = self.channel.receive()
        for message in received:
            if isinstance(message, Pong):
                self._heartbeat.answered()
                self._end_reports()
            else:
                self._on_message(message)
        return alive

    def disconnected(self) -> None:
        """Its end of the channel has closed: make sure that it is gone, and report how it ended."""
        self._over = True
        self._process.kill()
        status = self._process.wait()
        self.channel.close()
        self._end_reports()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        self._on_exit(self._killed or how)

    def _beat(self) -> None:
        """Ping the child again, or report or kill it for its silence."""
        if self._over:
            return
        match self._heartbeat.check(self._loop.clock()):
            case Liveness.ALIVE:
                self.channel.send(Ping())
            case Liveness.SILENT:
                self._report(heartbeat.REPORT_AFTER)
            case Liveness.EXPIRED:
                # Its channel closes when it is gone. Until then it can still touch its arena, so
                # a process that even SIGKILL does not end (in a hung system call) is not replaced.
                self._killed = f"killed: no answer for {heartbeat.KILL_AFTER:.0f} s"
                self._process.kill()
                self._report(heartbeat.KILL_AFTER)
        self._loop.later(heartbeat.EVERY, self._beat)

    def _report(self, seconds: float) -> None:
        text = f"{self._name} (process {self.pid}) {heartbeat.UNANSWERED} {seconds:.0f} s"
        self._reported.add(text)
        self._on_message(Silent(text))

    def _end_reports(self) -> None:
        for text in self._reported:
            self._on_message(Silent(text, answers_again=True))
        self._reported.clear()

    def dismiss(self) -> None:
        """Close the channel: the child ends by itself; ``reap`` waits for that."""
        self._over = True
        self._kill_at = time.monotonic() + EXIT_SECONDS
        self.channel.detach(self._loop)
        self.channel.close()

    def reap(self) -> None:
        """Wait for a dismissed child; kill it EXIT_SECONDS after it was dismissed."""
        try:
            self._process.wait(timeout=max(0.0, self._kill_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
