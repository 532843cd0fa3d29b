"""SHOW REPLICA STATUS: the receiver under the names of a replica's threads, MySQL 9's columns in their order.

The *IO thread* is the receiver; what it has received is Source_Log_File and Read_Source_Log_Pos. Nothing is applied
here: where a replica says how far it has applied stands what is published, durable and whole, and the *SQL thread* runs
when the receiver does. SHOW SLAVE STATUS has the same under the old names, as far as the version we show has them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from binlogd.sender.sql.expressions import Value
from binlogd.sender.sql.results import ColumnKind, ColumnSpec, ResultSet

NO_NUMBER = 1593  # ER_SLAVE_FATAL_ERROR, for an error that has none of its own
RETRY = 2  # seconds, at most, before a source that was lost is tried again

_TEXT, _INT, _BIG = ColumnKind.STRING, ColumnKind.INT_UNSIGNED, ColumnKind.BIGINT_UNSIGNED

COLUMNS: tuple[tuple[str, ColumnKind, int], ...] = (
    ("Replica_IO_State", _TEXT, 14),
    ("Source_Host", _TEXT, 256),
    ("Source_User", _TEXT, 97),
    ("Source_Port", _INT, 8),
    ("Connect_Retry", _INT, 11),
    ("Source_Log_File", _TEXT, 512),
    ("Read_Source_Log_Pos", _BIG, 11),
    ("Relay_Log_File", _TEXT, 512),
    ("Relay_Log_Pos", _BIG, 11),
    ("Relay_Source_Log_File", _TEXT, 512),
    ("Replica_IO_Running", _TEXT, 3),
    ("Replica_SQL_Running", _TEXT, 3),
    ("Replicate_Do_DB", _TEXT, 20),
    ("Replicate_Ignore_DB", _TEXT, 20),
    ("Replicate_Do_Table", _TEXT, 20),
    ("Replicate_Ignore_Table", _TEXT, 23),
    ("Replicate_Wild_Do_Table", _TEXT, 24),
    ("Replicate_Wild_Ignore_Table", _TEXT, 28),
    ("Last_Errno", _INT, 5),
    ("Last_Error", _TEXT, 20),
    ("Skip_Counter", _INT, 11),
    ("Exec_Source_Log_Pos", _BIG, 11),
    ("Relay_Log_Space", _BIG, 11),
    ("Until_Condition", _TEXT, 6),
    ("Until_Log_File", _TEXT, 512),
    ("Until_Log_Pos", _BIG, 11),
    ("Source_SSL_Allowed", _TEXT, 7),
    ("Source_SSL_CA_File", _TEXT, 512),
    ("Source_SSL_CA_Path", _TEXT, 512),
    ("Source_SSL_Cert", _TEXT, 512),
    ("Source_SSL_Cipher", _TEXT, 512),
    ("Source_SSL_Key", _TEXT, 512),
    ("Seconds_Behind_Source", _BIG, 11),
    ("Source_SSL_Verify_Server_Cert", _TEXT, 3),
    ("Last_IO_Errno", _INT, 5),
    ("Last_IO_Error", _TEXT, 20),
    ("Last_SQL_Errno", _INT, 5),
    ("Last_SQL_Error", _TEXT, 20),
    ("Replicate_Ignore_Server_Ids", _TEXT, 512),
    ("Source_Server_Id", _INT, 9),
    ("Source_UUID", _TEXT, 36),
    ("Source_Info_File", _TEXT, 1024),
    ("SQL_Delay", _INT, 11),
    ("SQL_Remaining_Delay", _INT, 9),
    ("Replica_SQL_Running_State", _TEXT, 20),
    ("Source_Retry_Count", _BIG, 11),
    ("Source_Bind", _TEXT, 256),
    ("Last_IO_Error_Timestamp", _TEXT, 20),
    ("Last_SQL_Error_Timestamp", _TEXT, 20),
    ("Source_SSL_Crl", _TEXT, 512),
    ("Source_SSL_Crlpath", _TEXT, 512),
    ("Retrieved_Gtid_Set", _TEXT, 0),
    ("Executed_Gtid_Set", _TEXT, 0),
    ("Auto_Position", _INT, 9),
    ("Replicate_Rewrite_DB", _TEXT, 24),
    ("Channel_Name", _TEXT, 192),
    ("Source_TLS_Version", _TEXT, 512),
    ("Source_public_key_path", _TEXT, 512),
    ("Get_Source_public_key", _INT, 9),
    ("Network_Namespace", _TEXT, 193),
)


SINCE = {
    "Replicate_Rewrite_DB": 50703,
    "Channel_Name": 50706,
    "Source_TLS_Version": 50710,
    "Source_public_key_path": 80004,
    "Get_Source_public_key": 80004,
    "Network_Namespace": 80022,
}
"""The version of MySQL that had a column first, of those that 5.6 has not."""


def old_name(name: str) -> str:
    """A column's name before MySQL 8.0.22."""
    if name == "Get_Source_public_key":
        return "Get_master_public_key"
    if name == "Source_public_key_path":
        return "Master_public_key_path"
    return name.replace("Replica_", "Slave_").replace("Source", "Master")


def replica_status(
    receiver: Mapping[str, Any] | None,
    *,
    executed: str,
    published: tuple[str, int],
    size: int,
    gtids: bool,
    old: int | None,
) -> ResultSet:
    """The one row.

    ``old`` is the version (50624) whose SHOW SLAVE STATUS it is, None for SHOW REPLICA STATUS.
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
        if not row["Source_Log_File"]:  # since its start nothing came: it goes on where the store ends
            row |= {"Source_Log_File": published[0], "Read_Source_Log_Pos": published[1]}
    shown = [column for column in COLUMNS if old is None or SINCE.get(column[0], 0) <= old]
    columns = tuple(
        ColumnSpec(
            name if old is None else old_name(name), kind, len(executed) if name.endswith("_Gtid_Set") else length
        )
        for name, kind, length in shown
    )
    return ResultSet(columns, (tuple(row[name] for name, *_ in shown),))


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
    **{name: "" if kind is _TEXT else 0 for name, kind, _ in COLUMNS},
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
