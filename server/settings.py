"""What the operator chose, by flags and SLOTMUX_*. Nothing else reads the environment."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from slotmux.server.process.kv_events_config import parse_kv_events_config
from slotmux.server.settings_models import ModelsSettings
from slotmux.server.settings_sampling import SamplingSettings

Access = Literal["key", "public", "off"]
CacheType = Literal["f16", "f32", "q8_0", "i16"]
SpecType = Literal["auto", "none", "draft-mtp", "ngram"]
_Texts = Annotated[tuple[str, ...], NoDecode]
_Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_JSON_DEPTH = 64
MAX_JSON_CONTAINERS = 100_000  # arrays and objects in one body


ENV_PREFIX = "SLOTMUX_"


def env_name(flag: str) -> str:
    """The environment variable of a flag: --cache-type-k is SLOTMUX_CACHE_TYPE_K."""
    return ENV_PREFIX + flag.lstrip("-").upper().replace("-", "_")


def flag_name(field: str) -> str:
    """The flag of a setting: cache_type_k is --cache-type-k."""
    return "--" + field.replace("_", "-")


class SettingsError(ValueError):
    """A flag or variable that cannot be used; the message names it. The process exits with 2."""


class Settings(SamplingSettings, ModelsSettings, BaseSettings):
    """One frozen set of choices. Flags win over SLOTMUX_* variables, those over the defaults."""

    model_config = SettingsConfigDict(
        env_prefix="SLOTMUX_", frozen=True, extra="forbid", populate_by_name=True
    )

    # what to serve
    model: str | None = None
    alias: _Texts = ()  # names clients may use; empty = the model's own
    parallel: int = Field(4, ge=1, le=256)  # slots
    ctx_size: int = Field(
        0, ge=0
    )  # most tokens of one sequence; 0 = what the model was trained for
    kv_size: int = Field(0, ge=0)  # KV cells shared by all slots; 0 = parallel * ctx_size
    batch_size: int = Field(2048, ge=1, le=65_536)
    ubatch_size: int = Field(512, ge=1, le=65_536)
    threads: int = Field(0, ge=0, le=1024)  # 0 = the cores this process may use
    pin_threads: bool = False  # each kernel thread but the leading one stays on a CPU of its own
    numa: str = Field("", pattern=r"^(distribute|isolate(:\d{1,4})?|numactl)?$")
    isa: Literal[
        "auto", "avx512bf16", "avx512vbmi", "avx512vnni", "avxvnni", "avx2", "portable"
    ] = "auto"
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    panel_cache: bool = False  # keep repacked weights on disk, for the next start
    # what a text's vector is; file: as the model file says
    pooling: Literal["file", "none", "mean", "cls", "last", "rank"] = "file"
    embeddings: bool = False  # vectors only: nothing is generated
    reranking: bool = False  # scores of documents: as --pooling rank
    n_predict: int = Field(-1, ge=-1)  # max_tokens of a request that names none; -1 = context
    chat_template_file: Path | None = None
    mem_limit: int = Field(0, ge=0)  # bytes; 0 = what is available
    # bytes of kept prefixes beside what slots need; -1 = half of what is free, at most 1 GiB
    prefix_cache_bytes: int = Field(-1, ge=-1)
    ctx_checkpoints: int = Field(-1, ge=-1, le=65_536)  # kept recurrent states a slot; -1 = as fit
    # where blocks and states go that memory has no room for; None: nowhere
    prefix_cache_dir: Path | None = None
    prefix_cache_disk_bytes: int = Field(10 * 2**30, ge=0)  # of all that is kept there
    prompt_tokens_beside: int = Field(128, ge=0, le=65_536)  # a step's; 0 = whatever fits
    max_step_ms: float = Field(50.0, ge=0, le=60_000, allow_inf_nan=False)  # 0 = no bound
    poison_freed: bool = False  # debugging: fill freed memory with NaN

    # speculative decoding
    spec_type: Annotated[tuple[SpecType, ...], NoDecode] = ("auto",)
    spec_draft_n_max: int = Field(3, ge=0, le=16)  # drafts of a sequence that a step verifies
    spec_draft_n_min: int = Field(0, ge=0, le=16)
    spec_draft_p_min: float = Field(0.0, ge=0, le=1)

    # where to listen, and who may come in
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    api_key: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    api_key_file: Path | None = None  # one key a line; '#' starts a comment
    insecure_no_key: bool = False  # allow a non-loopback address without a key
    cors_origins: _Texts = ()  # '*' = any
    allowed_hosts: _Texts = ()  # further Host names; on loopback only local ones are allowed
    metrics: Access = "key"
    slots: Access = "key"
    props: Access = "key"
    webui: bool = True  # the page for browsers at /
    slot_save_path: Path | None = None  # where slots are saved; None: they are not

    # bounds
    max_queue: int = Field(64, ge=0, le=100_000)
    max_connections: int = Field(1024, ge=1, le=100_000)
    header_timeout: _Seconds = 10.0
    body_timeout: _Seconds = 30.0
    queue_timeout: _Seconds = 60.0
    first_token_timeout: _Seconds = 120.0
    request_timeout: _Seconds = 3600.0
    write_timeout: _Seconds = 30.0
    sse_ping_interval: _Seconds = 30.0
    hang_timeout: _Seconds = 30.0
    drain_timeout: float = Field(30.0, ge=0, le=86_400, allow_inf_nan=False)
    # where OpenTelemetry goes, by OTLP over HTTP; empty = nowhere
    otel_endpoint: str = Field("", pattern=r"^(https?://\S+)?$")
    # events of the prefix cache over ZeroMQ, as JSON in vLLM's words; empty = none
    kv_events_config: str = ""
    log_format: Literal["auto", "text", "json"] = "auto"  # auto: text on a terminal
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # the hub and local caches
    cache_dir: Path | None = None  # downloads and compiled kernels; None = the user's cache folder
    xdg_cache_home: Path | None = Field(None, validation_alias="XDG_CACHE_HOME")
    hf_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("SLOTMUX_HF_TOKEN", "HF_TOKEN")
    )
    hf_endpoint: str = Field(
        "https://huggingface.co",
        validation_alias=AliasChoices("SLOTMUX_HF_ENDPOINT", "HF_ENDPOINT"),
    )

    @field_validator(
        "alias", "cors_origins", "allowed_hosts", "api_key", "spec_type", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        """'a,b' as an environment variable or a flag means two values."""
        if isinstance(value, str):
            value = (value,)
        if not isinstance(value, list | tuple):
            return value
        texts = (v.get_secret_value() if isinstance(v, SecretStr) else v for v in value)
        return tuple(part.strip() for v in texts for part in str(v).split(",") if part.strip())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.is_loopback or self.insecure_no_key or self.api_key or self.api_key_file):
            raise ValueError(
                "host: listening on a non-loopback address needs --api-key or --api-key-file"
                " (or --insecure-no-key, if something else guards the port)"
            )
        if self.reranking and self.pooling not in ("file", "rank"):
            raise ValueError("pooling: --reranking needs rank")
        if len(self.spec_type) > 1 and {"auto", "none"} & set(self.spec_type):
            raise ValueError("spec_type: 'auto' and 'none' stand alone")
        if self.slot_save_path is not None and not self.slot_save_path.is_dir():
            raise ValueError("slot_save_path: there is no such folder")
        if self.spec_draft_n_min > self.spec_draft_n_max:
            raise ValueError("spec_draft_n_min: more than --spec-draft-n-max")
        return self

    @field_validator("kv_events_config")
    @classmethod
    def _check_kv_events(cls, value: str) -> str:
        if value:
            parse_kv_events_config(value)
        return value

    @property
    def caches(self) -> Path:
        """Where downloads, kernels and panels are kept: --cache-dir, else the user's cache folder
        (XDG Base Directory Specification: a relative path there is ignored)."""
        if self.cache_dir is not None:
            return self.cache_dir
        base = self.xdg_cache_home
        if base is None or not base.is_absolute():
            base = Path.home() / ".cache"
        return base / "slotmux"

    @property
    def pooling_type(self) -> int:
        """``pooling`` as model files number it; -1: as the file says."""
        kind = "rank" if self.reranking else self.pooling
        return ("file", "none", "mean", "cls", "last", "rank").index(kind) - 1

    @property
    def n_ubatch(self) -> int:
        """Most tokens of one forward: the smaller of the two sizes, as in llama-server."""
        return min(self.batch_size, self.ubatch_size)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Every key, from flags and from the file. Raises SettingsError if the file has none."""
        keys = [key.get_secret_value() for key in self.api_key]
        if self.api_key_file is not None:
            from_file = _read_keys(self.api_key_file)
            if not from_file:
                raise SettingsError(f"{told_as('api_key_file')}: the file holds no key")
            keys += from_file
        return tuple(dict.fromkeys(keys))


