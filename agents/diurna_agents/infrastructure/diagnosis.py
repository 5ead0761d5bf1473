"""Says why a service is ill by looking at its process and its checks: the infrastructure agent's `diagnose_service`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diurna_agents.diagnosis import Diagnosis, DiagnosisRequest
from diurna_agents.environment_checks import Check
from diurna_agents.infrastructure.keeping import Kept, Standing
from diurna_agents.infrastructure.services import Declared, declared, service_of
from diurna_agents.infrastructure.watching import service_checks
from diurna_agents.payload import validated
from diurna_agents.workspace import Report, Workspace


async def diagnose_service(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Looks anew, whatever the request tells of the service. Answers a diagnosis; nothing is changed."""
    request = DiagnosisRequest.read(payload)
    place = {"services": request.services, "services_file": request.services_file}
    service = service_of(await declared(validated(Declared, place), workspace), request.service)
    checks = await service_checks(request.service, service, workspace)
    found = diagnosed(Kept(request.service, workspace).standing(), checks, is_startable=service.command is not None)
    await report("diagnosed", {"service": request.service, "remedy": found.remedy})
    return found.as_json()


def diagnosed(standing: Standing, checks: Sequence[Check], *, is_startable: bool) -> Diagnosis:
    """What process and checks say together."""
    ill = [check for check in checks if not check.healthy]
    evidence = (f"its process is {standing.state}", *(f"{check.name}: {check.detail}" for check in ill))
    if not ill:
        return Diagnosis("it is healthy now", "none", 0.9, evidence)
    if not is_startable:
        return Diagnosis("it is ill, and no command says how to start it", "ask_person", 0.9, evidence)
    match standing.state:
        case "running":
            return Diagnosis("its process lives, but it does not answer as it should", "restart_service", 0.6, evidence)
        case "failed":
            return Diagnosis(f"it cannot be started: {standing.detail}", "ask_person", 0.7, evidence)
        case "given_up":
            words = f"it died again and again, at last with exit code {standing.exit_code}"
            return Diagnosis(words, "restart_service", 0.4, evidence)
        case "ended":
            return Diagnosis(f"its process ended with exit code {standing.exit_code}", "restart_service", 0.8, evidence)
        case _:
            return Diagnosis("its process is not there", "restart_service", 0.8, evidence)
