"""Assets such as ``voucherify://api.voucherify.io/customers``: what Airflow needs to know of their URIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_voucherify.compat import Asset
from airflow_provider_voucherify.models.endpoints import REGIONS, RESOURCES

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset

SCHEME = "voucherify"


def create_asset(*, resource: str, host: str = "eu", extra: dict[str, Any] | None = None) -> Asset:
    """
    Return the asset of a project's customers, products or vouchers.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param host: host name of the API, with a port where it has one, or a region (``eu``, ``us1``, ``as1``).
    :param extra: what Airflow keeps with the asset.
    :raises ValueError: as ``sanitize_uri``.
    """
    return Asset(uri=f"{SCHEME}://{host}/{resource}", extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Check an asset's URI and give its one form: ``voucherify://<API host>/<resource>``.

    A region becomes its host name, and host and resource become lower case. A query is left alone: it can tell two
    projects on the same host apart (``?project=shop``).

    :raises ValueError: there is no host, the path is not one of the three resources, or the URI has credentials.
    """
    resource = uri.path.strip("/").lower()
    if not uri.hostname or resource not in RESOURCES:
        raise ValueError(
            f"an asset of Voucherify is {SCHEME}://<host>/<resource>, with {', '.join(RESOURCES)} as resource, not "
            f"{uri.geturl()!r}"
        )
    if "@" in uri.netloc:
        raise ValueError("an asset's URI must not have credentials")
    region = REGIONS.get(uri.netloc.lower())
    host = urlsplit(region).netloc if region is not None else uri.netloc.lower()
    return uri._replace(netloc=host, path=f"/{resource}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """
    Return the OpenLineage dataset that the operators name too: namespace ``voucherify://<host>``, name ``<resource>``.

    :param asset: an asset whose URI has been sanitised.
    :param lineage_context: not needed.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{uri.netloc}", name=uri.path.strip("/"))
