-- Checkpoints of workflows, who may decide an approval, and workflows by the time of their end.

create table workflow_checkpoints (
    workflow_id text collate "C" not null,
    checkpoint_id text collate "C" not null,
    step text not null,
    agent_id text,
    data text not null,
    version bigint not null,
    created_at_ms bigint not null,
    partition integer not null,
    record_offset bigint not null,
    primary key (workflow_id, checkpoint_id)
);

create index workflow_checkpoints_in_order on workflow_checkpoints (workflow_id, record_offset);

alter table approvals add column roles text not null default '[]';

create index workflows_by_end on workflows (completed_at_ms) where completed_at_ms is not null;
