"""A worker: scans segments and reads shards, several at a time, each in a separate thread."""

from __future__ import annotations

from collections.abc import Iterator

from shake import codec
from shake.config import Config
from shake.farm import worker_messages as messages
from shake.process import entry as child
from shake.process.arena import SLOTS_PER_SCANNER
from shake.process.diagnosis import diagnose
from shake.process.messages import Ready, Report, unhandled
from shake.source.endpoint import Credentials
from shake.source.scan import ScanPlan
from shake.worker.applying_reader import ApplyingReader
from shake.worker.context import WorkerContext
from shake.worker.journaling_reader import JournalingReader
from shake.worker.scanner import Allowance, ScannedTable, Scanner
from shake.worker.shard_reader import FollowedStream, Reader


class WorkerMain:
    """The child's main thread: passes messages to the threads of scanners and shard readers."""

    def __init__(
        self, channel: messages.WorkerChannel, config: Config, set_up: messages.WorkerSetup
    ) -> None:
        self._config = config
        self._role = f"worker {set_up.number}"
        self._context = context = WorkerContext(channel, config, set_up)
        self._send = channel.send
        self._tables: dict[int, ScannedTable] = {}
        self._streams: dict[int, FollowedStream] = {}
        self._readers: dict[int, Reader] = {}
        self._scanners = [Scanner(context, number) for number in range(set_up.scanners)]
        for slot in set_up.free:
            self._free(slot)

    def serve(self, received: Iterator[messages.ToWorker]) -> None:
        """Handle the supervisor's messages until it closes the channel."""
        for scanner in self._scanners:
            scanner.start()
        self._send(Ready())
        for message in received:
            match message:
                case messages.Free(slot):
                    self._free(slot)
                case messages.LeaseShard():
                    self._read(message)
                case messages.EndLease(lease, at_once):
                    if lease in self._readers:
                        self._readers[lease].end(at_once=at_once)
                case messages.PollQuickly(until):
                    self._context.quick_until = until
                case messages.Permit(table, calls):
                    self._tables[table].allowance.add(calls)
                case messages.Revoke(table):
                    self._tables[table].allowance.revoke()
                case messages.LeaseSegment():
                    self._scanners[message.scanner].leases.put(
                        (message, self._tables[message.table])
                    )
                case messages.OpenTable():
                    self._open(message)
                case messages.OpenStream():
                    self._open_stream(message)
                case Credentials():
                    self._context.credentials = message
                case messages.Drain():
                    self._context.stop.set()
                    for opened in self._tables.values():
                        opened.allowance.wake()
                    for reader in self._readers.values():
                        reader.end(at_once=True)
                case Report():
                    self._send(diagnose(self._role, self._queues()))
                case _:
                    unhandled(message)

    def _free(self, slot: int) -> None:
        scanner = slot // SLOTS_PER_SCANNER
        if scanner < len(self._scanners):
            self._scanners[scanner].free.put(slot)
        else:
            self._context.slots.give(slot)

    def _open(self, message: messages.OpenTable) -> None:
        config = self._config
        self._tables[message.table] = ScannedTable(
            plan=ScanPlan(
                table=message.name,
                total_segments=message.segments,
                limit=config.qps_full_batch_num,
                consistent=config.source_consistent_read,
                filter=config.scan_filter,
            ),
            options=codec.Options.of(config, message.keys),
            stamp=message.stamp,
            allowance=Allowance(
                lambda: self._send(messages.Want(message.table)), self._context.stop
            ),
        )

    def _open_stream(self, message: messages.OpenStream) -> None:
        options = codec.ChangeOptions.of(
            self._config,
            message.keys,
            sharded=self._config.sharded,
            upsert=self._config.increase_executor_upsert,
            insert_only=message.strict,
        )
        if opened := self._streams.get(message.table):
            opened.options, opened.since = options, message.since  # for what is read from now on
        else:
            stream = FollowedStream(message.name, message.arn, message.since, options)
            self._streams[message.table] = stream

    def _read(self, lease: messages.LeaseShard) -> None:
        self._readers = {n: reader for n, reader in self._readers.items() if reader.is_alive()}
        kind = JournalingReader if lease.to_journal else ApplyingReader
        reader = self._readers[lease.lease] = kind(self._context, lease, self._streams[lease.table])
        reader.start()

    def _queues(self) -> str:
        return "; ".join(
            f"scanner {scanner.number}: {scanner.state}, {scanner.free.qsize()} slots free"
            for scanner in self._scanners
        )


if __name__ == "__main__":
    child.main(messages.WORKER, WorkerMain)
