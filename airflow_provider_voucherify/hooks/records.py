"""
What ``VoucherifyHook`` offers beside the bulk calls: single records, lists of them, CSV imports, OAuth tokens.

Each method sends one call of ``client.customers``, ``client.products``, ``client.vouchers``, ``client.csv_imports`` or
``client.oauth``, whose docstring says all there is to know; which calls are sent again by themselves after a failure is
said in ``client.records``. With an asynchronous client send the same calls: ``await client.send(get_customer("c1"))``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.csv_imports import CsvSource
    from airflow_provider_voucherify.client.customers import ActivityFilters, CustomerFilters
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.client.products import ProductFilters
    from airflow_provider_voucherify.client.records import Time
    from airflow_provider_voucherify.client.vouchers import VoucherFilters
    from airflow_provider_voucherify.models.records import (
        Customer,
        CustomerActivity,
        CustomerActivityList,
        CustomerList,
        CustomerRedeemable,
        CustomerRedeemableList,
        PermanentDeletion,
        Product,
        ProductList,
        SegmentList,
        TokenIntrospection,
        Voucher,
        VoucherList,
    )


class _Connected:
    def get_conn(self) -> VoucherifyClient:
        raise NotImplementedError


class CustomerMethods(_Connected):
    """Customers."""

    def create_customer(self, customer: Customer | Mapping[str, Any]) -> Customer:
        """
        Create a customer, or update the one with the same ``id`` or ``source_id`` (``POST /v1/customers``).

        ``birthday`` is deprecated by the vendor, use ``birthdate``.

        :param customer: ``source_id`` and the fields to set; a mapping is sent as it is.
        """
        from airflow_provider_voucherify.client import customers

        return self.get_conn().send(customers.create_customer(customer))

    def get_customer(self, customer_id: str) -> Customer:
        """
        Get a customer (``GET /v1/customers/{customerId}``).

        :param customer_id: Voucherify's ``id`` or the ``source_id``.
        """
        from airflow_provider_voucherify.client import customers

        return self.get_conn().send(customers.get_customer(customer_id))

    def update_customer(self, customer_id: str, customer: Customer | Mapping[str, Any]) -> Customer:
        """
        Change fields of a customer (``PUT /v1/customers/{customerId}``); the others stay as they are.

        :param customer_id: Voucherify's ``id`` or the ``source_id``.
        :param customer: the fields to change; a mapping is sent as it is, of a model the fields that are set.
        """
        from airflow_provider_voucherify.client import customers

        return self.get_conn().send(customers.update_customer(customer_id, customer))

    def delete_customer(self, customer_id: str) -> None:
        """Delete a customer (``DELETE /v1/customers/{customerId}``); one that does not exist is an error."""
        from airflow_provider_voucherify.client import customers

        self.get_conn().send(customers.delete_customer(customer_id))

    def delete_customer_permanently(self, customer_id: str) -> PermanentDeletion:
        """Delete a customer and all that is connected, for good (``POST …/permanent-deletion``)."""
        from airflow_provider_voucherify.client import customers

        return self.get_conn().send(customers.delete_customer_permanently(customer_id))

    def list_customers(
        self,
        *,
        limit: int = 100,
        page: int | None = None,
        order: str | None = None,
        starting_after: Time | None = None,
        **filters: Unpack[CustomerFilters],
    ) -> CustomerList:
        """Get one page of customers (``GET /v1/customers``); for the filters see ``client.customers``."""
        from airflow_provider_voucherify.client import customers

        call = customers.list_customers(limit=limit, page=page, order=order, starting_after=starting_after, **filters)
        return self.get_conn().send(call)

    def all_customers(self, *, order: str = "created_at", **filters: Unpack[CustomerFilters]) -> Iterator[Customer]:
        """Give all customers that the filters let through; pages are asked for as they are needed."""
        from airflow_provider_voucherify.client import customers

        return self.get_conn().iterate(customers.all_customers(order=order, **filters))

    def list_customer_activity(
        self,
        customer_id: str,
        *,
        limit: int = 100,
        order: str | None = None,
        starting_after_id: str | None = None,
        **filters: Unpack[ActivityFilters],
    ) -> CustomerActivityList:
        """Get one page of what happened to a customer (``GET /v1/customers/{customerId}/activity``)."""
        from airflow_provider_voucherify.client import customers

        call = customers.list_customer_activity(
            customer_id, limit=limit, order=order, starting_after_id=starting_after_id, **filters
        )
        return self.get_conn().send(call)

    def all_customer_activity(
        self, customer_id: str, *, order: str | None = None, **filters: Unpack[ActivityFilters]
    ) -> Iterator[CustomerActivity]:
        """Give all that happened to a customer; pages are asked for as they are needed."""
        from airflow_provider_voucherify.client import customers

        return self.get_conn().iterate(customers.all_customer_activity(customer_id, order=order, **filters))

    def list_customer_activities(self, customer_id: str, **parameters: Any) -> CustomerActivityList:
        """
        Get one page of a customer's activities the way that the vendor has deprecated (``GET …/activities``).

        Warns with ``DeprecationWarning``; use ``list_customer_activity``.

        :param parameters: see ``client.customers.list_customer_activities``.
        """
        from airflow_provider_voucherify.client import customers

        return self.get_conn().send(customers.list_customer_activities(customer_id, **parameters))

    def list_customer_segments(self, customer_id: str) -> SegmentList:
        """List the segments that a customer belongs to (``GET /v1/customers/{customerId}/segments``)."""
        from airflow_provider_voucherify.client import customers

        return self.get_conn().send(customers.list_customer_segments(customer_id))

    def list_customer_redeemables(
        self,
        customer_id: str,
        *,
        limit: int = 100,
        order: str | None = None,
        starting_after_id: str | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> CustomerRedeemableList:
        """Get one page of the vouchers that a customer holds (``GET /v1/customers/{customerId}/redeemables``)."""
        from airflow_provider_voucherify.client import customers

        call = customers.list_customer_redeemables(
            customer_id, limit=limit, order=order, starting_after_id=starting_after_id, filters=filters
        )
        return self.get_conn().send(call)

    def all_customer_redeemables(
        self, customer_id: str, *, order: str | None = None, filters: Mapping[str, Any] | None = None
    ) -> Iterator[CustomerRedeemable]:
        """Give all vouchers that a customer holds; pages are asked for as they are needed."""
        from airflow_provider_voucherify.client import customers

        return self.get_conn().iterate(customers.all_customer_redeemables(customer_id, order=order, filters=filters))

    def update_customers_consents(self, customer_id: str, consents: Mapping[str, bool]) -> None:
        """
        Set a customer's consents (``PUT /v1/customers/{customerId}/consents``), which the vendor removed in 2024.

        Warns with ``DeprecationWarning``; what Voucherify answers is passed on.
        """
        from airflow_provider_voucherify.client import customers

        self.get_conn().send(customers.update_customers_consents(customer_id, consents))


class CatalogMethods(_Connected):
    """Products and vouchers."""

    def create_product(self, product: Product | Mapping[str, Any]) -> Product:
        """
        Create a product, or update the one with the same ``id`` or ``source_id`` (``POST /v1/products``).

        :param product: ``source_id`` and the fields to set (``price`` in minor units).
        """
        from airflow_provider_voucherify.client import products

        return self.get_conn().send(products.create_product(product))

    def get_product(self, product_id: str) -> Product:
        """
        Get a product (``GET /v1/products/{productId}``).

        :param product_id: Voucherify's ``id`` or the ``source_id``.
        """
        from airflow_provider_voucherify.client import products

        return self.get_conn().send(products.get_product(product_id))

    def update_product(self, product_id: str, product: Product | Mapping[str, Any]) -> Product:
        """Change fields of a product (``PUT /v1/products/{productId}``); the others stay as they are."""
        from airflow_provider_voucherify.client import products

        return self.get_conn().send(products.update_product(product_id, product))

    def list_products(
        self, *, limit: int = 100, page: int | None = None, order: str | None = None, **filters: Unpack[ProductFilters]
    ) -> ProductList:
        """Get one page of products (``GET /v1/products``); for the filters see ``client.products``."""
        from airflow_provider_voucherify.client import products

        return self.get_conn().send(products.list_products(limit=limit, page=page, order=order, **filters))

    def all_products(self, *, order: str = "created_at", **filters: Unpack[ProductFilters]) -> Iterator[Product]:
        """
        Give all products that the filters let through, 10,000 at most; pages are asked for as they are needed.

        :raises VoucherifyUnexpectedAnswerError: there are more than the API has pages for.
        """
        from airflow_provider_voucherify.client import products

        return self.get_conn().iterate(products.all_products(order=order, **filters))

    def create_voucher(self, code: str, voucher: Voucher | Mapping[str, Any]) -> Voucher:
        """
        Create a voucher with a given code (``POST /v1/vouchers/{code}``); one that exists is a conflict.

        :param voucher: ``type`` and what that needs: ``discount``, ``gift``, or ``loyalty_card`` and a campaign.
        """
        from airflow_provider_voucherify.client import vouchers

        return self.get_conn().send(vouchers.create_voucher(code, voucher))

    def get_voucher(self, code: str) -> Voucher:
        """Get a voucher by its code or id (``GET /v1/vouchers/{code}``)."""
        from airflow_provider_voucherify.client import vouchers

        return self.get_conn().send(vouchers.get_voucher(code))

    def update_voucher(self, code: str, voucher: Voucher | Mapping[str, Any]) -> Voucher:
        """Change fields of a voucher (``PUT /v1/vouchers/{code}``); the others stay as they are."""
        from airflow_provider_voucherify.client import vouchers

        return self.get_conn().send(vouchers.update_voucher(code, voucher))

    def list_vouchers(
        self, *, limit: int = 100, page: int | None = None, order: str | None = None, **filters: Unpack[VoucherFilters]
    ) -> VoucherList:
        """Get one page of vouchers (``GET /v1/vouchers``); for the filters see ``client.vouchers``."""
        from airflow_provider_voucherify.client import vouchers

        return self.get_conn().send(vouchers.list_vouchers(limit=limit, page=page, order=order, **filters))

    def all_vouchers(self, *, order: str = "created_at", **filters: Unpack[VoucherFilters]) -> Iterator[Voucher]:
        """Give all vouchers that the filters let through; pages are asked for as they are needed."""
        from airflow_provider_voucherify.client import vouchers

        return self.get_conn().iterate(vouchers.all_vouchers(order=order, **filters))


class CsvImportMethods(_Connected):
    """
    CSV imports: each queues one file of at most 10 MB and returns the ``async_action_id``.

    Nothing has been imported then; ``VoucherifyImportCsvOperator`` splits larger files and follows them to their end.
    """

    def import_customers_using_csv(self, file: CsvSource) -> str:
        """
        Queue an import of customers (``POST /v1/customers/importCSV``).

        A customer whose ``Source_id`` is in the file is overwritten whole, fields and metadata (vendor's guide on
        importing customers): unlike a bulk update, what the file does not have is lost.

        :param file: a path or a seekable binary file.
        """
        return self._import("customers", file)

    def import_products_using_csv(self, file: CsvSource) -> str:
        """
        Queue an import of products (``POST /v1/products/importCSV``).

        Of a product that exists only the name is changed. Prices are in major units: 21 is $21.00.

        :param file: a path or a seekable binary file.
        """
        return self._import("products", file)

    def import_skus_using_csv(self, file: CsvSource) -> str:
        """
        Queue an import of SKUs (``POST /v1/skus/importCSV``); their products must have been imported before.

        Needs the OAuth scope ``skus``. Of a SKU that exists only the name and the price are changed.

        :param file: a path or a seekable binary file.
        """
        return self._import("skus", file)

    def _import(self, resource: str, file: CsvSource) -> str:
        from airflow_provider_voucherify.client.csv_imports import import_csv

        return self.get_conn().send(import_csv(resource, file))


class TokenMethods(_Connected):
    """OAuth tokens. The hook fetches and renews its own by itself."""

    def introspect_oauth_token(self, access_token: str) -> TokenIntrospection:
        """Ask whether a token can be used, and for what (``POST /v1/oauth/introspect``)."""
        from airflow_provider_voucherify.client import oauth

        call = oauth.introspect_oauth_token(access_token)
        del access_token  # a traceback would show it
        return self.get_conn().send(call)

    def revoke_oauth_token(self, access_token: str) -> None:
        """End a token before its time (``POST /v1/oauth/token/revoke``); one that has ended is an error."""
        from airflow_provider_voucherify.client import oauth

        call = oauth.revoke_oauth_token(access_token)
        del access_token  # a traceback would show it
        self.get_conn().send(call)


class RecordMethods(CustomerMethods, CatalogMethods, CsvImportMethods, TokenMethods):
    """All of them, for ``VoucherifyHook``."""
