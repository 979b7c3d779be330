"""Apache Airflow provider for Voucherify: warehouse rows to customers, products and vouchers."""

from __future__ import annotations

__version__ = "0.1.0"
