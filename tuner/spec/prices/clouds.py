"""The clouds' own price interfaces: today's prices of the instances that a catalogue lists.

Azure's needs no credentials. AWS's are asked through its command line `aws`, with the credentials that it has, Google's
with the API key in GOOGLE_API_KEY. An instance that a cloud no longer offers is left out.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from search_spaces.reading import foreign
from search_spaces.values import GIB
from tuner.errors import UnfitEnvironmentError
from tuner.spec.prices.catalogue import HOURS_A_YEAR, Catalogue, Instance

_TIMEOUT_S = 60.0
# https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices
_AZURE = "https://prices.azure.com/api/retail/prices"
# https://cloud.google.com/billing/v1/how-tos/catalog-api; the service is Compute Engine
_GCP = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
_GCP_TERMS = {"on_demand": "OnDemand", "spot": "Preemptible", "one_year": "Commit1Yr"}
_GCP_MEMORY = {"A100-80GB": "A100 80GB", "H100": "H100 80GB", "H200": "H200 141GB"}  # part of a GPU's name there
# Not those of Dynamic Workload Scheduler: they are cheaper, and for jobs that end.
_GCP_PLAIN = "(?:running in|attached to Spot Preemptible VMs)"


def from_azure(catalogue: Catalogue) -> Catalogue:
    """Raises UnfitEnvironmentError where the interface does not answer. TUNE_AZURE_PRICES names another address."""
    url = os.environ.get("TUNE_AZURE_PRICES", _AZURE)
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        instances = tuple(_azure_instance(client, url, one, catalogue.region) for one in catalogue.instances)
    return _refreshed(catalogue, instances, f"Azure Retail Prices API, {_AZURE}")


def _azure_instance(client: httpx.Client, url: str, one: Instance, region: str) -> Instance:
    name = one.name.replace("'", "")
    wanted = f"armRegionName eq '{region}' and armSkuName eq '{name}' and serviceName eq 'Virtual Machines'"
    try:
        answer = client.get(url, params={"$filter": wanted})
        answer.raise_for_status()
        items = answer.json()["Items"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise UnfitEnvironmentError(f"Azure's price interface did not answer for {one.name}: {error}") from error
    plain = [item for item in items if "Windows" not in item.get("productName", "")]
    hourly = [item for item in plain if item.get("type") == "Consumption" and "Low Priority" not in item["skuName"]]
    year = [item for item in plain if item.get("reservationTerm") == "1 Year"]
    return one.model_copy(
        update={
            "on_demand": _cheapest(item["retailPrice"] for item in hourly if "Spot" not in item["skuName"]),
            "spot": _cheapest(item["retailPrice"] for item in hourly if "Spot" in item["skuName"]),
            "one_year": _cheapest(item["retailPrice"] / HOURS_A_YEAR for item in year),  # it is told for the whole year
            "unverified": (),
        }
    )


def from_aws(catalogue: Catalogue) -> Catalogue:
    """Raises UnfitEnvironmentError where there is no `aws`, or it may not ask."""
    instances = tuple(_aws_instance(one, catalogue.region) for one in catalogue.instances)
    return _refreshed(catalogue, instances, "AWS Price List Query API and EC2 spot price history")


def _aws_instance(one: Instance, region: str) -> Instance:
    filters = {
        "instanceType": one.name, "regionCode": region, "operatingSystem": "Linux", "tenancy": "Shared",
        "preInstalledSw": "NA", "capacitystatus": "Used",
    }  # fmt: skip
    terms = [f"Type=TERM_MATCH,Field={field},Value={value}" for field, value in filters.items()]
    # The price list is served from a few regions only, whatever region is asked about.
    found = _aws("pricing", "get-products", "--region", "us-east-1", "--service-code", "AmazonEC2", "--filters", *terms)
    products = [json.loads(text) for text in found.get("PriceList", [])]
    demand = [_dimension(term) for product in products for term in product["terms"].get("OnDemand", {}).values()]
    reserved = [
        _dimension(term)
        for product in products
        for term in product["terms"].get("Reserved", {}).values()
        if _wanted(term.get("termAttributes", {}))
    ]
    history = _aws(
        "ec2", "describe-spot-price-history", "--region", region, "--instance-types", one.name,
        "--product-descriptions", "Linux/UNIX", "--start-time", datetime.datetime.now(datetime.UTC).isoformat(),
    )  # fmt: skip
    spots = [float(item["SpotPrice"]) for item in history.get("SpotPriceHistory", [])]
    return one.model_copy(
        update={
            "on_demand": _cheapest(price for price in demand if price),
            "spot": statistics.median(spots) if spots else None,
            "one_year": _cheapest(price for price in reserved if price),
            "unverified": (),
        }
    )


def from_gcp(catalogue: Catalogue) -> Catalogue:
    """Raises UnfitEnvironmentError without a key, or where the interface does not answer. TUNE_GCP_PRICES names another
    address.
    """
    key = os.environ.get("GOOGLE_API_KEY")
    if not key:
        raise UnfitEnvironmentError(
            "Google's prices need an API key, and GOOGLE_API_KEY is not set\n"
            "Make one with the Cloud Billing API enabled: https://cloud.google.com/billing/v1/how-tos/catalog-api"
        )
    offered = [sku for sku in _gcp_skus(key) if catalogue.region in sku.get("serviceRegions", ())]
    instances = tuple(_gcp_instance(offered, one) for one in catalogue.instances)
    return _refreshed(catalogue, instances, f"Google Cloud Billing Catalog API, {_GCP}")


def _gcp_skus(key: str) -> Iterator[dict[str, Any]]:
    url, token = os.environ.get("TUNE_GCP_PRICES", _GCP), ""
    # In a header: an address may stand in a log.
    with httpx.Client(timeout=_TIMEOUT_S, headers={"X-Goog-Api-Key": key}) as client:
        while True:
            try:
                answer = client.get(url, params={"pageSize": "5000", **({"pageToken": token} if token else {})})
                answer.raise_for_status()
                page = answer.json()
                yield from page.get("skus", ())
            except (httpx.HTTPError, ValueError) as error:
                raise UnfitEnvironmentError(f"Google's price interface did not answer: {error}") from error
            token = page.get("nextPageToken", "")
            if not token:
                return


def _gcp_instance(skus: Sequence[Mapping[str, Any]], one: Instance) -> Instance:
    """A GPU has a price of its own there; a machine costs its cores and its memory."""
    parts: list[tuple[float, re.Pattern[str]]]
    if one.gpu is not None:
        name = re.escape(_GCP_MEMORY.get(one.gpu, one.gpu))
        parts = [(one.gpus, re.compile(rf"(?:Commitment v1: )?(?:Nvidia )?(?:Tesla )?{name} GPU {_GCP_PLAIN}"))]
    else:
        family = one.name.partition("-")[0].upper()
        committed = "" if family == "N1" else f"{family} "  # the first family had no name yet
        cores, memory = (
            re.compile(
                rf"(?:Spot Preemptible )?{family} (?:Predefined )?Instance {part} |Commitment v1: {committed}{year} in "
            )
            for part, year in (("Core", "Cpu"), ("Ram", "Ram"))
        )
        parts = [(one.vcpus or 0, cores), ((one.memory or 0) / GIB, memory)]
    prices: dict[str, float | None] = {}
    for term, usage in _GCP_TERMS.items():
        found = [(count, _gcp_price(skus, pattern, usage)) for count, pattern in parts]
        known = [count * price for count, price in found if price is not None]
        prices[term] = round(sum(known), 6) if len(known) == len(found) else None
    return one.model_copy(update={**prices, "unverified": ()})


def _gcp_price(skus: Sequence[Mapping[str, Any]], pattern: re.Pattern[str], usage: str) -> float | None:
    """Per hour, of the last tier: the first may be free."""
    return _cheapest(
        int(price.get("units") or 0) + price.get("nanos", 0) / 1e9
        for sku in skus
        if sku["category"]["usageType"] == usage and pattern.match(sku["description"])
        for info in sku["pricingInfo"][-1:]
        for price in [info["pricingExpression"]["tieredRates"][-1]["unitPrice"]]
    )


def _wanted(attributes: Mapping[str, str]) -> bool:
    named = ("LeaseContractLength", "PurchaseOption", "OfferingClass")
    return tuple(attributes.get(name) for name in named) == ("1yr", "No Upfront", "standard")


def _dimension(term: Mapping[str, Any]) -> float:
    """The hourly price of a term."""
    hourly = (one for one in term["priceDimensions"].values() if one["unit"] == "Hrs")
    return sum(float(one["pricePerUnit"].get("USD", 0)) for one in hourly)


def _aws(*words: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            ["aws", *words, "--output", "json"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise UnfitEnvironmentError(
            "AWS's prices are asked through its command line, and there is no `aws` on the PATH\n"
            "Install it and give it credentials: https://docs.aws.amazon.com/cli/"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnfitEnvironmentError(f"`aws {words[0]}` has not answered for {_TIMEOUT_S:g} s") from error
    if done.returncode:
        said = foreign(" ".join(done.stderr.split()))[:300]
        raise UnfitEnvironmentError(f"`aws {words[0]} {words[1]}` failed: {said}")
    found = json.loads(done.stdout or "{}")
    return found if isinstance(found, dict) else {}


def _cheapest(prices: Any) -> float | None:
    return min((float(price) for price in prices), default=None)


def _refreshed(catalogue: Catalogue, instances: tuple[Instance, ...], source: str) -> Catalogue:
    kept = tuple(one for one in instances if one.on_demand is not None)
    update = {"instances": kept, "source": source, "date": datetime.datetime.now(datetime.UTC).date()}
    try:
        return Catalogue.model_validate(catalogue.model_copy(update=update).model_dump(mode="json"))
    except ValidationError as error:
        raise UnfitEnvironmentError(
            f"{source} lists prices of {len(kept)} of {len(catalogue.instances)} instances in {catalogue.region}, too "
            "few to go on with; the prices that were there stay"
        ) from error


INTERFACES: Mapping[str, Callable[[Catalogue], Catalogue]] = {"aws": from_aws, "azure": from_azure, "gcp": from_gcp}
