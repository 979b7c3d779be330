"""What Voucherify has beside what a sync sends: read from an export, and compared record by record."""
