"""The gateway's settings: flags, then FOVEA_* variables, then the defaults written here.

Unknown flags and unknown FOVEA_* variables are refused with the nearest known name: a misspelt limit that is silently
ignored is worse than a gateway that does not start.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contract.cores import count_cores
from contract.image import MAX_PIXELS
from contract.store import NAME_PATTERN
from service.gateway.context.backend_targets import check_target
from service.gateway.context.origins import clean_origin
from service.gateway.context.prefixes import clean_prefix

PREFIX = "FOVEA_"
# Variables of the same prefix that other parts of the project read; .env and deploy/kubernetes document them.
FOREIGN_VARIABLES = frozenset(
    {
        "FOVEA_BUCKET",
        "FOVEA_DATA",
        "FOVEA_GATEWAY_MEMORY",
        "FOVEA_GID",
        "FOVEA_MODELSERVER_MEMORY",
        "FOVEA_SEED_OPTIONS",
        "FOVEA_UID",
    }
)
MOST_IMAGES = 4096  # in one request, whatever is set

_RATE = re.compile(r"([1-9][0-9]{0,5})/(second|minute|hour|day)")


class SettingsError(Exception):
    """A setting is unknown or has a wrong value; the text is for the person who started the program."""


def _decode_threads() -> int:
    return min(64, count_cores())


class Settings(BaseModel):
    """Everything that can be set; each field's description is its help text.

    A plain pydantic model: pydantic-settings would add 0.13 s to the start, cannot be given an environment, and lets
    unknown variables pass even when told to forbid them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one")
    listen_fd: int | None = Field(None, ge=3, description="inherited listening socket, instead of host and port")
    backend: str = Field(
        "127.0.0.1:8500",
        description="model server: host:port, or unix:/path of its socket; several: dns:///host:port, whose addresses "
        "are looked up again every 2 s, or ipv4:host:port,host:port",
    )
    quorum_wait_s: float = Field(
        120.0,
        ge=0,
        le=86400,
        description="with several model servers, longest wait after the first one has a new version until it answers: "
        "it does when four fifths of them have it, seconds",
    )
    models_dir: Path | None = Field(None, description="model store whose index names the served versions")
    models: tuple[str, ...] = Field(
        (), description="names to serve when there is no access to the store, separated by commas"
    )
    max_body_bytes: int = Field(32 * 2**20, ge=1, le=2**31 - 1, description="largest request body, bytes")
    max_held_bytes: int = Field(
        512 * 2**20, ge=1, description="most bytes of bodies that all requests together hold; more get 503 at once"
    )
    max_images: int = Field(64, ge=1, le=MOST_IMAGES, description="most images in one request")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="largest image, width x height by its header")
    max_batch: int = Field(32, ge=1, le=4096, description="most images in one call of the model server")
    decode_threads: int = Field(default_factory=_decode_threads, ge=1, le=64, description="images decoded at once")
    decode_budget_s: float = Field(
        0.5, gt=0, le=3600, description="longest that decoding the images of one request may take, by estimate, seconds"
    )
    max_json_values: int = Field(
        5_000_000, ge=1, description="most values (numbers, texts, lists, objects) in a JSON body"
    )
    max_concurrency: int = Field(
        32, ge=1, le=4096, description="most requests worked on at once; fewer than the model server lets wait"
    )
    max_queue: int = Field(
        0,
        ge=0,
        le=4096,
        description="most requests that wait beyond those; more get 503 at once. With 0 overload stays quick",
    )
    predict_timeout_s: float = Field(30.0, gt=0, le=3600, description="longest wait for the model server, seconds")
    header_timeout_s: float = Field(10.0, gt=0, le=3600, description="longest wait for a request's headers, seconds")
    body_timeout_s: float = Field(60.0, gt=0, le=3600, description="longest wait for a request's body, seconds")
    keep_alive_timeout_s: float = Field(
        75.0, gt=0, le=86400, description="how long an idle connection is kept, seconds; set it above your proxy's"
    )
    max_connections: int = Field(
        900, ge=1, le=1_000_000, description="most connections open at once; a further one replaces the longest idle"
    )
    drain_timeout_s: float = Field(
        30.0, ge=0, le=3600, description="on SIGTERM, longest wait for requests in flight, seconds"
    )
    shutdown_delay_s: float = Field(
        0.0, ge=0, le=600, description="on SIGTERM, seconds between /readyz falling and the port closing"
    )
    auth: Literal["keys", "off"] | None = Field(
        None, description="`keys` or `off`; by default keys if there are any, else off, on a loopback address only"
    )
    keys_file: Path | None = Field(None, description="file of API keys, see `python -m service key`")
    rate_limit: tuple[str, ...] = Field(
        (), description="requests of one key, or of one address without keys, such as 10/second,2000/hour"
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="addresses or networks of proxies whose X-Forwarded-For, -Proto and -Prefix count"
    )
    root_path: str | None = Field(None, description="path under which a proxy serves the gateway, such as /fovea")
    cors_origins: tuple[str, ...] = Field(
        (),
        description="origins whose pages may call the gateway, such as https://app.example.org, or *; none by default",
    )
    tls_cert: Path | None = Field(None, description="certificate chain (PEM); HTTPS instead of HTTP")
    tls_key: Path | None = Field(None, description="the certificate's key (PEM), if it is not in the same file")
    feedback_dir: Path | None = Field(
        None, description="folder for labelled images that /v1/feedback takes; without it none are taken"
    )
    feedback_days: int = Field(365, ge=1, le=36500, description="how long they are kept, days")
    feedback_max_images: int = Field(100_000, ge=1, description="images in that folder; further ones are refused")
    audit_log: Path | None = Field(
        None, description="file to which every answer adds a line: who, when, which version, image hash, result"
    )
    audit_fsync: Literal["always", "never"] = Field(
        "always", description="whether an answer waits until its line of the audit log is on the disk"
    )
    poll_s: float = Field(0.5, gt=0, le=60, description="seconds that an answer about the served versions is reused")
    canary_header: str = Field(
        "X-Session-ID",
        pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$",
        description="header by whose value a canary chooses requests without API key; without it by the request's id",
    )
    canary_max_errors: float = Field(
        0.05,
        ge=0,
        le=1,
        description="a canary stops when this share of its calls fails beyond the live version's share",
    )
    canary_max_slowdown: float = Field(
        2.0,
        ge=1,
        le=1000,
        description="a canary stops when its latency's 95th percentile is above this multiple of the live version's",
    )
    canary_min_answers: int = Field(
        50,
        ge=10,
        le=10000,
        description="answers of each version before latencies are compared; errors are shares of at least so many",
    )
    shadow_max_in_flight: int = Field(
        4, ge=1, le=256, description="most shadow calls at once; further ones are dropped and counted"
    )
    trials_dir: Path | None = Field(
        None,
        description="folder for what gateways find in trials of candidates; by default `.trials` in the model store",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["text", "json"] = Field("text", description="text for people or json for programs")
    otlp_endpoint: str | None = Field(
        None, pattern="^https?://", description="OpenTelemetry collector for traces, such as http://127.0.0.1:4318"
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="a TCP port for /metrics alone, instead of the main one"
    )

    @field_validator("models", "rate_limit", "trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("models")
    @classmethod
    def _check_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not NAME_PATTERN.fullmatch(name):
                raise ValueError(f"expected names of 1 to 64 of the characters A-Z a-z 0-9 _ -, not {name!r}")
        return tuple(dict.fromkeys(value))

    @field_validator("rate_limit")
    @classmethod
    def _check_rates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for rate in value:
            if not _RATE.fullmatch(rate):
                raise ValueError(f"expected a number of requests and second, minute, hour or day, not {rate!r}")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            ipaddress.ip_network(proxy)  # its ValueError names the fault; "*" is no network
        return value

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if (prefix := clean_prefix(value)) is None:
            raise ValueError("expected a path such as /fovea, of letters, digits and ._~-")
        return prefix

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(clean_origin(origin) for origin in value))

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, value: str) -> str:
        return check_target(value)

    @property
    def needs_key(self) -> bool:
        """True if requests need an API key."""
        return self.keys_file is not None

    @property
    def scheme(self) -> str:
        """The URL's scheme: "https" with a certificate, else "http"."""
        return "https" if self.tls_cert is not None else "http"

    @model_validator(mode="after")
    def _check_access(self) -> Settings:
        if self.auth == "keys" and self.keys_file is None:
            raise ValueError("auth is keys: expected keys_file. Received: none")
        if self.auth == "off" and self.keys_file is not None:
            raise ValueError("expected either keys_file or auth off, and not both")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("expected tls_cert beside tls_key. Received: none")
        if self.listen_fd is None:
            self.check_reach(self.host)
        return self

    def check_reach(self, host: str) -> None:
        """Refuse to let other machines in without keys, unless that was asked for.

        Raises:
            ValueError: if `host` is not loopback, there are no keys, and `auth` is not off.
        """
        if not (self.needs_key or self.auth == "off" or _is_loopback(host)):
            raise ValueError(
                f"other machines reach {host}: expected keys_file (python -m service key add NAME --keys FILE), or "
                "auth off to answer without keys"
            )

    @model_validator(mode="after")
    def _check_source(self) -> Settings:
        if (self.models_dir is None) == (not self.models):
            raise ValueError("expected either models_dir (a model store) or models (names), and not both")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may stand for any address


