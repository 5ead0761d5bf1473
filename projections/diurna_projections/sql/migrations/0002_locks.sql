-- Locks: who holds what, who waits, every wish and how it ended, and how each resource is fought for.

create table locks (
    resource_id text collate "C" primary key,
    lock_id text collate "C" not null,
    agent_id text not null,
    fencing_token bigint not null,
    lease_ms bigint not null,
    acquired_at_ms bigint not null,
    deadline_ms bigint not null,
    is_provisional bigint not null,
    waited_ms bigint not null,
    renewals bigint not null,
    reason text not null,
    metadata text not null,
    asked_offset bigint not null,
    partition integer not null,
    record_offset bigint not null
) with (fillfactor = 50);

create table lock_waiters (
    resource_id text collate "C" not null,
    lock_id text collate "C" not null,
    agent_id text not null,
    lease_ms bigint not null,
    asked_at_ms bigint not null,
    until_ms bigint not null,
    reason text not null,
    metadata text not null,
    asked_offset bigint not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (resource_id, lock_id)
);

create view lock_queue as
select w.*, row_number() over (partition by w.resource_id order by w.asked_offset) as queue_position
from lock_waiters w;

create table lock_history (
    resource_id text collate "C" not null,
    asked_offset bigint not null,
    lock_id text collate "C" not null,
    agent_id text collate "C" not null,
    status text not null,
    fencing_token bigint,
    lease_ms bigint,
    asked_at_ms bigint not null,
    acquired_at_ms bigint,
    deadline_ms bigint,
    ended_at_ms bigint,
    waited_ms bigint,
    held_ms bigint,
    renewals bigint not null,
    is_provisional bigint not null,
    reason text not null,
    metadata text not null,
    ended_by text,
    end_reason text,
    partition integer not null,
    record_offset bigint not null,
    primary key (resource_id, asked_offset)
) with (fillfactor = 70);

create index lock_history_by_lock on lock_history (lock_id);
create index lock_history_by_agent on lock_history (agent_id, asked_at_ms);
create index lock_history_by_time on lock_history (asked_at_ms, resource_id, asked_offset);

create table lock_statistics (
    resource_id text collate "C" primary key,
    wishes bigint not null,
    acquisitions bigint not null,
    queued bigint not null,
    denials bigint not null,
    releases bigint not null,
    expirations bigint not null,
    forced_releases bigint not null,
    wait_timeouts bigint not null,
    wait_cancellations bigint not null,
    renewals bigint not null,
    waited_ms_total bigint not null,
    waited_ms_max bigint not null,
    held_ms_total bigint not null,
    held_ms_max bigint not null,
    last_acquired_at_ms bigint,
    partition integer not null,
    record_offset bigint not null
) with (fillfactor = 50);

-- What was projected of locks before these tables were there is projected again, from the beginning of the log.
delete from events where topic = 'locks.events';
delete from positions where topic = 'locks.events';
