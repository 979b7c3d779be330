"""
Single customers, products and vouchers, lists of them and related objects, as Voucherify returns them.

Nothing is made up: a field that an answer does not have is not set, and ``to_dict`` leaves it out, so a record that was
read can be changed and written back without blanking anything. (The vendor's own SDK fills absent fields with null.)
Fields that the API description does not name are ignored. A value of another type than documented counts as absent: the
answer is still accepted, and the value is never written back as something else. Only a record's id is required.

Source: documentation/openapi/customers.json, products.json, vouchers.json and oauth.json of the vendor.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)

ANSWER = {"answer": True}
"""Validation context for answers of Voucherify."""


class Record(BaseModel):
    """Base of all models here. Validated in the context ``ANSWER`` they are tolerant, built by hand they are not."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that the answer had, and no others."""
        return self.model_dump(exclude_unset=True)

    @model_validator(mode="wrap")
    @classmethod
    def _without_undocumented_types(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            odd = {str(wrong["loc"][0]) for wrong in error.errors() if wrong["loc"]}
            needed = {name for name, field in cls.model_fields.items() if field.is_required()}
            if info.context != ANSWER or not isinstance(value, dict) or not odd or odd & needed:
                raise
            return handler({name: member for name, member in value.items() if name not in odd})


class Address(Record):
    """A customer's address."""

    city: str | None = None
    state: str | None = None
    line_1: str | None = None
    line_2: str | None = None
    country: str | None = None
    postal_code: str | None = None


class Customer(Record):
    """
    A customer.

    Voucherify has two fields for one date: ``birthdate``, and ``birthday``, which it has deprecated since 2024. Both
    are kept as they were answered, and neither is copied into the other, since the vendor's example of an update has
    different dates in them. ``date_of_birth`` returns whichever is set.

    :param id: Voucherify's own id, ``cust_…``.
    :param source_id: the id in the caller's system; customers without one exist.
    :param birthdate: ``YYYY-MM-DD``.
    :param birthday: deprecated by the vendor in favour of ``birthdate``.
    :param address: may be null.
    :param created_at: ISO-8601 time.
    :param updated_at: ISO-8601 time; absent before the first update.
    """

    id: str = Field(min_length=1)
    source_id: str | None = None
    name: str | None = None
    description: str | None = None
    email: str | None = None
    phone: str | None = None
    birthdate: str | None = None
    birthday: str | None = None
    address: Address | None = None
    metadata: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    loyalty: dict[str, Any] | None = None
    referrals: dict[str, Any] | None = None
    system_metadata: dict[str, Any] | None = None
    assets: dict[str, Any] | None = None
    created_at: str | None = None
    updated_at: str | None = None

    @property
    def date_of_birth(self) -> str | None:
        """``birthdate``, or the deprecated ``birthday`` if that is missing."""
        return self.birthdate or self.birthday


class Product(Record):
    """
    A product.

    :param id: Voucherify's own id, ``prod_…``.
    :param price: in minor units: 10000 is $100.00.
    :param attributes: names of the attributes whose values the product's SKUs may set.
    """

    id: str = Field(min_length=1)
    source_id: str | None = None
    name: str | None = None
    price: int | None = None
    attributes: list[str] | None = None
    metadata: dict[str, Any] | None = None
    image_url: str | None = None
    skus: dict[str, Any] | None = None
    created_at: str | None = None
    updated_at: str | None = None


class Voucher(Record):
    """
    A voucher.

    :param code: what identifies it.
    :param id: Voucherify's own id, ``v_…``.
    :param type: ``DISCOUNT_VOUCHER``, ``GIFT_VOUCHER`` or ``LOYALTY_CARD``.
    :param holder_id: Voucherify's id of the customer who holds it.
    :param validation_rules: ids of the rules of a voucher that is to be created. Of one that was read
        ``validation_rules_assignments`` has them.
    """

    code: str = Field(min_length=1)
    id: str | None = None
    campaign: str | None = None
    campaign_id: str | None = None
    category: str | None = None
    category_id: str | None = None
    categories: list[dict[str, Any]] | None = None
    type: str | None = None
    discount: dict[str, Any] | None = None
    gift: dict[str, Any] | None = None
    loyalty_card: dict[str, Any] | None = None
    start_date: str | None = None
    expiration_date: str | None = None
    validity_timeframe: dict[str, Any] | None = None
    validity_day_of_week: list[int] | None = None
    validity_hours: dict[str, Any] | None = None
    active: bool | None = None
    additional_info: str | None = None
    metadata: dict[str, Any] | None = None
    assets: dict[str, Any] | None = None
    is_referral_code: bool | None = None
    holder_id: str | None = None
    referrer_id: str | None = None
    redemption: dict[str, Any] | None = None
    publish: dict[str, Any] | None = None
    validation_rules: list[str] | None = None
    validation_rules_assignments: dict[str, Any] | None = None
    created_at: str | None = None
    updated_at: str | None = None


class CustomerList(Record):
    """
    One page of ``GET /v1/customers``.

    :param total: customers that the filters let through, on all pages.
    :param has_more: whether there are further pages; the vendor's own example does not say.
    """

    customers: list[Customer]
    total: int | None = None
    has_more: bool | None = None


class ProductList(Record):
    """One page of ``GET /v1/products``."""

    products: list[Product]
    total: int | None = None


class VoucherList(Record):
    """One page of ``GET /v1/vouchers``."""

    vouchers: list[Voucher]
    total: int | None = None


class CustomerActivity(Record):
    """
    Something that happened to a customer.

    :param type: e.g. ``customer.created``.
    :param data: depends on ``type``.
    """

    id: str = Field(min_length=1)
    type: str | None = None
    data: dict[str, Any] | None = None
    created_at: str | None = None
    group_id: str | None = None


class CustomerActivityList(Record):
    """
    One page of a customer's activities.

    :param more_starting_after: the id to ask for the next page with.
    """

    data: list[CustomerActivity]
    has_more: bool | None = None
    more_starting_after: str | None = None
    total: int | None = None


class CustomerRedeemable(Record):
    """
    A voucher that a customer holds.

    :param id: of the assignment, ``rh_…``; ``redeemable_id`` is the voucher's.
    :param redeemable: the voucher itself.
    """

    id: str = Field(min_length=1)
    redeemable_id: str | None = None
    redeemable_object: str | None = None
    customer_id: str | None = None
    holder_role: str | None = None
    campaign_id: str | None = None
    campaign_type: str | None = None
    voucher_type: str | None = None
    redeemable: dict[str, Any] | None = None
    created_at: str | None = None


class CustomerRedeemableList(Record):
    """One page of the vouchers that a customer holds."""

    data: list[CustomerRedeemable]
    has_more: bool | None = None
    more_starting_after: str | None = None
    total: int | None = None


class Segment(Record):
    """A segment that a customer belongs to."""

    id: str = Field(min_length=1)
    name: str | None = None


class SegmentList(Record):
    """All segments of a customer; the API has no pages here."""

    data: list[Segment]
    total: int | None = None


class PermanentDeletion(Record):
    """
    What ``POST /v1/customers/{id}/permanent-deletion`` did.

    :param id: of the deletion, ``del_…``.
    :param related_object_id: Voucherify's id of the customer who was deleted.
    :param status: ``DONE`` in the vendor's example; other words are not documented.
    :param data_json: how many objects of each kind were deleted.
    """

    id: str = Field(min_length=1)
    related_object_id: str | None = None
    related_object: str | None = None
    status: str | None = None
    data_json: dict[str, Any] | None = None
    created_at: str | None = None


class TokenIntrospection(Record):
    """
    The answer of ``POST /v1/oauth/introspect``. It does not repeat the token.

    :param active: whether the token can be used; the other fields are set only if it can.
    :param expires_in: seconds of life that are left.
    :param expires_at: end of life, Unix epoch seconds.
    :param scope: space-separated scopes.
    """

    active: bool
    client_id: str | None = None
    expires_in: int | None = None
    expires_at: int | None = None
    scope: str | None = None
    token_type: str | None = None
