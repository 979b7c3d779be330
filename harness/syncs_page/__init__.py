"""How long the page "Voucherify syncs" takes to appear, and how that grows."""
