"""Griffe's part: the hook's methods that are made from calls are shown with the calls' parameters and docstrings."""

from __future__ import annotations

from typing import Any

from griffe import Attribute, Class, Extension, Function, Module, Parameter, Parameters

from airflow_provider_voucherify.hooks.api_methods import value_of

CLASS = "hooks.api_methods.ApiMethods"
CALLS = "client"


class HookMethods(Extension):
    """Puts functions in the place of attributes such as ``get_customer = _sends(customers.get_customer)``."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Change the class once all modules have been read, those of the calls among them."""
        methods: Class = pkg[CLASS]
        for attribute in [member for member in methods.members.values() if isinstance(member, Attribute)]:
            call = str(attribute.value).partition("(")[2].removesuffix(")")
            methods.set_member(attribute.name, method_of(pkg[f"{CALLS}.{call}"], attribute.name))


def method_of(call: Function, name: str) -> Function:
    """Return the method that is made from a call."""
    return Function(
        name,
        lineno=call.lineno,
        endlineno=call.endlineno,
        parameters=Parameters(Parameter("self"), *call.parameters),
        returns=value_of(str(call.returns)),
        docstring=call.docstring,
    )
