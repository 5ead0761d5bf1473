"""The errors of the working agents, as branches of the one tree.

Refused
├── NotFound
│   ├── RepositoryNotFound     no git repository is there, or it does not answer
│   ├── RefNotFound            the repository has no such branch, tag or commit
│   └── ReleaseNotFound        there is no such release to go back to
├── UnrelatedHistories         base and head share no commit
├── UnsafeTree                 a tree that must not be written to a disk
├── NothingToDocument          the tree holds nothing a document of this kind could be made from
├── NeedsModel                 what was asked for needs a language model, and there is none
└── Conflict
    ├── BranchTaken            a branch of this name holds something else
    ├── ConfigurationBusy      another change holds the file, or the file is not what was expected
    ├── DeploymentBusy         another deployment holds the directory
    ├── ServiceBusy            another task holds the service
    └── SiteTaken              an index of somebody else's lies where a site is to be
Unavailable
├── ModelFailed                the language model did not answer
└── ToolFailed                 a tool of ours did not do its work
"""

from __future__ import annotations

from diurna_schemas.errors import Conflict, NotFound, Refused, Unavailable, shown


class RepositoryNotFound(NotFound):
    """There is no git repository at `location` that can be read, because of `reason`."""

    code = "repository_not_found"

    def __init__(self, location: str, reason: str) -> None:
        super().__init__("repository", location)
        self.args = (f"repo: no readable git repository at {shown(location)}: {reason}",)
        self.reason = str(self.args[0])
        self.location = location


class RefNotFound(NotFound):
    """The repository at `location` has no commit called `ref`."""

    code = "ref_not_found"

    def __init__(self, field: str, ref: str, location: str, detail: str = "") -> None:
        super().__init__("ref", ref)
        text = f"{field}: no commit {shown(ref)} in {shown(location)}"
        self.args = (f"{text}: {detail}" if detail else text,)
        self.reason = str(self.args[0])
        self.field = field
        self.ref = ref


class ReleaseNotFound(NotFound):
    """There is no release `release` below `deploy_to` that can be switched to."""

    code = "release_not_found"

    def __init__(self, release: str, deploy_to: str, detail: str) -> None:
        super().__init__("release", release)
        self.args = (f"release: no release {shown(release)} in {shown(deploy_to)}: {detail}",)
        self.reason = str(self.args[0])
        self.release = release


class UnrelatedHistories(Refused):
    """`base` and `head` share no commit, so what changed between them cannot be said."""

    code = "unrelated_histories"

    def __init__(self, base: str, head: str, detail: str = "") -> None:
        text = f"base: {shown(base)} and head {shown(head)} share no commit in this repository"
        super().__init__(f"{text}: {detail}" if detail else text)
        self.base = base
        self.head = head


class UnsafeTree(Refused):
    """The tree holds a path or an amount that must not be written to a disk."""

    code = "unsafe_tree"


class NothingToDocument(Refused):
    """The tree holds nothing that a document of this `kind` could be made from."""

    code = "nothing_to_document"

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"kind: no {kind} can be written: {detail}")
        self.kind = kind


class NeedsModel(Refused):
    """What was asked for needs a language model, and there is none that can be used."""

    code = "needs_model"

    @classmethod
    def to(cls, what: str, otherwise: str = "") -> NeedsModel:
        """There is none at all; `otherwise` says how it can be had without one."""
        how = "install diurna[llm] and a provider's package, and set DIURNA_MODEL"
        return cls(f"{what} needs a language model and none is configured: {how}{otherwise and '; ' + otherwise}")


class BranchTaken(Conflict):
    """The branch `branch` exists and holds something else; branches are never moved."""

    code = "branch_taken"

    def __init__(self, branch: str, location: str, commit: str) -> None:
        super().__init__(
            f"branch: {shown(branch)} in {shown(location)} points at {commit[:12]}, which is another change"
        )
        self.branch = branch
        self.commit = commit


class SiteTaken(Conflict):
    """The directory `site` has an index that was not made by `merge_docs`; it is never overwritten."""

    code = "site_taken"

    def __init__(self, site: str) -> None:
        super().__init__(f"site: {shown(site)} has an index.md that was not made here")
        self.site = site


class DeploymentBusy(Conflict):
    """Another deployment holds `deploy_to` for longer than this one may wait."""

    code = "deployment_busy"

    def __init__(self, deploy_to: str, holder: str, waited_seconds: float) -> None:
        super().__init__(f"deploy_to: {shown(deploy_to)} is held by {holder}; waited {waited_seconds:g} s for it")
        self.deploy_to = deploy_to
        self.holder = holder


class ServiceBusy(Conflict):
    """Another task holds `service` for longer than this one may wait."""

    code = "service_busy"

    def __init__(self, service: str, waited_seconds: float) -> None:
        super().__init__(f"service: {shown(service)} is held by another task; waited {waited_seconds:g} s for it")
        self.service = service


class ConfigurationBusy(Conflict):
    """The file `file` is held by another change, or is not the one this change was made for."""

    code = "configuration_busy"


class ModelFailed(Unavailable):
    """The language model gave no answer that can be used."""

    def __init__(self, model: str, detail: str) -> None:
        super().__init__(f"the language model {model} did not answer: {detail}")
        self.model = model
        self.detail = detail


class ToolFailed(Unavailable):
    """A tool that ships with Diurna did not do its work, so the answer is unknown."""

    def __init__(self, tool: str, detail: str) -> None:
        super().__init__(f"{tool} did not finish its work: {detail}")
        self.tool = tool
        self.detail = detail
