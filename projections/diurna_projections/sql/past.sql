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

-- name: folded
select 'events'::regclass::oid::bigint,
    coalesce(array_agg(topic order by topic, partition), '{}'),
    coalesce(array_agg(partition order by topic, partition), '{}'),
    coalesce(array_agg(next order by topic, partition), '{}')
from pg_temp.positions

-- Whether $5 is the live table of events still, and nothing of the moment stands behind $6 to $8.
-- name: is_whole
select to_regclass('events')::oid::bigint = $5::bigint and not exists (
    select from positions live
    left join unnest($6::text[], $7::integer[], $8::bigint[]) as known (topic, partition, next) using (topic, partition)
    cross join lateral (
        select at_ms, record_offset from events e
        where e.topic = live.topic and e.partition = live.partition and e.record_offset >= coalesce(known.next, 0)
        order by e.record_offset
        limit 1) following
    where following.at_ms <= $1
      and (live.topic <> $2 or live.partition <> $3 or following.record_offset <= $4)) as is_whole

-- name: views
select viewname::text as name, pg_get_viewdef(format('%I.%I', schemaname, viewname)::regclass) as definition
from pg_views where schemaname = $1
