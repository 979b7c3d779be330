"""The settings under which records are made."""

from __future__ import annotations

import hashlib
import json

from airflow_provider_voucherify.sync.batches.destination import Destination
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.state.ledger import PROJECT_CHARACTERS


def settings_digest(project: str, destination: Destination, rules: MappingRules) -> str:
    """
    Return a digest of everything except the rows that determines what Voucherify has after a sync.

    Its first characters are those of a digest of the project alone.

    :param project: where records go to; another project has none of the records that this one has.
    """
    null_policy = rules.null_policy if isinstance(rules.null_policy, str) else sorted(rules.null_policy.items())
    parts = [
        project,
        destination.endpoint.path,
        destination.form.suffix.decode(),
        None if rules.mapping is None else sorted(rules.mapping.items()),
        None if rules.metadata_columns is None else sorted(rules.metadata_columns),
        sorted(rules.exclude_columns),
        null_policy,
    ]
    digests = [hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in (project, parts)]
    return (digests[0][:PROJECT_CHARACTERS] + digests[1])[:32]
