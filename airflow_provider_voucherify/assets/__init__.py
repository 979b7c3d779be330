"""Asset URIs of the scheme ``voucherify``."""
