"""All configuration keys, each declared once as a field of DeclaredKeys."""

from __future__ import annotations

from dataclasses import dataclass, fields

from shake.config.key_type import Key, key
from shake.config.kinds import (
    AUTO_BUDGET,
    BUDGET,
    COUNT,
    EXPRESSION,
    FLAG,
    HTTP_PORTS,
    MAP,
    NAMES,
    PORT_OR_OFF,
    PRICE,
    SECONDS,
    TEXT,
    ReadBudget,
    choice,
    whole_number,
)
from shake.config.secrets import IN_ADDRESS, WHOLE
from shake.config.windows import WINDOWS, Window

_LEVELS = choice("none", "error", "warn", "info", "debug", also={"warning": "warn"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredKeys:
    """The values of all keys. None means none, off, or by the tool's own choice.

    Each key is declared here and nowhere else: name, what it means, kind of value (text),
    default (none; ``...``: required), and whether it shapes the data. ``docs/configuration.md`` is
    made of this table.
    """

    id: str = key(
        "id", "id of the task; the pid file and the default databases are named after it", TEXT, ...
    )
    pid_path: str = key("pid_path", "folder of <id>.pid", TEXT, ".")
    log_file: str | None = key("log.file", "file of the log; none: stdout")
    log_level: str = key("log.level", "lowest level that is logged", _LEVELS, "info")
    log_buffer: bool = key("log.buffer", "collect log lines before writing", FLAG, True)
    system_profile: int | None = key("system_profile", "diagnostics port", PORT_OR_OFF)
    http_profile: tuple[int, ...] = key(
        "http_profile",
        "port of status page and API, -1: off; each of its names that is set gives one port",
        HTTP_PORTS,
        (9340,),
        aliases=("incr_sync.http_port", "full_sync.http_port"),
        joins=True,
    )
    http_bind: str = key("http.bind", "address of both ports", TEXT, "127.0.0.1")
    http_token: str | None = key("http.token", "bearer token that both ports require", secret=WHOLE)
    http_linger: float = key(
        "http.linger",
        "seconds for which the status page stays after the task has finished or failed, on a "
        "terminal until Ctrl-C; 0, or --until-consistent: it ends with the task",
        SECONDS,
        60.0,
    )
    sync_mode: str = key(
        "sync_mode",
        "all: full copy, then changes; full: full copy only; incr: changes only",
        choice("all", "full", "incr"),
        "all",
        limit="a copy that was begun with full cannot continue with all",
    )
    incr_sync_parallel: bool = key(
        "incr_sync_parallel", "journal the streams during the full copy", FLAG, False
    )
    journal_path: str | None = key(
        "journal.path", "folder of <id>.journal; none: that of the pid file"
    )
    journal_max_mb: int = key(
        "journal.max_mb", "MB that the journal may take on disk", COUNT, 100_000
    )
    incr_start: str = key(
        "incr.start",
        "start of sync_mode = incr without a checkpoint",
        choice("trim_horizon", "latest"),
        "trim_horizon",
    )
    incr_margin: float = key(
        "incr.margin",
        "seconds for which a change can still be missing from its stream",
        SECONDS,
        10.0,
    )
    source_access_key_id: str | None = key(
        "source.access_key_id", "access key; none: the AWS credential chain", secret=WHOLE
    )
    source_secret_access_key: str | None = key(
        "source.secret_access_key", "secret of source.access_key_id", secret=WHOLE
    )
    source_session_token: str | None = key(
        "source.session_token", "session token of temporary keys", secret=WHOLE
    )
    source_profile: str | None = key("source.profile", "AWS profile")
    source_assume_role_arn: str | None = key("source.assume_role_arn", "role to assume")
    source_external_id: str | None = key("source.external_id", "external id that the role requires")
    source_region: str | None = key("source.region", "region; none: as AWS tools find it")
    source_endpoint_url: str | None = key(
        "source.endpoint_url", "endpoint of tables and streams; none: AWS", secret=IN_ADDRESS
    )
    source_streams_endpoint_url: str | None = key(
        "source.streams_endpoint_url",
        "endpoint of streams, where it is another one",
        secret=IN_ADDRESS,
    )
    source_session_max_retries: int = key(
        "source.session.max_retries", "tries of a request before the task is degraded", COUNT, 10
    )
    source_session_timeout: int = key(
        "source.session.timeout", "timeout of a request in ms; 0: none", whole_number(0), 30000
    )
    source_read_budget: ReadBudget = key(  # noqa: RUF009
        "source.read_budget",
        "read capacity units a second for the scan of one table; auto: 50% of the provisioned "
        "capacity in AWS, no limit on demand and at other endpoints",
        BUDGET,
        AUTO_BUDGET,
    )
    source_windows: tuple[Window, ...] = key(
        "source.windows",
        "times of day, in UTC, with another budget than source.read_budget",
        WINDOWS,
        (),
    )
    # https://aws.amazon.com/dynamodb/pricing/on-demand/ (us-east-1)
    source_price: float = key(
        "source.price",
        "dollars for a million read units on demand, for the plan; the default is for us-east-1",
        PRICE,
        0.125,
    )
    source_consistent_read: bool = key(
        "source.consistent_read", "scan with consistent reads", FLAG, False
    )
    filter_collection_white: tuple[str, ...] = key(
        "filter.collection.white", "copy only these tables; * and ? are wildcards", NAMES, ()
    )
    filter_collection_black: tuple[str, ...] = key(
        "filter.collection.black", "copy all tables but these", NAMES, ()
    )
    namespace_map: tuple[tuple[str, str], ...] = key(
        "namespace.map",
        "collections of tables, by name or as prod-*:shop.*; all others: <id>.<table>",
        MAP,
        (),
    )
    qps_full: int = key("qps.full", "Scan calls a second for one table", COUNT, 1000)
    qps_full_batch_num: int | None = key(
        "qps.full.batch_num", "items of one Scan call; none: full pages", COUNT
    )
    qps_incr: int = key("qps.incr", "GetRecords calls a second for one shard", COUNT, 1000)
    # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
    qps_incr_batch_num: int = key(
        "qps.incr.batch_num", "records of one GetRecords call", whole_number(1, 1000), 1000
    )
    target_type: str = key(
        "target.type",
        "protocol of the target",
        choice("mongodb", "aliyun_dynamo_proxy"),
        "mongodb",
        shapes_data=True,
    )
    target_address: str = key(
        "target.address", "connection string, or the endpoint's URL", TEXT, ..., secret=IN_ADDRESS
    )
    target_mongodb_type: str = key(
        "target.mongodb.type",
        "kind of cluster",
        choice("replica", "sharding"),
        "replica",
        shapes_data=True,
    )
    target_db_exist: str | None = key(
        "target.db.exist",
        "rename or drop an existing collection once the copy is complete; none: refuse to start",
        choice("rename", "drop"),
        aliases=("target.mongodb.exist",),
    )
    sync_schema_only: bool = key(
        "sync_schema_only", "create collections and indexes only", FLAG, False, shapes_data=True
    )
    full_concurrency: int = key("full.concurrency", "tables copied at the same time", COUNT, 4)
    # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html (TotalSegments)
    full_read_concurrency: int | None = key(
        "full.read.concurrency", "segments of a table; none: by size", whole_number(1, 1_000_000)
    )
    full_document_parser: int = key(
        "full.document.parser", "segments that one worker reads at the same time", COUNT, 2
    )
    full_document_concurrency: int = key(
        "full.document.concurrency", "concurrent bulk inserts of one writer process", COUNT, 4
    )
    full_writers: int | None = key(
        "full.writers",
        "writer processes of one collection while it is copied, never more than the segments that "
        "are left; none: one for each 100 GB of the table, at most one for each 3 workers, at most "
        "8; one process takes 24 MB and carries about 1 GB/s",
        COUNT,
    )
    # https://www.mongodb.com/docs/manual/reference/limits/ (write command batch size)
    full_document_write_batch: int = key(
        "full.document.write.batch",
        "documents of one bulk insert, of at most 16 MB together",
        whole_number(1, 100_000),
        1024,
    )
    full_enable_index_user: bool = key(
        "full.enable_index.user", "also build the secondary indexes", FLAG, True
    )
    full_executor_insert_on_dup_update: bool = key(
        "full.executor.insert_on_dup_update",
        "true: replace a document that has the same key; false: stop",
        FLAG,
        True,
    )
    full_read_filter_expression: str | None = key(
        "full.read.filter_expression", "FilterExpression of the scan", EXPRESSION, shapes_data=True
    )
    full_read_filter_attributevalues: str | None = key(
        "full.read.filter_attributevalues",
        "its values: name```type```value~~~...",
        EXPRESSION,
        shapes_data=True,
    )
    increase_concurrency: int = key(
        "increase.concurrency", "shards of one table read at once", COUNT, 16
    )
    increase_executor_insert_on_dup_update: bool = key(
        "increase.executor.insert_on_dup_update",
        "true: an INSERT replaces a document that has the same key; false: stop",
        FLAG,
        True,
    )
    increase_executor_upsert: bool = key(
        "increase.executor.upsert",
        "true: a MODIFY inserts a document that is missing; false: count and skip",
        FLAG,
        True,
    )
    convert_type: str = key(
        "convert.type",
        "change: exact values; mchange: every number a double; raw: with DynamoDB's types",
        choice("change", "mchange", "raw"),
        "change",
        shapes_data=True,
    )
    convert_id: str = key(
        "convert._id", "prefix for an attribute named _id", TEXT, "pre", shapes_data=True
    )
    convert_number_overflow: str = key(
        "convert.number.overflow",
        "number of more than 34 significant digits: store it as a string, or stop",
        choice("string", "error"),
        "string",
        shapes_data=True,
    )
    id_mode: str = key(
        "id.mode",
        "_id is an ObjectId, or the primary key itself",
        choice("objectid", "key"),
        "objectid",
        shapes_data=True,
    )
    gap_policy: str = key(
        "gap.policy",
        "when a stream has lost changes: stop, or copy the table again and replace its collection",
        choice("fail", "resync"),
        "fail",
    )
    bad_items: str = key(
        "bad.items",
        "an item that cannot be stored: stop the task, or keep the item beside the checkpoints and "
        "go on; shake bad lists what is kept",
        choice("stop", "keep"),
        "stop",
    )
    bad_items_max: int = key(
        "bad.items.max",
        "more kept items than this, of all tables, end the task",
        whole_number(1),
        1000,
    )
    checkpoint_type: str = key(
        "checkpoint.type", "where checkpoints are kept", choice("mongodb", "file"), "mongodb"
    )
    checkpoint_address: str | None = key(
        "checkpoint.address",
        "connection string or folder; none: the target, or ./checkpoint",
        secret=IN_ADDRESS,
    )
    checkpoint_db: str | None = key(
        "checkpoint.db", "database of the checkpoints; none: <id>-checkpoint"
    )
    nodes_secret_file: str | None = key(
        "nodes.secret_file", "file of the secret that all nodes of --nodes share"
    )
    nodes_tls_cert: str | None = key(
        "nodes.tls.cert", "certificate for nodes (PEM); none: a new one at each start"
    )
    nodes_tls_key: str | None = key(
        "nodes.tls.key", "private key of nodes.tls.cert (PEM, without a password)"
    )
    webhook_url: str | None = key(
        "webhook.url",
        "URL that is sent a line of JSON when the task is degraded, has a gap, fails, is "
        "consistent or done",
        secret=WHOLE,
    )


#: Every key, in the order of the table above.
KEYS: tuple[Key, ...] = tuple(f.metadata["key"] for f in fields(DeclaredKeys))
