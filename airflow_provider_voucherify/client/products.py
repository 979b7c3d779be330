"""Calls for single products and lists of them. ``records`` describes what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.paging import LAST_PAGE_OF_PRODUCTS, Listing, Pages, by_page
from airflow_provider_voucherify.client.records import (
    Time,
    api_filters,
    delete,
    fields_to_send,
    json_body,
    path_of,
    query_of,
    reader,
    upsert,
)
from airflow_provider_voucherify.models.records import Product, ProductList

PRODUCT_FIELDS = ("name", "price", "attributes", "metadata", "image_url")
"""What ``PUT`` changes."""


class ProductFilters(TypedDict, total=False):
    """Filters for lists of products. The vendor does not say which of a product's times they compare."""

    start_date: Time
    end_date: Time


def create_product(product: Product | Mapping[str, Any]) -> Call[Product]:
    """
    Create a product, or update the one that has the same ``id`` or ``source_id`` (``POST /v1/products``).

    :param product: ``source_id`` and the fields to set (``price`` in minor units).
    """
    return upsert("/v1/products", fields_to_send(product, ("id", "source_id", *PRODUCT_FIELDS)), Product)


def get_product(product_id: str) -> Call[Product]:
    """
    Get a product (``GET /v1/products/{productId}``).

    :param product_id: Voucherify's ``id`` or the ``source_id``.
    """
    return Call("GET", path_of("products", product_id), reader(Product), safe=True)


def update_product(product_id: str, product: Product | Mapping[str, Any]) -> Call[Product]:
    """
    Change fields of a product (``PUT /v1/products/{productId}``); the others stay as they are.

    :param product_id: Voucherify's ``id`` or the ``source_id``.
    :param product: the fields to change, or a product that was read and changed.
    """
    body = json_body(fields_to_send(product, PRODUCT_FIELDS))
    return Call("PUT", path_of("products", product_id), reader(Product), safe=True, body=body)


def delete_product(product_id: str, *, force: bool = False) -> Call[None]:
    """
    Delete a product and its SKUs (``DELETE /v1/products/{productId}``).

    A product that does not exist is a ``VoucherifyNotFoundError``, unless an earlier attempt of the same call was not
    answered: then that attempt deleted it.

    :param product_id: Voucherify's ``id`` or the ``source_id``.
    :param force: delete for good; otherwise it is moved to the bin.
    """
    return delete("products", product_id, force=force)


def list_products(
    *, limit: int = 100, page: int | None = None, order: str | None = None, **filters: Unpack[ProductFilters]
) -> Call[ProductList]:
    """
    Get one page of products (``GET /v1/products``).

    :param limit: 1 to 100.
    :param page: 1 to 100.
    :param order: e.g. ``created_at`` or ``-updated_at``; by default the newest come last.
    :param filters: see ``ProductFilters``.
    """
    return _products({"limit": limit, "page": page, "order": order, **api_filters(filters, ProductFilters)})


def all_products(*, order: str = "created_at", **filters: Unpack[ProductFilters]) -> Listing[ProductList, Product]:
    """
    List all products, page by page.

    At most 10,000, the most that page numbers reach: the API has neither a cursor here nor a filter that could serve as
    one, since the vendor does not say which time the two date filters compare. A longer list raises an error at its
    end; read it in parts with these filters, or use a product export in Voucherify's dashboard.

    :param order: see ``list_products``.
    :param filters: see ``ProductFilters``.
    :raises VoucherifyUnexpectedAnswerError: the list cannot be read to its end.
    """
    pages: Pages[ProductList, Product] = Pages(
        _products,
        lambda page: page.products,
        lambda product: product.id,
        "products",
        total=lambda page: page.total,
        last_page=LAST_PAGE_OF_PRODUCTS,
    )
    return by_page(pages, query_of({"order": order, **api_filters(filters, ProductFilters)}))


def _products(query: Mapping[str, Any]) -> Call[ProductList]:
    return Call("GET", "/v1/products", reader(ProductList), safe=True, query=query_of(query))
