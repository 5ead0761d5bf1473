-- name: lock_all_positions
select topic, partition, next, hash, incarnation, command_offset, command_index
from positions
order by topic, partition
for update

-- name: pass_gaps
update {schema}.positions made set next = live.next
from positions live
where live.topic = made.topic and live.partition = made.partition and live.next > made.next
  and made.topic = any($1::text[])

-- name: retire
update {schema}.positions set hash = 'retired ' || hash

-- name: revive
update {schema}.positions set hash = replace(hash, 'retired ', '')

-- name: schemas
select nspname::text from pg_namespace where nspname = any($1::text[]) order by nspname::text

-- name: schema_of
select obj_description(oid, 'pg_namespace') as comment, to_regclass($2) is not null as has_tables
from pg_namespace where nspname = $1
