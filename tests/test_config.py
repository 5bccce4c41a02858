"""The configuration is read as the contract says, and its errors say what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from shake.config import Config, ReadBudget, load
from shake.config.declared_keys import KEYS
from shake.errors import UsageError

NEEDED = ["id=task", "target.address=mongodb://localhost"]

NIMOSHAKE = """\
# as a NimoShake user has it
conf.version = 1
id = nimo-shake
log.file =
log.level = info
log.buffer = true
system_profile = 9330
full_sync.http_port = 9341
incr_sync.http_port = 9340
sync_mode = all
incr_sync_parallel = false
source.access_key_id = AKIAEXAMPLE
source.secret_access_key = abc/def+ghi=
source.session_token =
source.region = us-east-2
source.endpoint_url =
source.session.max_retries = 3
source.session.timeout = 3000
filter.collection.white = c1;c2
filter.collection.black =
qps.full = 1000
qps.full.batch_num = 128
qps.incr = 1000
qps.incr.batch_num = 128
target.type = mongodb
target.address = mongodb://username:password@127.0.0.1:3717,127.0.0.1:3718
target.mongodb.type = sharding
target.mongodb.exist = drop
sync_schema_only = false
full.concurrency = 4
full.read.concurrency = 1
full.document.concurrency = 4
full.document.write.batch = 128
full.document.parser = 2
full.enable_index.user = true
full.enable_index.primary = true
full.executor.insert_on_dup_update = true
full.read.filter_expression = create_time > :begin AND create_time < :end
full.read.filter_attributevalues = begin```N```1646724207280~~~end```N```1646724207283
increase.concurrency = 16
increase.executor.insert_on_dup_update = true
increase.executor.upsert = true
increase.persist.dir =
checkpoint.type = mongodb
checkpoint.address =
checkpoint.db =
convert._id = pre
convert.type = raw
"""


def configure(*settings: str) -> Config:
    return load(None, {}, [*NEEDED, *settings]).config


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], str]:
    def write_file(content: str | bytes) -> str:
        path = tmp_path / "shake.conf"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


def refusal(path: str | None = None, *settings: str, **environment: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(path, environment, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_each_key_is_the_field_that_its_name_gives() -> None:
    assert [k.attribute for k in KEYS] == [f.name for f in fields(Config)]


def test_nimoshakes_file_loads_as_it_is(write: Callable[[str | bytes], str]) -> None:
    path = write(NIMOSHAKE)
    config, notices = (loaded := load(path, {}, [])).config, loaded.notices
    assert (config.id, config.log_file, config.convert_id) == ("nimo-shake", None, "pre")
    assert (config.http_profile, config.system_profile) == ((9340, 9341), 9330)
    assert config.source_secret_access_key == "abc/def+ghi="
    assert config.target_db_exist == "drop"
    assert config.filter_collection_white == ("c1", "c2")
    assert config.scan_filter is not None
    assert config.scan_filter.values == (
        ("begin", "N", "1646724207280"),
        ("end", "N", "1646724207283"),
    )
    assert config.checkpoint_database == "nimo-shake-checkpoint"
    ignored = ("conf.version", "full.enable_index.primary")
    for name in (*ignored, "increase.persist.dir"):
        assert sum(name in notice for notice in notices) == 1
    assert len(notices) == 3


def test_absent_keys_have_the_defaults_of_the_contract() -> None:
    config = configure()
    assert (config.pid_path, config.log_level, config.log_buffer) == (".", "info", True)
    assert (config.http_profile, config.http_bind) == ((9340,), "127.0.0.1")
    assert config.system_profile is None
    assert (config.source_session_max_retries, config.source_session_timeout) == (10, 30000)
    assert (config.full_read_concurrency, config.full_document_write_batch) == (None, 1024)
    assert (config.increase_executor_upsert, config.gap_policy) == (True, "fail")
    assert config.checkpoint_location == "mongodb://localhost"
    assert configure("checkpoint.type=file").checkpoint_location == "checkpoint"


def test_command_line_beats_environment_beats_file(write: Callable[[str | bytes], str]) -> None:
    path = write("id = f\ntarget.address = mongodb://f\nsync_mode = full\nconvert._id = f")
    environment = {"SHAKE_ID": "e", "SHAKE_SYNC_MODE": "incr", "SHAKE_CONVERT__ID": "e"}
    config = load(path, environment, ["id=c"]).config
    assert (config.id, config.sync_mode, config.convert_id) == ("c", "incr", "e")
    assert config.target_address == "mongodb://f"


def test_an_empty_value_means_the_default_on_every_level(
    write: Callable[[str | bytes], str],
) -> None:
    path = write("id = f\ntarget.address = mongodb://f\nsync_mode = full\nqps.full = 7")
    config = load(path, {"SHAKE_QPS_FULL": ""}, ["sync_mode="]).config
    assert (config.sync_mode, config.qps_full) == ("all", 1000)


def test_each_of_the_http_ports_that_are_given_is_served() -> None:
    assert configure("full_sync.http_port=1").http_profile == (1,)
    assert configure("full_sync.http_port=1", "incr_sync.http_port=2").http_profile == (2, 1)
    assert configure("full_sync.http_port=1", "http_profile=3").http_profile == (3, 1)
    assert configure("full_sync.http_port=1", "http_profile=").http_profile == (1,)
    assert configure("full_sync.http_port=1", "incr_sync.http_port=1").http_profile == (1,)
    assert configure("full_sync.http_port=-1", "incr_sync.http_port=1").http_profile == (1,)
    assert configure("http_profile=-1", "system_profile=-1").http_profile == ()


def test_the_command_line_beats_the_file_under_any_name_of_a_key(
    write: Callable[[str | bytes], str],
) -> None:
    path = write("http_profile = 1\ntarget.db.exist = drop")
    config = load(path, {}, [*NEEDED, "full_sync.http_port=2", "target.mongodb.exist=rename"])
    assert (config.config.http_profile, config.config.target_db_exist) == ((2,), "rename")


def test_a_password_with_angle_brackets_is_no_placeholder() -> None:
    assert configure("target.address=mongodb://u:p<q>r@h/").target_address.endswith("p<q>r@h/")


def test_a_byte_order_mark_crlf_tabs_and_comments_do_not_count(
    write: Callable[[str | bytes], str],
) -> None:
    path = write(
        b"\xef\xbb\xbfid\t=  task \r\n\r\n  # comment = 1\r\n"
        b"target.address=mongodb://h/?appName=a#b\r\nlog.file = a = b#c\r\n"
    )
    config = load(path, {}, []).config
    assert (config.id, config.log_file) == ("task", "a = b#c")
    assert config.target_address == "mongodb://h/?appName=a#b"


def test_a_key_twice_in_a_file_names_both_lines(write: Callable[[str | bytes], str]) -> None:
    message = refusal(write("id = a\n\nid = b\n"))
    assert "shake.conf:3" in message
    assert "line 1" in message


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("full.concurency", "full.concurrency"),
        ("Log.Level", "log.level"),
        ("target.db.exists", "target.db.exist"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    wrong: str, right: str, write: Callable[[str | bytes], str]
) -> None:
    message = refusal(write(f"# first\n{wrong} = 1"))
    assert "shake.conf:2" in message
    assert wrong in message
    assert message.endswith(f" {right}")


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("full.concurrency=0", "at least 1"),
        ("full.concurrency=four", "whole number"),
        ("full.concurrency=1_0", "whole number"),
        ("qps.full=0", "at least 1"),
        ("qps.incr.batch_num=1001", "from 1 to 1000"),
        ("http_profile=65536", "65535"),
        ("system_profile=-2", "-1 (off)"),
        ("log.level=loud", "none, error, warn, info, debug"),
        ("log.buffer=yes", "true or false"),
        ("source.read_budget=0", "50%"),
        ("source.read_budget=101%", "50%"),
        ("source.read_budget=nan", "50%"),
        ("source.read_budget=inf", "50%"),
        ("incr.margin=-1", "seconds from 0 to 3600"),
        ("incr.margin=3601", "seconds from 0 to 3600"),
        ("incr.margin=nan", "seconds from 0 to 3600"),
        ("incr.margin=1_0", "seconds from 0 to 3600"),
        ("incr.margin=10 min", "seconds from 0 to 3600"),
        ("namespace.map=a:b", "table:database.collection"),
        ("namespace.map=a:b.", "table:database.collection"),
        ("filter.collection.white=;", "names separated by ';'"),
        ("log.file=a\nb", "control character"),
        ("log.file=a\udcffb", "control character"),
    ],
)
def test_a_bad_value_names_the_key_and_what_is_allowed(setting: str, allowed: str) -> None:
    message = refusal(None, *NEEDED, setting)
    assert message.startswith(f"--set: {setting.partition('=')[0]} ")
    assert allowed in message


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 10), ("0", 0), ("10", 10), ("10s", 10), ("0.5 s", 0.5), ("2.5", 2.5)]
)
def test_a_time_is_in_seconds_and_can_be_a_fraction(text: str, seconds: float) -> None:
    config = load(None, {}, [*NEEDED, f"incr.margin={text}"]).config
    assert config.incr_margin == seconds


def test_a_bad_value_names_its_place(write: Callable[[str | bytes], str]) -> None:
    assert "shake.conf:1: qps.full = x" in refusal(write("qps.full = x"), *NEEDED)
    message = refusal(None, *NEEDED, SHAKE_QPS_FULL="x")
    assert message.startswith("environment variable SHAKE_QPS_FULL: qps.full = x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["filter.collection.white=a", "filter.collection.black=b"], "filter.collection.black"),
        (["http.bind=0.0.0.0"], "http.token"),
        (["http.bind=status.example.com"], "http.token"),
        (["http.token=a b"], "http.token"),
        (["system_profile=9340"], "choose two ports"),
        (["source.access_key_id=a"], "source.secret_access_key"),
        (["source.secret_access_key=a"], "source.access_key_id"),
        (["source.session_token=a"], "source.session_token"),
        (
            ["source.access_key_id=a", "source.secret_access_key=b", "source.profile=p"],
            "source.profile",
        ),
        (["source.external_id=a"], "source.assume_role_arn"),
        (["source.endpoint_url=localhost:8000"], "source.endpoint_url"),
        (["id=a/b"], "'/'"),
        (["id=a.b"], "'.'"),
        (["id=admin"], "admin"),
        (["id=" + "x" * 53], "<id>-checkpoint"),
        (["id=" + "é" * 32, "checkpoint.db=c"], "63 bytes"),
        (["checkpoint.db=a b"], "checkpoint.db"),
        (["namespace.map=a:x.y;a:x.z"], "table a"),
        (["namespace.map=a:x.y;b:x.y"], "a and b both go to x.y"),
        (["namespace.map=a:x$.y"], "'$'"),
        (["namespace.map=a-*:x.y"], "a * stands once on both sides"),
        (["namespace.map=a:x.*"], "a * stands once on both sides"),
        (["namespace.map=*-*:x.*-*"], "a * stands once on both sides"),
        (["namespace.map=*:*.y"], "'*'"),
        (["namespace.map=a?:x.y"], "'?'"),
        (["namespace.map=a:x.a,b:x.b"], "separated by ';'"),
        (["namespace.map=a:x.a b:x.b"], "separated by ';'"),
        (["namespace.map=arn:aws:dynamodb:r:1:table/orders:x.y"], "not by ARNs: write orders"),
        (["filter.collection.black=orders,users-pii"], "names are separated by ';'"),
        (["filter.collection.white=orders users"], "names are separated by ';'"),
        (["filter.collection.white=orders;us/ers"], "'/'"),
        (["filter.collection.black=[a-z]*"], "'['"),
        (["filter.collection.white=" + "a" * 256], "more than 255"),
        (
            ["filter.collection.white=arn:aws:dynamodb:eu-west-1:123456789012:table/orders"],
            "not by ARNs: write orders (for a table of another account set source.assume",
        ),
        (["filter.collection.black=arn:*"], "not by ARNs"),
        (["target.address=http://h"], "target.address"),
        (["target.address=mongodb://"], "target.address"),
        (["target.address=mongodb+srv://"], "target.address"),
        (["target.address=mongodb+srv://u:p:q@a"], "target.address"),
        (["target.address=mongodb://h/?tls=on"], "The value of tls"),
        (["target.address=mongodb+srv://h/?tls=on"], "The value of tls"),
        (["target.address=mongodb://h/?directConnection=maybe"], "'true' or 'false'"),
        (["target.address=mongodb://h/?authMechanism=SCRAM"], "authmechanism must be in"),
        (["target.address=mongodb://h/?socketTimeoutMS=1s"], "must be an integer"),
        (["checkpoint.address=folder"], "checkpoint.address"),
        (["checkpoint.type=file", "checkpoint.address=mongodb://h"], "checkpoint.address"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(settings: list[str], message: str) -> None:
    assert message in refusal(None, *NEEDED, *settings)


@pytest.mark.parametrize("missing", NEEDED)
def test_required_keys_are_asked_for(missing: str) -> None:
    message = refusal(None, *(s for s in NEEDED if s != missing))
    assert message.startswith("no configuration file is given: give one by --conf FILE")
    assert f"; {missing.partition('=')[0]} is required" in message


def test_without_a_file_one_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.touch()
    asked = "no configuration file is given"
    assert refusal(None).startswith(asked)
    assert asked not in refusal(str(file))


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_no_token(bind: str) -> None:
    assert configure(f"http.bind={bind}").http_token is None


def test_beyond_loopback_a_token_suffices() -> None:
    assert configure("http.bind=::", "http.token=t0ken").http_bind == "::"


def test_a_dynamodb_target_has_rules_of_its_own() -> None:
    proxy = ["target.type=aliyun_dynamo_proxy", "target.address=http://h:8000"]
    assert "checkpoint.address" in refusal(None, *NEEDED, *proxy)
    renaming = [*proxy, "checkpoint.type=file", "target.db.exist=rename"]
    assert "cannot rename" in refusal(None, *NEEDED, *renaming)
    elsewhere = [*NEEDED, *proxy[:1], "checkpoint.type=file"]
    assert "write http://host:port" in refusal(None, *elsewhere)


@pytest.mark.parametrize("content", [None, b"id = \xff"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "shake.conf"
    if content is not None:
        path.write_bytes(content)
    assert str(path) in refusal(str(path))


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "directory" in refusal(str(tmp_path)).lower()


def test_a_line_without_equals_sign_is_named_and_not_shown(
    write: Callable[[str | bytes], str],
) -> None:
    message = refusal(write("id = a\nwJalrXUtnFEMI"))
    assert "shake.conf:2" in message
    assert "wJalr" not in message
    assert "wJalr" not in refusal(None, "source.secret_access_key:wJalr")


def test_a_variable_that_is_nearly_a_key_gives_a_notice_and_others_none() -> None:
    environment = {
        "SHAKE_LOG_LEVLE": "debug",
        "SHAKE_TEST_MONGO_URI": "mongodb://h",
        "SHAKE_TEST_DYNAMODB_URL": "http://h",
        "HOME": "/",
    }
    (notice,) = load(None, environment, NEEDED).notices
    assert "SHAKE_LOG_LEVLE" in notice
    assert "SHAKE_LOG_LEVEL" in notice
    assert "debug" not in notice


def test_a_read_budget_is_units_or_a_share_of_the_provisioned() -> None:
    assert configure("source.read_budget=200").source_read_budget == ReadBudget(200, False)
    assert configure("source.read_budget=12.5%").source_read_budget == ReadBudget(12.5, True)


@pytest.mark.parametrize(
    ("text", "provisioned", "in_aws", "units"),
    [
        ("", 4000, True, 2000),
        ("", 5, False, None),  # an emulator's
        ("", 0, True, None),  # on demand
        ("auto", 4000, True, 2000),
        ("none", 4000, True, None),
        ("50%", 4000, True, 2000),
        ("50%", 5, False, 2.5),
        ("50%", 0, True, None),
        ("100%", 4000, True, 4000),
        ("12.5%", 400, True, 50),
        ("7", 0, False, 7),
        ("7", 4000, True, 7),
    ],
)
def test_without_a_budget_half_of_what_aws_provisions_is_left_to_others(
    text: str, provisioned: int, in_aws: bool, units: float | None
) -> None:
    budget = configure(f"source.read_budget={text}").source_read_budget
    assert budget.units(provisioned, in_aws=in_aws) == units


def test_the_budget_and_the_price_are_printed_as_they_are_read() -> None:
    lines = configure("source.price=0.0000001").effective_lines()
    assert "source.read_budget = auto" in lines
    assert "source.price = 1e-07" in lines
    for text in ("-1", "nan", "inf", "$1"):
        with pytest.raises(UsageError, match="allowed is dollars, such as"):
            configure(f"source.price={text}")


def test_names_are_filtered_by_stars_and_question_marks_alone() -> None:
    white = configure("filter.collection.white= shop.* ;or?er;a.b")
    for table, wanted in [
        ("shop.items", True),
        ("shopXitems", False),
        ("order", True),
        ("oder", False),
        ("a+b", False),
        ("a.b", True),
    ]:
        assert white.selects_table(table) is wanted
    assert white.plain_white_names == ("a.b",)
    black = configure("filter.collection.black=tmp*")
    assert (black.selects_table("tmp1"), black.selects_table("a_tmp1")) == (False, True)
    assert configure().selects_table("anything")


def test_a_table_goes_where_the_map_says_or_under_the_id() -> None:
    config = configure("namespace.map= a.b : shop.orders.old ;c:d.e")
    assert config.namespace("a.b") == "shop.orders.old"
    assert config.namespace("other") == "task.other"


def test_a_star_of_the_map_carries_its_part_of_the_name_over() -> None:
    config = configure("namespace.map=prod-*:shop.*;prod-old:archive.old;p*:rest.all-*-x")
    namespaces = {
        "prod-orders": "shop.orders",
        "prod-a-b.c": "shop.a-b.c",
        "prod-old": "archive.old",
        "p1": "rest.all-1-x",
        "q": "task.q",
    }
    assert {table: config.namespace(table) for table in namespaces} == namespaces


@pytest.mark.parametrize(
    ("expression", "values", "problem"),
    [
        ("a = :x", None, ":x has no value"),
        (None, "x```N```1", "filter_expression is not"),
        ("a = :x", "x```N```1~~~y```S```b", "y is not used"),
        ("a = :x", "x```N```1~~~x```N```2", "twice"),
        ("a = :x", "x```N```one", "'one'"),
        ("a = :x", "x```N```NaN", "'NaN'"),
        ("a = :x", "x```BOOL```yes", "'yes'"),
        ("a = :x", "x```B```a", "'a'"),
        ("a = :x", "x```L```[]", "'L'"),
        ("a = :x", "x=1", "'x=1'"),
        ("a = :x", "x```N```1~~~", "~~~"),
        ("a = :x", "x```S```1```y```S```2", "entries separated by ~~~"),
    ],
)
def test_a_scan_filter_that_does_not_fit_is_refused(
    expression: str | None, values: str | None, problem: str
) -> None:
    settings = [
        f"full.read.filter_{key}={text}"
        for key, text in (("expression", expression), ("attributevalues", values))
        if text
    ]
    assert problem in refusal(None, *NEEDED, *settings)


def test_a_scan_filter_is_parsed() -> None:
    config = configure(
        "full.read.filter_expression=a = :a AND (b IN (:b,:c) OR d=:d) AND attribute_exists(e)",
        "full.read.filter_attributevalues="
        "a```S```x y~~~:b```n```-1.5e3~~~c```B```YQ==~~~d```BOOL```True",
    )
    assert config.scan_filter is not None
    assert config.scan_filter.values == (
        ("a", "S", "x y"),
        ("b", "N", "-1.5e3"),
        ("c", "B", "YQ=="),
        ("d", "BOOL", "true"),
    )
    assert configure().scan_filter is None
    only = configure("full.read.filter_expression=attribute_exists(e)").scan_filter
    assert only is not None
    assert only.values == ()


def test_an_srv_address_needs_no_dns_to_be_checked() -> None:
    config = configure("target.address=mongodb+srv://u:p@cluster.invalid/?srvMaxHosts=2&tls=true")
    assert config.target_address.startswith("mongodb+srv://")


def test_options_of_other_drivers_are_let_pass() -> None:
    address = "mongodb://h/?connect=direct&slaveOk=true&ssl=true&sslVerify=no"
    assert configure(f"target.address={address}").target_address == address
