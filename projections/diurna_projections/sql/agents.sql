-- name: show
select
    (select topic || ':' || partition || ':' || next - 1 from positions
     where topic = 'agents.events' and partition = $2 and next > 0) as positions,
    (select json_build_object(
        'agent_id', a.agent_id, 'agent_name', a.agent_name, 'base_url', a.base_url,
        'capabilities', a.capabilities::json, 'status', a.status, 'metadata', a.metadata::json,
        'last_heartbeat', iso(i.last_ms), 'created_at', iso(a.created_at_ms), 'updated_at', iso(a.updated_at_ms),
        'instances', i.instances)::text
     from agents a
     cross join lateral (
        select
            max(greatest(h.last_ms, i.registered_at_ms)) as last_ms,
            json_agg(json_build_object(
                'instance_id', i.instance_id, 'status', i.status, 'concurrency', i.concurrency,
                'base_url', i.base_url, 'epoch', i.epoch, 'in_flight', h.in_flight,
                'last_heartbeat', iso(greatest(h.last_ms, i.registered_at_ms))) order by i.instance_id) as instances
        from agent_instances i left join heartbeats h using (agent_id, instance_id)
        where i.agent_id = a.agent_id) i
     where a.agent_id = $1) as document

-- name: list
select
    (select string_agg(topic || ':' || partition || ':' || next - 1, ',' order by partition)
     from positions where topic = 'agents.events' and next > 0) as positions,
    coalesce((select json_agg(page.document order by page.agent_id)::text from (
        select a.agent_id, json_build_object(
            'agent_id', a.agent_id, 'agent_name', a.agent_name, 'base_url', a.base_url,
            'capabilities', a.capabilities::json, 'status', a.status, 'metadata', a.metadata::json,
            'last_heartbeat', iso(i.last_ms), 'created_at', iso(a.created_at_ms), 'updated_at', iso(a.updated_at_ms),
            'instances', i.instances) as document
        from agents a
        cross join lateral (
            select
                max(greatest(h.last_ms, i.registered_at_ms)) as last_ms,
                json_agg(json_build_object(
                    'instance_id', i.instance_id, 'status', i.status, 'concurrency', i.concurrency,
                    'base_url', i.base_url, 'epoch', i.epoch, 'in_flight', h.in_flight,
                    'last_heartbeat', iso(greatest(h.last_ms, i.registered_at_ms)))
                    order by i.instance_id) as instances
            from agent_instances i left join heartbeats h using (agent_id, instance_id)
            where i.agent_id = a.agent_id) i
        where ($1::text is null or a.status = $1)
          and ($2::text is null or exists (
                select from capabilities c where c.agent_id = a.agent_id and c.name = $2))
          and ($3::text is null or a.agent_id > $3 collate "C")
        order by a.agent_id
        limit $4) page), '[]') as document,
    (select max(last.agent_id) from (
        select a.agent_id from agents a
        where ($1::text is null or a.status = $1)
          and ($2::text is null or exists (
                select from capabilities c where c.agent_id = a.agent_id and c.name = $2))
          and ($3::text is null or a.agent_id > $3 collate "C")
        order by a.agent_id
        limit $4) last
     having count(*) = $4) as last

-- name: health
select
    (select topic || ':' || partition || ':' || next - 1 from positions
     where topic = 'agents.events' and partition = $2 and next > 0) as positions,
    (select json_build_object(
        'agent_id', a.agent_id, 'agent_name', a.agent_name,
        'status', case when silent.ms > $4 and a.status in ('active', 'busy', 'idle') then 'stale' else a.status end,
        'last_heartbeat', iso(beat.last_ms),
        'is_healthy', silent.ms <= $4 and a.status in ('active', 'busy', 'idle'),
        'seconds_since_heartbeat', round(silent.ms / 1000.0, 3))::text
     from agents a
     cross join lateral (
        select max(greatest(h.last_ms, i.registered_at_ms)) as last_ms
        from agent_instances i left join heartbeats h using (agent_id, instance_id)
        where i.agent_id = a.agent_id) beat
     cross join lateral (select greatest($3 - beat.last_ms, 0) as ms) silent
     where a.agent_id = $1) as document

-- name: search_capabilities
select
    p.positions, c.agent_id, a.agent_name, c.name, c.description, a.base_url, c.tags
from (select string_agg(topic || ':' || partition || ':' || next - 1, ',' order by partition) as positions
      from positions where topic = 'agents.events' and next > 0) p
left join (capabilities c join agents a on a.agent_id = c.agent_id and a.status in ('active', 'busy', 'idle'))
    on c.words like all ($1::text[]) and ($3::text is null or (c.agent_id, c.name) > ($3, $4::text))
order by c.agent_id, c.name
limit $2

-- name: able
select
    a.agent_id, a.agent_name, a.status,
    sum(i.concurrency)::bigint as concurrency,
    (select count(*) from requests r where r.agent_id = a.agent_id and r.finished_at_ms is null) as open_requests
from capabilities c
join agents a on a.agent_id = c.agent_id and a.status in ('active', 'busy', 'idle')
join agent_instances i on i.agent_id = a.agent_id and i.status in ('active', 'busy', 'idle')
left join heartbeats h on h.agent_id = i.agent_id and h.instance_id = i.instance_id
where (c.name = $1 or c.tags::jsonb ? $1) and greatest(h.last_ms, i.registered_at_ms) >= $2
group by a.agent_id, a.agent_name, a.status
order by 5, 1
