"""Every way a schema registry says no, with the code and words that Confluent's clients know.

The codes are those of Confluent's published API reference for the Schema Registry.
"""

from __future__ import annotations

from diurna_schemas.errors import Refused, shown


class RegistryRefusal(Refused):
    """An answer that says no: `http_status` on the wire, `error_code` in the body."""

    def __init__(self, http_status: int, error_code: int, message: str) -> None:
        super().__init__(message, code=f"schema_registry_{error_code}")
        self.http_status = http_status
        self.error_code = error_code


def no_subject(subject: str) -> RegistryRefusal:
    return RegistryRefusal(404, 40401, f"Subject {shown(subject)} not found.")


def no_version(version: int) -> RegistryRefusal:
    return RegistryRefusal(404, 40402, f"Version {version} not found.")


def no_schema(what: str) -> RegistryRefusal:
    return RegistryRefusal(404, 40403, f"Schema {what} not found")


def subject_soft_deleted(subject: str) -> RegistryRefusal:
    return RegistryRefusal(
        404, 40404, f"Subject {shown(subject)} was soft deleted. Set permanent=true to delete permanently"
    )


def subject_not_soft_deleted(subject: str) -> RegistryRefusal:
    return RegistryRefusal(
        404, 40405, f"Subject {shown(subject)} was not deleted first before being permanently deleted"
    )


def version_soft_deleted(subject: str, version: int) -> RegistryRefusal:
    return RegistryRefusal(
        404,
        40406,
        f"Subject {shown(subject)} Version {version} was soft deleted. Set permanent=true to delete permanently",
    )


def version_not_soft_deleted(subject: str, version: int) -> RegistryRefusal:
    return RegistryRefusal(
        404,
        40407,
        f"Subject {shown(subject)} Version {version} was not deleted first before being permanently deleted",
    )


def no_compatibility(subject: str) -> RegistryRefusal:
    return RegistryRefusal(404, 40408, f"Subject {shown(subject)} does not have subject-level compatibility configured")


def no_mode(subject: str) -> RegistryRefusal:
    return RegistryRefusal(404, 40409, f"Subject {shown(subject)} does not have subject-level mode configured")


def incompatible(faults: list[str]) -> RegistryRefusal:
    return RegistryRefusal(
        409, 409, f"Schema being registered is incompatible with an earlier schema: {'; '.join(faults)}"
    )


def invalid_schema(reason: str) -> RegistryRefusal:
    return RegistryRefusal(422, 42201, f"Invalid schema: {reason}")


def invalid_version(version: str) -> RegistryRefusal:
    return RegistryRefusal(
        422,
        42202,
        f"The specified version {shown(version)} is not a valid version id. "
        'Allowed values are between [1, 2^31-1] and the string "latest"',
    )


def invalid_compatibility(level: str, allowed: str) -> RegistryRefusal:
    return RegistryRefusal(422, 42203, f"Invalid compatibility level {shown(level)}. Valid values are {allowed}")


def invalid_mode(mode: str, allowed: str) -> RegistryRefusal:
    return RegistryRefusal(422, 42204, f"Invalid mode {shown(mode)}. Valid values are {allowed}")


def not_permitted(reason: str) -> RegistryRefusal:
    return RegistryRefusal(422, 42205, f"Operation not permitted: {reason}")


def invalid_subject(subject: str, reason: str) -> RegistryRefusal:
    return RegistryRefusal(422, 42208, f"The specified subject {shown(subject)} is not a valid subject: {reason}")


def invalid_body(reason: str) -> RegistryRefusal:
    return RegistryRefusal(422, 422, f"Invalid request: {reason}")


def body_too_large(size_max: int) -> RegistryRefusal:
    return RegistryRefusal(413, 413, f"body: at most {size_max} bytes are allowed")
