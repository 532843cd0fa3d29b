"""SHOW REPLICA STATUS: the receiver under the names of a replica's threads, MySQL 9's columns in their order.

The *IO thread* is the receiver; what it has received is Source_Log_File and Read_Source_Log_Pos. Nothing is applied
here: where a replica says how far it has applied stands what is published, durable and whole, and the *SQL thread* runs
when the receiver does. SHOW SLAVE STATUS has the same under MySQL 8's old names.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from binlogd.sender.sql.expressions import Value
from binlogd.sender.sql.results import ColumnKind, ColumnSpec, ResultSet

NO_NUMBER = 1593  # ER_SLAVE_FATAL_ERROR, for an error that has none of its own
RETRY = 2  # seconds, at most, before a source that was lost is tried again

_INT, _BIG = ColumnKind.INT, ColumnKind.BIGINT_UNSIGNED

COLUMNS: tuple[tuple[str, ColumnKind], ...] = (
    ("Replica_IO_State", ColumnKind.STRING),
    ("Source_Host", ColumnKind.STRING),
    ("Source_User", ColumnKind.STRING),
    ("Source_Port", _INT),
    ("Connect_Retry", _INT),
    ("Source_Log_File", ColumnKind.STRING),
    ("Read_Source_Log_Pos", _BIG),
    ("Relay_Log_File", ColumnKind.STRING),
    ("Relay_Log_Pos", _BIG),
    ("Relay_Source_Log_File", ColumnKind.STRING),
    ("Replica_IO_Running", ColumnKind.STRING),
    ("Replica_SQL_Running", ColumnKind.STRING),
    ("Replicate_Do_DB", ColumnKind.STRING),
    ("Replicate_Ignore_DB", ColumnKind.STRING),
    ("Replicate_Do_Table", ColumnKind.STRING),
    ("Replicate_Ignore_Table", ColumnKind.STRING),
    ("Replicate_Wild_Do_Table", ColumnKind.STRING),
    ("Replicate_Wild_Ignore_Table", ColumnKind.STRING),
    ("Last_Errno", _INT),
    ("Last_Error", ColumnKind.STRING),
    ("Skip_Counter", _INT),
    ("Exec_Source_Log_Pos", _BIG),
    ("Relay_Log_Space", _BIG),
    ("Until_Condition", ColumnKind.STRING),
    ("Until_Log_File", ColumnKind.STRING),
    ("Until_Log_Pos", _BIG),
    ("Source_SSL_Allowed", ColumnKind.STRING),
    ("Source_SSL_CA_File", ColumnKind.STRING),
    ("Source_SSL_CA_Path", ColumnKind.STRING),
    ("Source_SSL_Cert", ColumnKind.STRING),
    ("Source_SSL_Cipher", ColumnKind.STRING),
    ("Source_SSL_Key", ColumnKind.STRING),
    ("Seconds_Behind_Source", _BIG),
    ("Source_SSL_Verify_Server_Cert", ColumnKind.STRING),
    ("Last_IO_Errno", _INT),
    ("Last_IO_Error", ColumnKind.STRING),
    ("Last_SQL_Errno", _INT),
    ("Last_SQL_Error", ColumnKind.STRING),
    ("Replicate_Ignore_Server_Ids", ColumnKind.STRING),
    ("Source_Server_Id", _INT),
    ("Source_UUID", ColumnKind.STRING),
    ("Source_Info_File", ColumnKind.STRING),
    ("SQL_Delay", _INT),
    ("SQL_Remaining_Delay", _INT),
    ("Replica_SQL_Running_State", ColumnKind.STRING),
    ("Source_Retry_Count", _BIG),
    ("Source_Bind", ColumnKind.STRING),
    ("Last_IO_Error_Timestamp", ColumnKind.STRING),
    ("Last_SQL_Error_Timestamp", ColumnKind.STRING),
    ("Source_SSL_Crl", ColumnKind.STRING),
    ("Source_SSL_Crlpath", ColumnKind.STRING),
    ("Retrieved_Gtid_Set", ColumnKind.STRING),
    ("Executed_Gtid_Set", ColumnKind.STRING),
    ("Auto_Position", _INT),
    ("Replicate_Rewrite_DB", ColumnKind.STRING),
    ("Channel_Name", ColumnKind.STRING),
    ("Source_TLS_Version", ColumnKind.STRING),
    ("Source_public_key_path", ColumnKind.STRING),
    ("Get_Source_public_key", _INT),
    ("Network_Namespace", ColumnKind.STRING),
)


def old_name(name: str) -> str:
    """A column's name before MySQL 8.0.22."""
    if name == "Get_Source_public_key":
        return "Get_master_public_key"
    if name == "Source_public_key_path":
        return "Master_public_key_path"
    return name.replace("Replica_", "Slave_").replace("Source", "Master")


