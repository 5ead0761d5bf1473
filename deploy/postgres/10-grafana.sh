#!/bin/sh
# Makes the role as which Grafana reads the tables, before there are any; it may read them and no more.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 \
    --set owner="$POSTGRES_USER" --set password="$GRAFANA_DATABASE_PASSWORD" <<'SQL'
create role grafana login password :'password' connection limit 10;
alter role grafana set default_transaction_read_only = on;
alter role grafana set statement_timeout = '10s';
alter default privileges for role :"owner" grant usage on schemas to grafana;
alter default privileges for role :"owner" grant select on tables to grafana;
SQL
