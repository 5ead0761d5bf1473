-- Indexes that only readers need: left out while the table is filled in bulk, for each costs as much as the row.

-- name: events_by_place
create unique index if not exists events_by_place on events (topic, partition, record_offset)

-- name: events_by_time
create index if not exists events_by_time on events (at_ms, topic, partition, record_offset)

-- name: events_by_correlation
create index if not exists events_by_correlation on events (correlation_id) where correlation_id is not null

-- name: events_by_causation
create index if not exists events_by_causation on events (causation_id) where causation_id is not null

-- name: events_by_subject
create index if not exists events_by_subject on events (subject)
