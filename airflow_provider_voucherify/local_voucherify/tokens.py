"""OAuth 2.0 access tokens, as ``POST /v1/oauth/token`` gives them."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import Any

from airflow_provider_voucherify.local_voucherify.contract import EVERY_SCOPE

# fmt: off
SCOPES = frozenset((
    "api", "assets", "async-actions", "campaigns", "categories", "client_api", "client_consents", "client_customers",
    "client_events", "client_promotions", "client_publish", "client_qualifications", "client_redeem",
    "client_redemptions", "client_validate", "client_validations", "client_vouchers", "consents", "customers",
    "events", "exports", "locations", "loyalties", "metadata-schemas", "orders", "product-collections", "products",
    "promotions", "publications", "qualifications", "redemptions", "referrals", "rewards", "segments", "skus",
    "task-results", "templates", "trash-bin", "validation-rules-assignments", "validation-rules", "validations",
    "vouchers",
))
"""Every scope of the vendor's description (documentation/openapi/oauth.json, July 2026)."""
# fmt: on


@dataclass(frozen=True, slots=True)
class Token:
    """
    An access token.

    :param scope: the scopes as they were asked for, separated by spaces.
    :param expires_at: end of life, in seconds since the epoch.
    """

    value: str
    scope: str
    expires_at: float

    def permits(self, scope: str) -> bool:
        """Whether the token has a scope, by name or through ``api``."""
        return not {EVERY_SCOPE, scope}.isdisjoint(self.scope.split())

    def wire(self, client_id: str, now: float) -> dict[str, Any]:
        """Return the token as the API shows it."""
        return {
            "access_token": self.value,
            "client_id": client_id,
            "expires_at": int(self.expires_at),
            "expires_in": int(self.expires_at - now),
            "scope": self.scope,
            "token_type": "Bearer",
        }


class TokenStore:
    """
    The tokens that were given out.

    :param lifetime: seconds that a token lives.
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._tokens: dict[str, Token] = {}

    def issue(self, scope: str, now: float) -> Token:
        """Return a new token with the scopes."""
        alphabet = string.ascii_letters + string.digits
        value = "".join(secrets.choice(alphabet) for _ in range(50))
        self._tokens[value] = token = Token(value, scope, now + self._lifetime)
        return token

    def live(self, value: str, now: float) -> Token | None:
        """Return the token of that value, None when it is unknown, revoked or expired."""
        token = self._tokens.get(value)
        return token if token is not None and now < token.expires_at else None

    def revoke(self, value: str, now: float) -> bool:
        """End a token; False when there is no live one of that value."""
        return self.live(value, now) is not None and self._tokens.pop(value, None) is not None

    def values(self) -> list[str]:
        """Return the tokens themselves, oldest first."""
        return list(self._tokens)

    def clear(self) -> None:
        """Forget all tokens, as when the key that generated them is deleted."""
        self._tokens.clear()
