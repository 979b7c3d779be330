"""Value types: what Voucherify's bulk API takes and gives. The lowest floor; imports nothing of this package."""
