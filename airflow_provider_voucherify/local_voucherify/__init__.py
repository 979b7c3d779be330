"""
A small, faithful stand-in for the Voucherify API, for demos, tests and benchmarks.

It serves the bulk endpoints of customers, products and vouchers, CSV imports of customers, products and SKUs, async
actions, reports, exports, OAuth tokens, metadata schemas, single customers, products and vouchers, lists of them, and a
customer's activities, segments and redeemables, from memory. It checks as strictly as the contract says, which is the
vendor's description as facts (``contract.json``), and it can be told to misbehave. Callers speak HTTP to it.

It leaves out everything else, among it SKUs other than by import, campaigns, roles and audit logs.
"""

from __future__ import annotations

from airflow_provider_voucherify.local_voucherify.actions import Action
from airflow_provider_voucherify.local_voucherify.misbehaviour import (
    Delay,
    DropAfter,
    DropBefore,
    Exchange,
    Fault,
    Malformed,
    RateLimited,
    SlowDrip,
    Status,
    Truncate,
)
from airflow_provider_voucherify.local_voucherify.options import Options
from airflow_provider_voucherify.local_voucherify.requests_log import Received
from airflow_provider_voucherify.local_voucherify.server import LocalVoucherify

__all__ = [
    "Action",
    "Delay",
    "DropAfter",
    "DropBefore",
    "Exchange",
    "Fault",
    "LocalVoucherify",
    "Malformed",
    "Options",
    "RateLimited",
    "Received",
    "SlowDrip",
    "Status",
    "Truncate",
]
