-- name: contents
cross join lateral (
    select array_agg(b.channel order by b.channel) as channels, array_agg(b.version order by b.channel) as versions,
        array_agg(b.kind order by b.channel) as kinds, array_agg(b.value order by b.channel) as contents,
        array_agg(b.partition order by b.channel) as partitions,
        array_agg(b.record_offset order by b.channel) as record_offsets
    from json_each_text(c.channels::json) as named (channel, version)
    join checkpoint_blobs b on b.thread_id = c.thread_id and b.checkpoint_ns = c.checkpoint_ns
        and b.channel = named.channel and b.version = named.version
) blobs
cross join lateral (
    select array_agg(w.task_id order by w.task_path, w.task_id) as task_ids,
        array_agg(w.task_path order by w.task_path, w.task_id) as paths,
        array_agg(w.writes order by w.task_path, w.task_id) as contents,
        array_agg(w.partition order by w.task_path, w.task_id) as partitions,
        array_agg(w.record_offset order by w.task_path, w.task_id) as record_offsets
    from checkpoint_writes w
    where w.thread_id = c.thread_id and w.checkpoint_ns = c.checkpoint_ns and w.checkpoint_id = c.checkpoint_id
) writes

-- name: saved_columns
c.*, exists (
    select 1 from checkpoints p where p.thread_id = c.thread_id and p.checkpoint_ns = c.checkpoint_ns
        and p.checkpoint_id = c.parent_checkpoint_id) as has_parent,
blobs.channels, blobs.versions, blobs.kinds, blobs.contents, blobs.partitions, blobs.record_offsets,
writes.task_ids, writes.paths, writes.contents, writes.partitions, writes.record_offsets

-- name: one
from checkpoints c
{contents}
where c.thread_id = $1 and c.checkpoint_ns = $4 and c.checkpoint_id = $5

-- name: newest
from (
    select * from checkpoints where thread_id = $1 and checkpoint_ns = $4 order by checkpoint_id desc limit 1
) c
{contents}

-- name: these
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as wanted (thread_id, ns, id, place)
join checkpoints c on c.thread_id = wanted.thread_id and c.checkpoint_ns = wanted.ns and c.checkpoint_id = wanted.id
{contents}
order by wanted.place

-- name: positions
select topic, partition, next from positions where topic = $1

-- name: summary
select coalesce((select next from positions where topic = $2 and partition = $3), 0), heads.namespaces, heads.newest,
    t.*, d.*
from (
    select array_agg(checkpoint_ns) as namespaces, array_agg(newest) as newest from (
        select checkpoint_ns, max(checkpoint_id) as newest from checkpoints where thread_id = $1 group by checkpoint_ns
    ) one
) heads
left join checkpoint_threads t on t.thread_id = $1
left join checkpoint_damages d on d.thread_id = $1

-- name: keys_of_runs
select thread_id, checkpoint_ns, checkpoint_id from checkpoints where run_id = any($1::text[])

-- name: chain
with recursive ancestors as (
    select parent_checkpoint_id, 0 as distance, channels, checkpoint_id from checkpoints
    where thread_id = $1 and checkpoint_ns = $2 and checkpoint_id = $3
    union all
    select c.parent_checkpoint_id, a.distance + 1, c.channels, c.checkpoint_id
    from ancestors a
    join checkpoints c on c.thread_id = $1 and c.checkpoint_ns = $2 and c.checkpoint_id = a.parent_checkpoint_id
    where a.distance < $4
)
select checkpoint_id, channels from ancestors where distance > 0 order by distance

-- name: blobs
select b.* from checkpoint_blobs b
join unnest($3::text[], $4::text[]) as wanted (channel, version) using (channel, version)
where b.thread_id = $1 and b.checkpoint_ns = $2

-- name: writes
select * from checkpoint_writes
where thread_id = $1 and checkpoint_ns = $2 and checkpoint_id = any($3::text[])
order by checkpoint_id, task_path, task_id

-- name: checkpoint_keys
select checkpoint_ns, checkpoint_id, channels from checkpoints where thread_id = $1
order by checkpoint_id, checkpoint_ns

-- name: blob_keys
select checkpoint_ns, channel, version from checkpoint_blobs where thread_id = $1
order by checkpoint_ns, channel, version

-- name: write_keys
select checkpoint_ns, checkpoint_id, task_id from checkpoint_writes where thread_id = $1
order by checkpoint_id, checkpoint_ns, task_id
