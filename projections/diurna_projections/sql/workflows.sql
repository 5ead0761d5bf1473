-- name: events_of
select topic, partition, record_offset, at_ms, value
from events
where topic = 'workflows.events' and subject = $1 and record_offset > $2
  and record_offset >= (select max(record_offset) from events
                        where topic = 'workflows.events' and subject = $1 and type = 'workflow.created')
order by record_offset
limit $3

-- name: statistics
select p.positions, s.*
from (select string_agg(topic || ':' || partition || ':' || next - 1, ',' order by topic, partition) as positions
      from positions where topic = 'workflows.events' and next > 0) p
left join lateral (
    select workflow_type, count(*) as total,
        count(*) filter (where status = 'running') as running,
        count(*) filter (where status = 'paused') as paused,
        count(*) filter (where status = 'completed') as completed,
        count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'cancelled') as cancelled,
        coalesce(sum(completed_at_ms - started_at_ms) filter (where status = 'completed'), 0)::bigint as completed_ms
    from workflows group by workflow_type) s on true
order by s.workflow_type collate "C"

-- name: ended
select workflow_id from workflows where completed_at_ms <= $1 order by completed_at_ms, workflow_id limit $2

-- name: driven_type
select w.workflow_type from workflows w join checkpoint_threads t on t.thread_id = w.workflow_id
where w.workflow_id = $1