def replica_status(
    receiver: Mapping[str, Any] | None, *, executed: str, published: tuple[str, int], size: int, gtids: bool, old: bool
) -> ResultSet:
    """The one row.

    ``receiver`` is the status that it gave, None when none answers; ``executed``, ``published`` and ``size`` (bytes)
    are of the store; ``gtids`` says whether the source has them.
    """
    row: dict[str, Value] = {
        **_DEFAULTS,
        "Relay_Log_File": published[0],
        "Relay_Log_Pos": published[1],
        "Relay_Source_Log_File": published[0],
        "Exec_Source_Log_Pos": published[1],
        "Relay_Log_Space": size,
        "Retrieved_Gtid_Set": executed,
        "Executed_Gtid_Set": executed,
        "Auto_Position": int(gtids),
    }
    if receiver is None:
        row |= {"Last_IO_Errno": NO_NUMBER, "Last_IO_Error": "no receiver runs on this store; start binlogd run"}
    elif "unanswered" in receiver:
        row |= {"Last_IO_Errno": NO_NUMBER, "Last_IO_Error": "the receiver does not answer; look at its log"}
    elif "orders" not in receiver:
        row |= {"Last_IO_Errno": NO_NUMBER, "Last_IO_Error": "the receiver is of another version; restart binlogd"}
    else:
        row |= _of_receiver(receiver)
    columns = tuple(ColumnSpec(old_name(name) if old else name, kind) for name, kind in COLUMNS)
    return ResultSet(columns, (tuple(row[name] for name, _ in COLUMNS),))


def _of_receiver(receiver: Mapping[str, Any]) -> dict[str, Value]:
    source, orders = receiver["source"], receiver["orders"]
    running = orders["running"]
    streaming = running and source["state"] == "streaming"
    ordered = orders["sources"]
    peer = next(
        (each for each in ordered if (each["host"], each["port"]) == (source["host"], source["port"])), ordered[0]
    )
    row: dict[str, Value] = {
        "Replica_IO_State": "",
        "Source_Host": peer["host"],
        "Source_User": peer["user"],
        "Source_Port": peer["port"],
        "Source_Log_File": source["file"],
        "Read_Source_Log_Pos": source["position"],
        "Replica_IO_Running": "Yes" if streaming else "Connecting" if running else "No",
        "Replica_SQL_Running": "Yes" if running else "No",
        "Source_SSL_Allowed": "No" if orders["tls"] == "disabled" else "Yes",
        "Source_SSL_Verify_Server_Cert": "Yes" if orders["tls"] == "verify-identity" else "No",
        "Source_SSL_CA_File": orders["tls_ca"],
        "Source_SSL_Cert": orders["tls_cert"],
        "Source_SSL_Key": orders["tls_key"],
        "Source_UUID": source["server_uuid"],
    }
    if running:
        row["Replica_IO_State"] = "Waiting for source to send event" if streaming else "Connecting to source"
        row["Replica_SQL_Running_State"] = "Replica has read all relay log; waiting for more updates"
    if streaming:
        row["Seconds_Behind_Source"] = 0  # all that was received is published
    elif source["last_error"]:
        row["Last_IO_Errno"] = source.get("last_errno") or NO_NUMBER
        row["Last_IO_Error"] = source["last_error"]
        row["Last_IO_Error_Timestamp"] = time.strftime("%y%m%d %H:%M:%S", time.localtime(source["since"]))
    return row


_DEFAULTS: dict[str, Value] = {
    **{name: "" if kind is ColumnKind.STRING else 0 for name, kind in COLUMNS},
    "Connect_Retry": RETRY,
    "Replica_IO_Running": "No",
    "Replica_SQL_Running": "No",
    "Until_Condition": "None",
    "Source_SSL_Allowed": "No",
    "Source_SSL_Verify_Server_Cert": "No",
    "Seconds_Behind_Source": None,
    "SQL_Remaining_Delay": None,
    "Get_Source_public_key": 1,
}
