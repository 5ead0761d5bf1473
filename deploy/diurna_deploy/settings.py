"""What the stack is told from outside: every `DIURNA_…` variable the server side knows, checked and typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import platformdirs
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from diurna_schemas.errors import InvalidInput

API_PORT: Final = 8009
_PASSWORD: Final = re.compile(r"(://[^:/@]*:)[^@]*@")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _http(url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise ValueError("an address begins with http:// or https://")
    return None if url is None else url.rstrip("/")


def _postgres(url: str | None) -> str | None:
    if url is not None and not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("an address begins with postgresql://")
    return url


def _servers(servers: str | None) -> str | None:
    for server in () if servers is None else servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("servers are written host:port, separated by commas")
    return servers


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
HttpUrl = Annotated[str | None, AfterValidator(_http)]


class Settings(BaseSettings):
    """An address that is set is used as it is; where it is not, the embedded part is started."""

    model_config = SettingsConfigDict(env_prefix="DIURNA_", env_ignore_empty=True, frozen=True)

    kafka_bootstrap_servers: Annotated[str | None, AfterValidator(_servers)] = None
    database_url: Annotated[str | None, AfterValidator(_postgres)] = None
    schema_registry_url: HttpUrl = None
    api_url: HttpUrl = None
    api_port: int = Field(default=API_PORT, ge=0, le=65535)
    """0 = any free one. The default gives way to a free one when it is taken; one that was asked for does not."""
    kafka_port: int = Field(default=0, ge=0, le=65535)
    postgres_port: int = Field(default=0, ge=0, le=65535)
    state_dir: AbsolutePath = Field(default_factory=lambda: Path(platformdirs.user_state_dir("diurna")))
    cache_dir: AbsolutePath = Field(default_factory=lambda: Path(platformdirs.user_cache_dir("diurna")))
    model: str | None = Field(default=None, max_length=200)
    """The language model of the agents, as LangChain names it: `provider:model`. Optional."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @classmethod
    def load(cls, **given: object) -> Self:
        """The environment's settings; what is `given` and not None wins. Raises `InvalidInput` naming the variable."""
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            variable = f"DIURNA_{first['loc'][0]}".upper() if first["loc"] else "DIURNA_…"
            value = first["input"]
            shown = _PASSWORD.sub(r"\1***@", value) if isinstance(value, str) else value
            # `from None`: pydantic's own text would show the password all the same
            raise InvalidInput(variable, shown, first["msg"].removeprefix("Value error, ")) from None

    @property
    def api_port_was_asked_for(self) -> bool:
        return "api_port" in self.model_fields_set


def told_database_url() -> str:
    """The database this process was told. Raises `InvalidInput` where it was told none."""
    found = Settings.load().database_url
    if found is None:
        raise InvalidInput("DIURNA_DATABASE_URL", None, "this process needs to be told its database")
    return found
