-- Tables the log is folded into. Everything here can be dropped: the projector makes it anew from offset 0.
-- Keys compare byte by byte (collate "C"), as Python does, so that checksums agree.

create table positions (
    topic text collate "C" not null,
    partition integer not null,
    next bigint not null default 0,
    hash text not null default '00000000000000000000000000000000',
    incarnation bigint not null default 1,
    command_offset bigint not null default -1,
    command_index bigint not null default 0,
    duplicates bigint not null default 0,
    aliens bigint not null default 0,
    dead_letters bigint not null default 0,
    primary key (topic, partition)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

create table agents (
    agent_id text collate "C" primary key,
    agent_name text not null,
    base_url text not null,
    capabilities text not null,
    status text not null,
    metadata text not null,
    instances bigint not null,
    created_at_ms bigint not null,
    updated_at_ms bigint not null,
    partition integer not null,
    record_offset bigint not null
);

create table agent_instances (
    agent_id text collate "C" not null,
    instance_id text collate "C" not null,
    agent_name text not null,
    base_url text not null,
    capabilities text not null,
    concurrency bigint not null,
    status text not null,
    metadata text not null,
    epoch bigint not null,
    registered_at_ms bigint not null,
    updated_at_ms bigint not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (agent_id, instance_id)
);

create table capabilities (
    agent_id text collate "C" not null,
    name text collate "C" not null,
    description text not null,
    tags text not null,
    words text not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (agent_id, name)
);

create table requests (
    request_id text collate "C" not null,
    agent_id text collate "C" not null,
    status text not null,
    source_agent text not null,
    target_agent text not null,
    request_type text not null,
    payload text not null,
    priority text not null,
    timeout_ms bigint not null,
    attempts_max bigint not null,
    correlation_id text collate "C" not null,
    metadata text not null,
    command_id text collate "C" not null,
    created_at_ms bigint not null,
    submitted_at_ms bigint not null,
    deadline_ms bigint,
    dispatched_at_ms bigint,
    instance_id text,
    attempts bigint not null,
    finished_at_ms bigint,
    response_id text,
    response_status text,
    result text,
    error text,
    error_code text,
    response_metadata text not null,
    processing_time_ms bigint not null,
    late_responses bigint not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (request_id, agent_id)
) with (fillfactor = 70);

create index requests_by_time on requests (submitted_at_ms, request_id, agent_id);
create index requests_by_correlation on requests (correlation_id);
create index requests_by_command on requests (command_id);
create index requests_open on requests (agent_id) where finished_at_ms is null;

create table workflows (
    workflow_id text collate "C" primary key,
    workflow_type text not null,
    status text not null,
    current_step text,
    state text not null,
    participating_agents text not null,
    metadata text not null,
    result text,
    error text,
    version bigint not null,
    started_at_ms bigint not null,
    updated_at_ms bigint not null,
    completed_at_ms bigint,
    partition integer not null,
    record_offset bigint not null
) with (fillfactor = 70);

create index workflows_by_time on workflows (started_at_ms, workflow_id);

create table approvals (
    approval_id text collate "C" not null,
    workflow_id text collate "C" not null,
    status text not null,
    question text not null,
    details text not null,
    requested_at_ms bigint not null,
    expires_at_ms bigint,
    decided_at_ms bigint,
    decided_by text,
    reason text,
    partition integer not null,
    record_offset bigint not null,
    primary key (approval_id, workflow_id)
);

create index approvals_by_workflow on approvals (workflow_id);

create table heartbeats (
    agent_id text collate "C" not null,
    instance_id text collate "C" not null,
    last_ms bigint not null,
    in_flight bigint not null,
    status text not null,
    sent_at_ms bigint not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (agent_id, instance_id)
) with (fillfactor = 50);

create table dead_letters (
    id text collate "C" primary key,
    stage text not null,
    topic text not null,
    source_partition bigint not null,
    source_offset bigint not null,
    record_key bytea,
    record_value bytea,
    record_headers text not null,
    error_type text not null,
    error text not null,
    timestamp_ms bigint not null
);

create table dead_letter_settlements (
    id text collate "C" primary key,
    verdict text not null,
    settled_by text not null,
    reason text not null,
    answered_at text,
    at_ms bigint not null
);

-- The first verdict may be there before the letter: they come from different partitions.
create view dead_letters_with_verdict as
select d.*, coalesce(s.verdict, 'open') as status, s.settled_by, s.reason, s.answered_at, s.at_ms as settled_at_ms
from dead_letters d
left join dead_letter_settlements s using (id);

create table events (
    topic text collate "C" not null,
    partition integer not null,
    record_offset bigint not null,
    event_id text not null,
    type text collate "C" not null,
    subject text collate "C" not null,
    source text not null,
    correlation_id text collate "C",
    causation_id text collate "C",
    at_ms bigint not null,
    record_key bytea,
    value bytea not null,
    primary key (topic, partition, record_offset)
);

create index dead_letters_by_time on dead_letters (timestamp_ms, id);

-- Milliseconds UTC as ISO 8601.
create function iso(ms bigint) returns text language sql immutable parallel safe
return to_char(to_timestamp(ms / 1000.0) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- Refuses a statement that moved fewer positions than it wanted to: another writer was faster.
create function expect(moved bigint, wanted bigint) returns bigint language plpgsql as $$
begin
    if moved <> wanted then
        raise exception '% of % positions are where they were believed to be', moved, wanted using errcode = '40001';
    end if;
    return moved;
end $$;
