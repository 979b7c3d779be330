"""
The API as methods of ``VoucherifyHook``: each sends one call of ``client``, whose docstring and parameters it has.

``client.records`` says which calls are repeated after a failure. With an asynchronous client send the same calls:
``await client.send(customers.get_customer("c1"))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from airflow_provider_voucherify.client import auth, calls, csv_imports, customers, exports, products, vouchers
    from airflow_provider_voucherify.client.calls import Call
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.client.paging import Listing
else:

    class _Later:
        """Stands for a module of the client, which DAG files must not import: its members are loaders."""

        def __init__(self, name: str) -> None:
            self._name = f"{__name__.partition('.')[0]}.client.{name}"

        def __getattr__(self, member: str) -> Callable[[], Any]:
            return lambda: getattr(import_module(self._name), member)

    calls, csv_imports, customers = _Later("calls"), _Later("csv_imports"), _Later("customers")
    auth, exports, products, vouchers = _Later("auth"), _Later("exports"), _Later("products"), _Later("vouchers")

P = ParamSpec("P")
T = TypeVar("T")
Page = TypeVar("Page")


class _Method:
    """A method that is made from its call when it is first accessed."""

    def __init__(self, load: Callable[[], Any], verb: str) -> None:
        self._load, self._verb = load, verb

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, hook: object, owner: type) -> Any:
        method = _method_of(self._load(), self._verb)
        method.__name__, method.__qualname__ = self._name, f"{self._owner.__qualname__}.{self._name}"
        setattr(self._owner, self._name, method)
        return method.__get__(hook, owner)


def _method_of(call: Callable[..., Any], verb: str) -> Any:
    def method(self: ApiMethods, /, *args: Any, **kwargs: Any) -> Any:
        api_call = call(*args, **kwargs)
        del args, kwargs  # a traceback would show a token that is among them
        return getattr(self.get_conn(), verb)(api_call)

    declared = signature(call)
    method.__doc__ = call.__doc__
    method.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), *declared.parameters.values()],
        return_annotation=value_of(declared.return_annotation),
    )
    return method


def value_of(annotation: str) -> str:
    """Return the type that a method returns: ``Customer`` for ``Call[Customer]``, an iterator for a ``Listing``."""
    kind, _, inner = annotation.removesuffix("]").partition("[")
    return f"Iterator[{inner.rpartition(', ')[2]}]" if kind == "Listing" else inner


def _sends(call: Callable[P, Call[T]]) -> Callable[Concatenate[ApiMethods, P], T]:
    return _Method(call, "send")  # type: ignore[return-value]


def _iterates(call: Callable[P, Listing[Page, T]]) -> Callable[Concatenate[ApiMethods, P], Iterator[T]]:
    return _Method(call, "iterate")  # type: ignore[return-value]


class ApiMethods:
    """One method for each call; those named ``all_…`` fetch the pages of a list as they are needed."""

    def get_conn(self) -> VoucherifyClient:
        """Return the client that sends the calls."""
        raise NotImplementedError

    update_customers_in_bulk = _sends(calls.update_customers_in_bulk)
    update_products_in_bulk = _sends(calls.update_products_in_bulk)
    update_vouchers_in_bulk = _sends(calls.update_vouchers_in_bulk)
    update_customers_metadata_in_bulk = _sends(calls.update_customers_metadata_in_bulk)
    update_products_metadata_in_bulk = _sends(calls.update_products_metadata_in_bulk)
    update_vouchers_metadata_in_bulk = _sends(calls.update_vouchers_metadata_in_bulk)
    import_customers_using_csv = _sends(csv_imports.import_customers_using_csv)
    import_products_using_csv = _sends(csv_imports.import_products_using_csv)
    import_skus_using_csv = _sends(csv_imports.import_skus_using_csv)

    get_async_action = _sends(calls.get_async_action)
    list_async_actions = _sends(calls.list_async_actions)
    get_metadata_schema = _sends(calls.get_metadata_schema)
    list_metadata_schemas = _sends(calls.list_metadata_schemas)

    create_customer = _sends(customers.create_customer)
    get_customer = _sends(customers.get_customer)
    update_customer = _sends(customers.update_customer)
    delete_customer = _sends(customers.delete_customer)
    delete_customer_permanently = _sends(customers.delete_customer_permanently)
    list_customers = _sends(customers.list_customers)
    all_customers = _iterates(customers.all_customers)
    list_customer_activity = _sends(customers.list_customer_activity)
    all_customer_activity = _iterates(customers.all_customer_activity)
    list_customer_activities = _sends(customers.list_customer_activities)
    list_customer_segments = _sends(customers.list_customer_segments)
    list_customer_redeemables = _sends(customers.list_customer_redeemables)
    all_customer_redeemables = _iterates(customers.all_customer_redeemables)
    update_customers_consents = _sends(customers.update_customers_consents)

    create_product = _sends(products.create_product)
    get_product = _sends(products.get_product)
    update_product = _sends(products.update_product)
    delete_product = _sends(products.delete_product)
    list_products = _sends(products.list_products)
    all_products = _iterates(products.all_products)

    create_voucher = _sends(vouchers.create_voucher)
    get_voucher = _sends(vouchers.get_voucher)
    update_voucher = _sends(vouchers.update_voucher)
    delete_voucher = _sends(vouchers.delete_voucher)
    list_vouchers = _sends(vouchers.list_vouchers)
    all_vouchers = _iterates(vouchers.all_vouchers)

    create_export = _sends(exports.create_export)
    get_export = _sends(exports.get_export)
    list_exports = _sends(exports.list_exports)
    all_exports = _iterates(exports.all_exports)
    delete_export = _sends(exports.delete_export)

    introspect_oauth_token = _sends(auth.introspect_oauth_token)
    revoke_oauth_token = _sends(auth.revoke_oauth_token)
