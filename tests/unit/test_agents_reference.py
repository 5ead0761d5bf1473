"""The reference of the agents is held to the code: every request type, every field, every code of an error."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from diurna import AgentRequestType
from diurna_agents import errors, service_keeper
from diurna_agents.branch import EDITS_MAX
from diurna_agents.cicd.request import PipelineRequest, ValidationRequest
from diurna_agents.code_review.policy import Policy, ReviewRequest
from diurna_agents.diagnosis import DiagnosisRequest
from diurna_agents.documentation.request import DocsRequest, ReadmeRequest
from diurna_agents.documentation.site import MadePart, MergeRequest, MissingPart
from diurna_agents.feature_dev.request import ExplainRequest, GenerateRequest, RefactorRequest
from diurna_agents.infrastructure.configuration import ConfigRequest
from diurna_agents.infrastructure.operations import ServicesRequest
from diurna_agents.infrastructure.request import ArtifactRequest, CheckRequest, DeployRequest, RollbackRequest
from diurna_agents.infrastructure.services import FileAgeCheck, HttpCheck, ProcessCheck, Service, TcpCheck
from diurna_agents.infrastructure.tasks import ServiceTask
from diurna_agents.orchestrator.aggregation import AggregateRequest, Part
from diurna_agents.orchestrator.decomposition import DecomposeRequest
from diurna_agents.orchestrator.execution import TaskRequest
from diurna_agents.orchestrator.plans import Subtask
from diurna_agents.orchestrator.registry_answers import StatusRequest
from diurna_agents.orchestrator.routing import RouteRequest
from diurna_agents.orchestrator.templates import TEMPLATES
from diurna_agents.payload import Payload
from diurna_schemas.errors import Refused
from support.documents import ROOT

TEXT = (ROOT / "docs/reference/agents.md").read_text(encoding="utf-8")
PAYLOADS: dict[str, tuple[type[Payload], ...]] = {
    "review_code": (ReviewRequest, Policy),
    "run_pipeline": (PipelineRequest,),
    "validate_build": (ValidationRequest,),
    "deploy_artifact": (ArtifactRequest,),
    "deploy_service": (DeployRequest,),
    "health_check": (CheckRequest, ServicesRequest, Service, HttpCheck, TcpCheck, ProcessCheck, FileAgeCheck),
    "Services: execute_task": (ServiceTask,),
    "diagnose_service": (DiagnosisRequest,),
    "merge_docs": (MergeRequest, MadePart, MissingPart),
    "update_config": (ConfigRequest,),
    "rollback": (RollbackRequest,),
    "refactor_code": (RefactorRequest,),
    "generate_code": (GenerateRequest,),
    "explain_code": (ExplainRequest,),
    "generate_docs": (DocsRequest,),
    "update_readme": (ReadmeRequest,),
    "decompose_task": (DecomposeRequest, Subtask),
    "execute_task": (TaskRequest,),
    "aggregate_results": (AggregateRequest, Part),
    "route_request": (RouteRequest,),
    "get_status": (StatusRequest,),
}


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found, f"there is no section {heading}"
    return found[1]


def codes_of(kind: type[Refused]) -> Iterator[str]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below.code
        yield from codes_of(below)


@pytest.mark.parametrize("request_type", AgentRequestType)
def test_every_request_type_has_a_section_and_an_owner_in_the_table(request_type: str) -> None:
    assert section(request_type)
    assert f"[`{request_type}`](#{request_type})" in TEXT.partition("## What they have in common")[0]


@pytest.mark.parametrize(
    ("heading", "model"), [(heading, model) for heading, models in PAYLOADS.items() for model in models]
)
def test_every_field_of_a_payload_is_in_its_section(heading: str, model: type[Payload]) -> None:
    text = section(heading)
    names = {field.alias or name for name, field in model.model_fields.items()}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


def test_every_code_of_a_refusal_is_in_the_table() -> None:
    assert [code for code in codes_of(Refused) if f"`{code}`" not in section("Errors")] == []


def test_the_bounds_and_templates_it_names_are_those_of_the_code() -> None:
    assert f"{EDITS_MAX:,} files and 64 MiB" in TEXT
    assert service_keeper.BRIEF_LIVES_MAX == 8
    assert [kind for kind in TEMPLATES if f"| `{kind}` |" not in section("decompose_task")] == []
