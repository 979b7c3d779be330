"""Everything that can go wrong between a sync and Voucherify, one fault at a time and mixed, and what becomes of it."""
