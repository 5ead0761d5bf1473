-- name: last_before
select max(record_offset) from events where topic = $1 and partition = $2 and record_offset < $3

-- name: checksums
select record_offset, {row}
from events
where topic = $1 and partition = $2 and record_offset >= $3 and record_offset < $4
order by record_offset

-- name: buried
select source_offset from dead_letters
where topic = $1 and source_partition = $2 and source_offset >= $3 and source_offset < $4 and stage = $5

-- name: row
select * from events where topic = $1 and partition = $2 and record_offset = $3