def load_settings(argv: Sequence[str], environ: Mapping[str, str], **defaults: Any) -> Settings:
    """Build the settings from flags and environment; flags win.

    Args:
        argv: flags, as `--max-body-bytes 1000` or `--max-body-bytes=1000`.
        environ: the process's environment; empty variables count as absent.
        defaults: values that neither flags nor environment give.

    Raises:
        SettingsError: if a flag or FOVEA_* variable is unknown or a value is wrong.
    """
    flags = parse_flags(argv)
    try:
        return Settings(**{**defaults, **_read_variables(environ), **flags})
    except ValidationError as err:
        raise SettingsError(_describe(err, flags)) from err


def parse_flags(argv: Sequence[str]) -> dict[str, Any]:
    """Return the flags' values as texts, by field name.

    Raises:
        SettingsError: if a flag is unknown, has no value, or something else stands among the flags.
    """
    known = {flag_name(name): name for name in Settings.model_fields}
    values: dict[str, Any] = {}
    rest = iter(argv)
    for word in rest:
        flag, separator, value = word.partition("=")
        if not flag.startswith("--"):
            raise SettingsError(f"expected flags only. Received: {word!r}")
        if flag not in known:
            raise SettingsError(f"unknown flag {flag}{_nearest(flag, known)}")
        if not separator:
            following = next(rest, None)
            if following is None:
                raise SettingsError(f"{flag}: expected a value")
            value = following
        values[known[flag]] = value
    return values


