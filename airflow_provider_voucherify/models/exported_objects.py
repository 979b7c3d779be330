"""
What can be exported: a table of the objects, with the fields and orders that the API has for each.

Source: documentation/openapi/exports.json of the vendor; for products and SKUs the text of that page and the words of
the vendor's Python SDK 6.1.1. An object ``api_log`` exists too, of which nothing else is described.
"""

from __future__ import annotations

from typing import NamedTuple

METADATA_PREFIX = "metadata."
"""What a field for a single property of the metadata begins with."""


def letters_of(name: str) -> str:
    """Return a column's name by its letters and digits alone: ``sourceid`` for ``Source ID`` and ``source_id``."""
    return "".join(filter(str.isalnum, name.casefold()))


class ExportedObject(NamedTuple):
    """
    One kind of object.

    :param name: value of ``exported_object``.
    :param fields: the fields of an export; ``metadata`` stands for all properties.
    :param default_fields: those that are exported if none are asked for.
    :param orders: the fields by which an export can be ordered.
    """

    name: str
    fields: tuple[str, ...]
    default_fields: tuple[str, ...]
    orders: tuple[str, ...]

    def knows(self, field: str) -> bool:
        """Say whether an export has a field, or could have it: any single property of the metadata."""
        single = field.startswith(METADATA_PREFIX) and len(field) > len(METADATA_PREFIX) and "metadata" in self.fields
        return single or field in self.fields


_OBJECTS = {
    "voucher": (
        "code voucher_type value formula discount_type campaign category start_date expiration_date gift_balance "
        "loyalty_balance redemption_quantity redemption_count active qr_code bar_code metadata id is_referral_code "
        "created_at updated_at validity_timeframe_interval validity_timeframe_duration validity_day_of_week "
        "discount_amount_limit campaign_id additional_info customer_id discount_effect discount_unit_type "
        "discount_unit_effect validation_rules_id customer_source_id",
        "code voucher_type value discount_type",
        "created_at updated_at code",
    ),
    "redemption": (
        "id object date voucher_code campaign promotion_tier_id customer_id customer_source_id customer_name "
        "tracking_id order_id order_amount gift_amount loyalty_points result failure_code failure_message metadata",
        "id object voucher_code customer_id date result",
        "id voucher_code tracking_id customer_id created_at",
    ),
    "customer": (
        "name id description email source_id created_at address_city address_state address_line_1 address_line_2 "
        "address_country address_postal_code redemptions_total_redeemed redemptions_total_failed "
        "redemptions_total_succeeded redemptions_total_rolled_back redemptions_total_rollback_failed "
        "redemptions_total_rollback_succeeded orders_total_amount orders_total_count orders_average_amount "
        "orders_last_order_amount orders_last_order_date loyalty_points loyalty_referred_customers updated_at phone "
        "birthday metadata birthdate",
        "name source_id",
        "name id email source_id created_at updated_at",
    ),
    "publication": (
        "voucher_code customer_id customer_source_id date channel campaign is_winner metadata",
        "voucher_code customer_id date channel",
        "id voucher_code tracking_id customer_id created_at channel",
    ),
    "order": (
        "id source_id created_at updated_at status amount discount_amount items_discount_amount "
        "total_discount_amount total_amount customer_id referrer_id metadata",
        "id source_id status",
        "created_at updated_at status",
    ),
    "points_expiration": (
        "id campaign_id voucher_id points status expires_at",
        "id campaign_id voucher_id status expires_at points",
        "expires_at",
    ),
    "voucher_transactions": (
        "id campaign_id voucher_id type source_id reason source balance amount related_transaction_id created_at "
        "details",
        "id type source_id reason source balance amount created_at",
        "created_at",
    ),
    "product": (
        "id name price image_url source_id attributes created_at updated_at metadata",
        "id name price image_url source_id attributes created_at",
        "id name source_id created_at updated_at",
    ),
    "sku": (
        "id sku product_id currency price image_url source_id attributes created_at updated_at metadata",
        "id sku product_id currency price image_url source_id attributes created_at",
        "id sku product_id source_id created_at updated_at",
    ),
}

EXPORTED_OBJECTS: dict[str, ExportedObject] = {
    name: ExportedObject(name, *(tuple(words.split()) for words in lists)) for name, lists in _OBJECTS.items()
}
"""By name. Defaults that the vendor's text has and its list of fields lacks (``status``, a ``code``) are left out."""
