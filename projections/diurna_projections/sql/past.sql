-- What had happened by a moment: $1 its time in milliseconds, $2 to $4 the position that was the last of its partition,
-- where one was named.

-- name: time_of
select at_ms from events where topic = $1 and partition = $2 and record_offset = $3

-- name: events
select topic, partition, record_offset, event_id, at_ms, record_key, value
from events
where topic = any($5::text[]) and ($6::integer is null or partition = $6)
  and at_ms <= $1 and (topic <> $2 or partition <> $3 or record_offset <= $4)
order by topic, partition, record_offset

-- name: positions
insert into pg_temp.positions (topic, partition, next)
select topic, partition, max(record_offset) + 1
from {schema}.events
where at_ms <= $1 and (topic <> $2 or partition <> $3 or record_offset <= $4)
group by topic, partition

-- name: views
select viewname::text as name, pg_get_viewdef(format('%I.%I', schemaname, viewname)::regclass) as definition
from pg_views where schemaname = $1
