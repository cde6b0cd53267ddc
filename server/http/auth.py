"""API keys, and who may enter without one."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers

from slotmux.server.settings import Access, Settings, flag_name


@dataclass(frozen=True, slots=True)
class BySetting:
    """Operators decide who may enter, by the setting of this name."""

    name: str

    def __post_init__(self) -> None:
        assert self.name in Settings.model_fields, self.name

    @property
    def flag(self) -> str:
        """As the command line calls it."""
        return flag_name(self.name)

    def access(self, settings: Settings) -> Access:
        """What they decided."""
        access: Access = getattr(settings, self.name)
        return access


# Who may enter an endpoint: everyone, who has a key, or whom the operator lets in.
Rule = Literal["key", "public"] | BySetting


def access_by(rule: Rule, settings: Settings) -> Access:
    """What ``rule`` comes to here."""
    return rule.access(settings) if isinstance(rule, BySetting) else rule


class ApiKeys:
    """The keys that are accepted; none configured means that everyone may come in."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = [key.encode() for key in keys]

    @property
    def n_keys(self) -> int:
        """How many are accepted."""
        return len(self._keys)

    @property
    def is_required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._keys)

    def identify(self, headers: Headers) -> str | None:
        """A fingerprint of the key sent ('' if none is needed), or None if it is not accepted.

        All keys are compared, each in constant time.
        """
        if not self._keys:
            return ""
        sent = _sent_key(headers)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key, sent):
                found = key
        return None if found is None else hashlib.sha256(found).hexdigest()[:12]


def _sent_key(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip().encode("latin-1", "replace")
    return headers.get("x-api-key", "").strip().encode("latin-1", "replace")
