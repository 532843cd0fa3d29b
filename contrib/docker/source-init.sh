# Sourced by the image's entrypoint at the first start: the account, and semi-synchronous replication.
# Without a replica the first commits would wait for one, so the timeout stays at 10 s until binlogd is there.
MYSQL_PWD="$(cat /run/secrets/root)" mysql -uroot <<SQL
CREATE USER 'repl'@'%' IDENTIFIED BY '$(cat /run/secrets/repl)';
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'repl'@'%';
INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';
SET PERSIST sync_binlog = 1;
SET PERSIST innodb_flush_log_at_trx_commit = 1;
SET PERSIST rpl_semi_sync_source_enabled = ON;
SQL