def describe_flags(without: Collection[str] = ()) -> str:
    """Return the help text: a line per setting with its flag, variable, meaning and default.

    Args:
        without: fields that the command does not take.
    """
    lines = ["Settings (flag, environment variable, meaning):"]
    for name in [name for name in Settings.model_fields if name not in without]:
        field = Settings.model_fields[name]
        default = "the number of CPUs" if field.default_factory else field.default
        shown = "" if default in (None, ()) else f" (default: {default})"
        lines += [f"  {flag_name(name)}, {variable_name(name)}", f"      {field.description}{shown}"]
    return "\n".join(lines)


def flag_name(field: str) -> str:
    """Return the flag of a field, such as "--max-body-bytes"."""
    return "--" + field.replace("_", "-")


def variable_name(field: str) -> str:
    """Return the environment variable of a field, such as "FOVEA_MAX_BODY_BYTES"."""
    return PREFIX + field.upper()


def _read_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values of FOVEA_* variables by field name; misspelt ones are refused."""
    known = {variable_name(name): name for name in Settings.model_fields}
    values = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in FOREIGN_VARIABLES:
            continue
        if variable not in known:
            raise SettingsError(f"unknown environment variable {variable}{_nearest(variable, known)}")
        if value:
            values[known[variable]] = value
    return values


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _describe(err: ValidationError, flags: Mapping[str, Any]) -> str:
    error = err.errors(include_url=False)[0]
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    return f"{flag_name(name) if name in flags else variable_name(name)}: {message}. Received: {error['input']!r}"
