-- name: known_positions
insert into positions (topic, partition)
select * from unnest($1::text[], $2::integer[])
on conflict do nothing

-- name: positions_of
select p.topic, p.partition, p.next, p.hash, p.incarnation, p.command_offset, p.command_index
from positions p
join unnest($1::text[], $2::integer[]) as wanted (topic, partition) using (topic, partition)

-- name: lock_positions
select p.topic, p.partition, p.next, p.hash, p.incarnation, p.command_offset, p.command_index
from positions p
join unnest($1::text[], $2::integer[]) as wanted (topic, partition) using (topic, partition)
order by p.topic, p.partition
for update of p

-- name: move_positions
update positions p
set next = moved.next, hash = moved.hash, incarnation = moved.incarnation, command_offset = moved.command_offset,
    command_index = moved.command_index, duplicates = p.duplicates + moved.duplicates,
    aliens = p.aliens + moved.aliens, dead_letters = p.dead_letters + moved.dead_letters
from unnest($2::text[], $3::integer[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[],
            $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
    as moved (topic, partition, old_next, old_hash, next, hash, incarnation, command_offset, command_index, duplicates,
              aliens, dead_letters)
where p.topic = moved.topic and p.partition = moved.partition
  and p.next = moved.old_next and p.hash = moved.old_hash

-- name: positions
select topic, partition, next, hash, incarnation, command_offset, command_index, duplicates, aliens, dead_letters
from positions
order by topic, partition

-- name: events_estimate
select greatest(reltuples, 0)::bigint from pg_class where oid = 'events'::regclass
