"""The document of the workflows is held to the code: the graphs, the inputs, the ends, the fields of the state."""

from __future__ import annotations

import re
from typing import Any, cast, get_type_hints

import pytest

from diurna_agents.payload import Payload
from diurna_workflows import MultiAgentState
from diurna_workflows.definitions import DEFINITIONS
from diurna_workflows.docs_input import ParallelDocsInput
from diurna_workflows.healing_input import SelfHealingInput
from diurna_workflows.pr_input import PrDeploymentInput
from support.documents import ROOT, blocks

DOCUMENT = "docs/MULTI_AGENT_WORKFLOWS.md"
TEXT = (ROOT / DOCUMENT).read_text(encoding="utf-8")
HOW_TO = (ROOT / "docs/how-to/run-pr-deployment.md").read_text(encoding="utf-8")
DRAWN = {block.notes: block.text for block in blocks(DOCUMENT, "mermaid")}
AGENTS = {"code-review", "cicd", "infrastructure", "documentation", "feature-dev"}


@pytest.mark.parametrize("workflow_type", DEFINITIONS)
def test_each_graph_is_drawn_as_the_code_has_it(workflow_type: str) -> None:
    graph = cast("Any", DEFINITIONS[workflow_type].build(cast("Any", None))).get_graph()
    assert DRAWN[workflow_type] == graph.draw_mermaid(with_styles=False)


def test_the_architecture_names_every_agent() -> None:
    assert [agent for agent in AGENTS if agent not in DRAWN["architecture"]] == []
    assert set(DRAWN) == {"architecture", *DEFINITIONS}


@pytest.mark.parametrize(
    ("text", "model"), [(TEXT, ParallelDocsInput), (TEXT, SelfHealingInput), (HOW_TO, PrDeploymentInput)]
)
def test_every_field_of_an_input_is_named(text: str, model: type[Payload]) -> None:
    known = {name for name in model.model_fields if re.search(rf"`{name}`|--{name.replace('_', '-')}\b", text)}
    assert known == set(model.model_fields)


def test_every_field_of_the_state_is_named() -> None:
    assert [name for name in get_type_hints(MultiAgentState) if f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize("module", ["pr_deployment", "parallel_docs", "self_healing"])
def test_every_end_of_a_workflow_is_named(module: str) -> None:
    source = (ROOT / f"workflows/diurna_workflows/{module}.py").read_text(encoding="utf-8")
    ends = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^- .*?:", source.split('"""')[1], re.M)))
    assert len(ends) >= 4
    assert [end for end in ends if f"`{end}`" not in TEXT + HOW_TO] == []
