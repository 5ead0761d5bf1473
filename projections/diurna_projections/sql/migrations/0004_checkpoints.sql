-- LangGraph's threads. Values are as its serialiser wrote them; `channels` is JSON: at which version of each channel
-- its value is a blob, empty where it is in the body.

create table checkpoint_threads (
    thread_id text collate "C" primary key,
    token bigint not null,
    refused bigint not null,
    partition integer not null,
    record_offset bigint not null
) with (fillfactor = 70);

create table checkpoint_damages (
    thread_id text collate "C" primary key,
    damage text not null,
    partition integer not null,
    record_offset bigint not null
);

create table checkpoints (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    checkpoint_id text collate "C" not null,
    parent_checkpoint_id text collate "C",
    run_id text collate "C",
    channels text not null,
    kind text not null,
    checkpoint bytea not null,
    metadata_kind text not null,
    metadata bytea not null,
    saved_at_ms bigint not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id)
);

create index checkpoints_by_id on checkpoints (checkpoint_id);
create index checkpoints_by_run on checkpoints (run_id) where run_id is not null;

create table checkpoint_blobs (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    channel text collate "C" not null,
    version text collate "C" not null,
    kind text not null,
    value bytea not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (thread_id, checkpoint_ns, channel, version)
);

create table checkpoint_writes (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    checkpoint_id text collate "C" not null,
    task_id text collate "C" not null,
    task_path text collate "C" not null,
    writes bytea not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id, task_id)
);

create table checkpoint_chunks (
    thread_id text collate "C" not null,
    sha256 text collate "C" not null,
    chunk_index bigint not null,
    value bytea not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (thread_id, sha256, chunk_index)
);
