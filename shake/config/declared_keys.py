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

    Each key is declared here and nowhere else: name, kind of value, default (``...``: required),
    what it means, and whether it shapes the data. ``docs/configuration.md`` is made of this table.
    """

    id: str = key(
        "id", TEXT, ..., "id of the task; the pid file and the default databases are named after it"
    )
    pid_path: str = key("pid_path", TEXT, ".", "folder of <id>.pid")
    log_file: str | None = key("log.file", TEXT, None, "file of the log; none: stdout")
    log_level: str = key("log.level", _LEVELS, "info", "lowest level that is logged")
    log_buffer: bool = key("log.buffer", FLAG, True, "collect log lines before writing")
    system_profile: int | None = key("system_profile", PORT_OR_OFF, None, "diagnostics port")
    http_profile: tuple[int, ...] = key(
        "http_profile",
        HTTP_PORTS,
        (9340,),
        "port of status page and API, -1: off; each of its names that is set gives one port",
        also=("incr_sync.http_port", "full_sync.http_port"),
        joins=True,
    )
    http_bind: str = key("http.bind", TEXT, "127.0.0.1", "address of both ports")
    http_token: str | None = key(
        "http.token", TEXT, None, "bearer token that both ports require", secret=WHOLE
    )
    http_linger: float = key(
        "http.linger",
        SECONDS,
        60.0,
        "seconds for which the status page stays after the task has finished or failed, on a "
        "terminal until Ctrl-C; 0, or --until-consistent: it ends with the task",
    )
    sync_mode: str = key(
        "sync_mode",
        choice("all", "full", "incr"),
        "all",
        "all: full copy, then changes; full: full copy only; incr: changes only",
        limit="a copy that was begun with full cannot continue with all",
    )
    incr_sync_parallel: bool = key(
        "incr_sync_parallel", FLAG, False, "journal the streams during the full copy"
    )
    journal_path: str | None = key(
        "journal.path", TEXT, None, "folder of <id>.journal; none: that of the pid file"
    )
    journal_max_mb: int = key(
        "journal.max_mb", COUNT, 100_000, "MB that the journal may take on disk"
    )
    incr_start: str = key(
        "incr.start",
        choice("trim_horizon", "latest"),
        "trim_horizon",
        "start of sync_mode = incr without a checkpoint",
    )
    incr_margin: float = key(
        "incr.margin",
        SECONDS,
        10.0,
        "seconds for which a change can still be missing from its stream",
    )
    source_access_key_id: str | None = key(
        "source.access_key_id",
        TEXT,
        None,
        "access key; none: the AWS credential chain",
        secret=WHOLE,
    )
    source_secret_access_key: str | None = key(
        "source.secret_access_key", TEXT, None, "secret of source.access_key_id", secret=WHOLE
    )
    source_session_token: str | None = key(
        "source.session_token", TEXT, None, "session token of temporary keys", secret=WHOLE
    )
    source_profile: str | None = key("source.profile", TEXT, None, "AWS profile")
    source_assume_role_arn: str | None = key("source.assume_role_arn", TEXT, None, "role to assume")
    source_external_id: str | None = key(
        "source.external_id", TEXT, None, "external id that the role requires"
    )
    source_region: str | None = key(
        "source.region", TEXT, None, "region; none: as AWS tools find it"
    )
    source_endpoint_url: str | None = key(
        "source.endpoint_url",
        TEXT,
        None,
        "endpoint of tables and streams; none: AWS",
        secret=IN_ADDRESS,
    )
    source_streams_endpoint_url: str | None = key(
        "source.streams_endpoint_url",
        TEXT,
        None,
        "endpoint of streams, where it is another one",
        secret=IN_ADDRESS,
    )
    source_session_max_retries: int = key(
        "source.session.max_retries", COUNT, 10, "tries of a request before the task is degraded"
    )
    source_session_timeout: int = key(
        "source.session.timeout", whole_number(0), 30000, "timeout of a request in ms; 0: none"
    )
    source_read_budget: ReadBudget = key(  # noqa: RUF009
        "source.read_budget",
        BUDGET,
        AUTO_BUDGET,
        "read capacity units a second for the scan of one table; auto: 50% of the provisioned "
        "capacity in AWS, no limit on demand and at other endpoints",
    )
    source_windows: tuple[Window, ...] = key(
        "source.windows",
        WINDOWS,
        (),
        "times of day, in UTC, with another budget than source.read_budget",
    )
    # https://aws.amazon.com/dynamodb/pricing/on-demand/ (us-east-1)
    source_price: float = key(
        "source.price",
        PRICE,
        0.125,
        "dollars for a million read units on demand, for the plan; the default is for us-east-1",
    )
    source_consistent_read: bool = key(
        "source.consistent_read", FLAG, False, "scan with consistent reads"
    )
    filter_collection_white: tuple[str, ...] = key(
        "filter.collection.white", NAMES, (), "copy only these tables; * and ? are wildcards"
    )
    filter_collection_black: tuple[str, ...] = key(
        "filter.collection.black", NAMES, (), "copy all tables but these"
    )
    namespace_map: tuple[tuple[str, str], ...] = key(
        "namespace.map",
        MAP,
        (),
        "collections of tables, by name or as prod-*:shop.*; all others: <id>.<table>",
    )
    qps_full: int = key("qps.full", COUNT, 1000, "Scan calls a second for one table")
    qps_full_batch_num: int | None = key(
        "qps.full.batch_num", COUNT, None, "items of one Scan call; none: full pages"
    )
    qps_incr: int = key("qps.incr", COUNT, 1000, "GetRecords calls a second for one shard")
    # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
    qps_incr_batch_num: int = key(
        "qps.incr.batch_num", whole_number(1, 1000), 1000, "records of one GetRecords call"
    )
    target_type: str = key(
        "target.type",
        choice("mongodb", "aliyun_dynamo_proxy"),
        "mongodb",
        "protocol of the target",
        shapes_data=True,
    )
    target_address: str = key(
        "target.address", TEXT, ..., "connection string, or the endpoint's URL", secret=IN_ADDRESS
    )
    target_mongodb_type: str = key(
        "target.mongodb.type",
        choice("replica", "sharding"),
        "replica",
        "kind of cluster",
        shapes_data=True,
    )
    target_db_exist: str | None = key(
        "target.db.exist",
        choice("rename", "drop"),
        None,
        "rename or drop an existing collection once the copy is complete; none: refuse to start",
        also=("target.mongodb.exist",),
    )
    sync_schema_only: bool = key(
        "sync_schema_only", FLAG, False, "create collections and indexes only", shapes_data=True
    )
    full_concurrency: int = key("full.concurrency", COUNT, 4, "tables copied at the same time")
    # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html (TotalSegments)
    full_read_concurrency: int | None = key(
        "full.read.concurrency",
        whole_number(1, 1_000_000),
        None,
        "segments of a table; none: by size",
    )
    full_document_parser: int = key(
        "full.document.parser", COUNT, 2, "segments that one worker reads at the same time"
    )
    full_document_concurrency: int = key(
        "full.document.concurrency", COUNT, 4, "concurrent bulk inserts of one writer process"
    )
    full_writers: int | None = key(
        "full.writers",
        COUNT,
        None,
        "writer processes of one collection while it is copied, never more than the segments that "
        "are left; none: one for each 100 GB of the table, at most one for each 3 workers, at most "
        "8; one process takes 24 MB and carries about 1 GB/s",
    )
    # https://www.mongodb.com/docs/manual/reference/limits/ (write command batch size)
    full_document_write_batch: int = key(
        "full.document.write.batch",
        whole_number(1, 100_000),
        1024,
        "documents of one bulk insert, of at most 16 MB together",
    )
    full_enable_index_user: bool = key(
        "full.enable_index.user", FLAG, True, "also build the secondary indexes"
    )
    full_executor_insert_on_dup_update: bool = key(
        "full.executor.insert_on_dup_update",
        FLAG,
        True,
        "true: replace a document that has the same key; false: stop",
    )
    full_read_filter_expression: str | None = key(
        "full.read.filter_expression",
        EXPRESSION,
        None,
        "FilterExpression of the scan",
        shapes_data=True,
    )
    full_read_filter_attributevalues: str | None = key(
        "full.read.filter_attributevalues",
        EXPRESSION,
        None,
        "its values: name```type```value~~~...",
        shapes_data=True,
    )
    increase_concurrency: int = key(
        "increase.concurrency", COUNT, 16, "shards of one table read at once"
    )
    increase_executor_insert_on_dup_update: bool = key(
        "increase.executor.insert_on_dup_update",
        FLAG,
        True,
        "true: an INSERT replaces a document that has the same key; false: stop",
    )
    increase_executor_upsert: bool = key(
        "increase.executor.upsert",
        FLAG,
        True,
        "true: a MODIFY inserts a document that is missing; false: count and skip",
    )
    convert_type: str = key(
        "convert.type",
        choice("change", "mchange", "raw"),
        "change",
        "change: exact values; mchange: every number a double; raw: with DynamoDB's types",
        shapes_data=True,
    )
    convert_id: str = key(
        "convert._id", TEXT, "pre", "prefix for an attribute named _id", shapes_data=True
    )
    convert_number_overflow: str = key(
        "convert.number.overflow",
        choice("string", "error"),
        "string",
        "number of more than 34 significant digits: store it as a string, or stop",
        shapes_data=True,
    )
    id_mode: str = key(
        "id.mode",
        choice("objectid", "key"),
        "objectid",
        "_id is an ObjectId, or the primary key itself",
        shapes_data=True,
    )
    gap_policy: str = key(
        "gap.policy",
        choice("fail", "resync"),
        "fail",
        "when a stream has lost changes: stop, or copy the table again and replace its collection",
    )
    bad_items: str = key(
        "bad.items",
        choice("stop", "keep"),
        "stop",
        "an item that cannot be stored: stop the task, or keep the item beside the checkpoints and "
        "go on; shake bad lists what is kept",
    )
    bad_items_max: int = key(
        "bad.items.max",
        whole_number(1),
        1000,
        "more kept items than this, of all tables, end the task",
    )
    checkpoint_type: str = key(
        "checkpoint.type", choice("mongodb", "file"), "mongodb", "where checkpoints are kept"
    )
    checkpoint_address: str | None = key(
        "checkpoint.address",
        TEXT,
        None,
        "connection string or folder; none: the target, or ./checkpoint",
        secret=IN_ADDRESS,
    )
    checkpoint_db: str | None = key(
        "checkpoint.db", TEXT, None, "database of the checkpoints; none: <id>-checkpoint"
    )
    nodes_secret_file: str | None = key(
        "nodes.secret_file", TEXT, None, "file of the secret that all nodes of --nodes share"
    )
    nodes_tls_cert: str | None = key(
        "nodes.tls.cert", TEXT, None, "certificate for nodes (PEM); none: a new one at each start"
    )
    nodes_tls_key: str | None = key(
        "nodes.tls.key", TEXT, None, "private key of nodes.tls.cert (PEM, without a password)"
    )
    webhook_url: str | None = key(
        "webhook.url",
        TEXT,
        None,
        "URL that is sent a line of JSON when the task is degraded, has a gap, fails, is "
        "consistent or done",
        secret=WHOLE,
    )


#: Every key, in the order of the table above.
KEYS: tuple[Key, ...] = tuple(f.metadata["key"] for f in fields(DeclaredKeys))
