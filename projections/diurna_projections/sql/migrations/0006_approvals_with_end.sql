-- An approval that waits ends with its workflow: nobody can decide it any more, though the log says nothing of it by
-- itself. A workflow of the same id that began later is another one.

create view approvals_with_end as
select a.approval_id, a.workflow_id,
    case when a.status = 'pending'
              and (w.workflow_id is null or w.completed_at_ms is not null or w.started_at_ms > a.requested_at_ms)
         then 'closed' else a.status end as status,
    a.question, a.details, a.requested_at_ms, a.expires_at_ms, a.decided_at_ms, a.decided_by, a.reason, a.partition,
    a.record_offset, a.roles
from approvals a
left join workflows w on w.workflow_id = a.workflow_id;