def told_as(field: str, given: Iterable[str] = ()) -> str:
    """A setting as whoever chose it calls it: the variable where it came from there, else the flag;
    ``given``: the fields that came as flags."""
    variable = env_name(field)
    is_variable = field not in given and variable in os.environ
    return variable if is_variable else flag_name(field)


def unknown_variables(known: Iterable[str] = ()) -> list[str]:
    """A line for each SLOTMUX_ variable of the environment that nothing reads; ``known``: names
    that others than Settings read."""
    names = {env_name(field) for field in Settings.model_fields} | set(known)
    lines = []
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX) and name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{name} is set, but there is no such setting{hint}")
    return lines


def variables_beginning(*beginnings: str) -> list[str]:
    """Names in the environment that begin so, in order."""
    return sorted(name for name in os.environ if name.startswith(beginnings))


def load_settings(**flags: Any) -> Settings:
    """Settings from flags (None = not given) and the environment. Raises SettingsError."""
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        parts = (part for part in first["loc"] if isinstance(part, str))  # no places in a list
        name = ".".join(parts).lower().removeprefix("slotmux_")
        message = first["msg"].removeprefix("Value error, ")
        if not name:
            name, _, message = message.partition(": ")
        raise SettingsError(f"{told_as(name, given)}: {message}") from None
    _ = settings.api_keys  # an unreadable key file must stop the start, not the first request
    return settings


def _read_keys(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        name = told_as("api_key_file")
        raise SettingsError(f"{name}: cannot be read ({type(error).__name__})") from None
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]
