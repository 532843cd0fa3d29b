# Sourced by the image's entrypoint at the first start: what it made itself is forgotten, and binlogd is followed.
MYSQL_PWD="$(cat /run/secrets/root)" mysql -uroot <<SQL
RESET BINARY LOGS AND GTIDS;
CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'binlogd', SOURCE_PORT = 3307, SOURCE_USER = 'repl',
  SOURCE_PASSWORD = '$(cat /run/secrets/repl)', SOURCE_SSL = 1, SOURCE_AUTO_POSITION = 1;
SQL
