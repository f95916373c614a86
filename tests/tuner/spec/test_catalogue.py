"""Price catalogues: where their figures are from, how they are split into parts, and how a spec uses them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from tests.conftest import Tune, tune_environment
from tuner.errors import SpecError, UsageError
from tuner.launch.price import check_prices, gpu_share, price_per_hour
from tuner.spec.model import GpuPrice
from tuner.spec.prices.catalogue import OwnHardware, catalogue_names, load_catalogue
from tuner.spec.prices.clouds import from_aws, from_azure, from_gcp
from tuner.spec.reading import LoadedSpec, load_spec

SPEC = """\
version: 1
service: {name: priced, command: [python3, s.py, "{port}"]}
request: {path: /p, json: {x: 1}}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [2], memory: [4Gi], gpu_type: [none, T4], gpu_memory: ["50%"]}}
prices: PRICES
"""


def load(folder: Path, prices: str, space: str | None = None) -> LoadedSpec:
    text = SPEC if space is None else re.sub("space: .*\n", space, SPEC)
    (folder / "spec.yaml").write_text(text.replace("PRICES", prices), encoding="utf-8")
    return load_spec(folder / "spec.yaml")


@pytest.mark.parametrize("name", ["aws", "azure", "gcp"])
def test_a_catalogue_has_a_source_a_date_and_prices_that_make_sense(name: str) -> None:
    found = load_catalogue(name)
    assert found.source.startswith("https://")
    assert len({one.name for one in found.instances}) == len(found.instances)
    parts = found.parts("on_demand")
    assert 0.02 < parts["cpu_core_hour"] < 0.06
    assert 0.001 < parts["memory_gib_hour"] < 0.01
    prices = {gpu: one["price"] for gpu, one in parts["gpu_hour"].items()}
    assert prices["T4"] < prices["V100"] < prices["H100"]
    for one in found.instances:
        assert one.spot is None or one.on_demand is None or one.spot < one.on_demand, one.name


def test_all_gpus_that_the_clouds_sell_are_in_one_of_them() -> None:
    gpus = {gpu for name in catalogue_names() for gpu in load_catalogue(name).parts("on_demand")["gpu_hour"]}
    assert {"T4", "L4", "A10G", "V100", "A100", "H100", "H200", "K80", "P4", "P100", "M60"} <= gpus


def test_a_machine_costs_the_sum_of_its_parts() -> None:
    found = load_catalogue("aws")
    parts = found.parts("on_demand")
    machine = next(one for one in found.instances if one.name == "g4dn.xlarge")
    total = 4 * parts["cpu_core_hour"] + 16 * parts["memory_gib_hour"] + parts["gpu_hour"]["T4"]["price"]
    assert total == pytest.approx(machine.on_demand, abs=1e-4)


def test_a_spec_names_a_catalogue_and_its_terms(tmp_path: Path) -> None:
    parts = load_catalogue("aws").parts("spot")
    loaded = load(tmp_path, "{catalogue: aws, terms: spot}")
    assert loaded.spec.prices.source is not None
    assert "spot" in loaded.spec.prices.source
    base: dict[str, int | str] = {"cpu_cores": 2, "memory": "4Gi", "gpu_memory": "50%"}
    alone = price_per_hour(loaded.space, {**base, "gpu_type": "none"}, loaded.spec.prices)
    assert alone == pytest.approx(2 * parts["cpu_core_hour"] + 4 * parts["memory_gib_hour"])
    with_gpu = price_per_hour(loaded.space, {**base, "gpu_type": "T4"}, loaded.spec.prices)
    assert with_gpu == pytest.approx((alone or 0) + parts["gpu_hour"]["T4"]["price"] / 2)
    assert load(tmp_path, "aws").spec.prices.gpu_hour["T4"].price > parts["gpu_hour"]["T4"]["price"]


def test_what_the_spec_writes_itself_beats_the_catalogue(tmp_path: Path) -> None:
    loaded = load(tmp_path, "{catalogue: aws, cpu_core_hour: 1, gpu_hour: {T4: 9}}")
    assert (loaded.spec.prices.cpu_core_hour, loaded.spec.prices.gpu_hour["T4"].price) == (1.0, 9.0)
    assert loaded.spec.prices.gpu_hour["L4"].price == load(tmp_path, "aws").spec.prices.gpu_hour["L4"].price


def test_a_catalogue_of_ones_own_is_a_file(tmp_path: Path) -> None:
    content = load_catalogue("gcp").model_dump(mode="json", exclude_none=True)
    (tmp_path / "mine.yaml").write_text(json.dumps(content), encoding="utf-8")
    assert load(tmp_path, "mine.yaml").spec.prices.gpu_hour["T4"].price == 0.35
    content["instances"] = content["instances"][:1]
    (tmp_path / "mine.yaml").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SpecError, match="needs two instances without a GPU"):
        load(tmp_path, "mine.yaml")


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("awz", "there is no price file"),
        ("{catalogue: aws, terms: always}", "prices.terms"),
        ("{own: {purchase: 9000}}", "prices.own.years: is missing"),
        ("{catalogue: aws, slice: compute}", "did you mean slices"),
    ],
)
def test_prices_that_cannot_be_are_refused_with_their_place(tmp_path: Path, prices: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load(tmp_path, prices)


def test_hardware_of_ones_own_costs_its_purchase_power_and_hosting_over_its_use(tmp_path: Path) -> None:
    own = "purchase: 35040, years: 4, power_watts: 1000, power_kwh: 0.2, hosting_month: 73, utilisation: 50%"
    loaded = load(
        tmp_path, f"{{own: {{{own}, cpu_cores: 32, memory: 256Gi, gpu: {{type: T4, count: 4, memory: 16Gi}}}}}}"
    )
    hour = (35040 / (4 * 8760) + 0.2 + 73 * 12 / 8760) / 0.5  # 1 + 0.2 + 0.1, half of the time
    assert loaded.spec.prices.own is not None
    assert loaded.spec.prices.own.hour == pytest.approx(hour)
    prices = loaded.spec.prices
    whole = 32 * prices.cpu_core_hour + 256 * prices.memory_gib_hour + 4 * prices.gpu_hour["T4"].price
    assert whole == pytest.approx(hour)
    alone = OwnHardware.model_validate({"purchase": 8760, "years": 1, "cpu_cores": 10})
    assert alone.parts()["cpu_core_hour"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("asked", "by", "share"),
    [("1g.5gb", "memory", 1 / 8), ("1g.5gb", "compute", 1 / 7), ("3g.20gb", "memory", 0.5), ("7g.40gb", "compute", 1.0),
     ("50%", "compute", 0.5)],
)  # fmt: skip
def test_a_slice_is_priced_by_its_share_of_memory_or_of_compute(asked: str, by: str, share: float) -> None:
    gpu = GpuPrice.model_validate({"price": 3.6, "memory": "40Gi"})
    assert gpu_share(asked, gpu, by) == pytest.approx(share)


def test_a_slice_without_a_gpu_type_has_the_price_of_the_only_gpu(tmp_path: Path) -> None:
    space = "space: {parameters: {cpu_cores: [1], gpu_memory: ['25%', '100%']}}\nobjective: {maximize: capacity_qps}\n"
    loaded = load(tmp_path, "{cpu_core_hour: 0.04, gpu_hour: {T4: 0.4}}", space)
    check_prices(loaded)
    assert [price_per_hour(loaded.space, one, loaded.spec.prices) for one in loaded.space] == pytest.approx(
        [0.14, 0.44]
    )
    with pytest.raises(SpecError, match="which GPU is gpu_memory a slice of"):
        check_prices(load(tmp_path, "{cpu_core_hour: 0.04, gpu_hour: {T4: 0.4, L4: 0.6}}", space))


@pytest.mark.parametrize("gpus", ["0.35", "[T4]", "T4"])
def test_gpu_prices_that_are_no_mapping_are_refused(tmp_path: Path, gpus: str) -> None:
    with pytest.raises(SpecError, match=r"prices\.gpu_hour"):
        load(tmp_path, f"{{gpu_hour: {gpus}}}")


def test_tune_prices_lists_catalogues_and_their_instances(tmp_path: Path, tune_in_process: Tune) -> None:
    assert {line.split(":")[0] for line in tune_in_process("prices").stdout.splitlines()[:3]} == {"aws", "azure", "gcp"}
    shown = tune_in_process("prices", "aws").stdout
    assert "g4dn.xlarge" in shown
    assert "1 x T4" in shown
    assert "could not be verified" in shown
    assert json.loads(tune_in_process("prices", "gcp", "--json").stdout)["parts"]["gpu_hour"]["T4"]["price"] == 0.35
    done = tune_in_process("prices", "awz")
    assert (done.returncode, "there are aws, azure, gcp" in done.stderr) == (2, True)


class _Azure(BaseHTTPRequestHandler):
    """Answers as the Retail Prices API documents it."""

    def do_GET(self) -> None:
        wanted = parse_qs(urlparse(self.path).query)["$filter"][0]
        name = wanted.split("armSkuName eq '")[1].split("'")[0]
        common = {"armSkuName": name, "productName": "Virtual Machines Series", "skuName": name, "type": "Consumption"}
        items = [
            common | {"retailPrice": 1.5},
            common | {"retailPrice": 9.0, "productName": "Virtual Machines Series Windows"},
            common | {"retailPrice": 0.4, "skuName": f"{name} Spot"},
            common | {"retailPrice": 0.1, "skuName": f"{name} Low Priority"},
            common | {"retailPrice": 8760.0, "type": "Reservation", "reservationTerm": "1 Year"},
        ]
        text = json.dumps({"Items": items if name != "Standard_NC6" else []}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Azure) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/prices"
        monkeypatch.setenv("TUNE_AZURE_PRICES", url)
        yield url
        server.shutdown()


def test_azures_prices_are_read_from_its_interface(azure: str) -> None:
    found = from_azure(load_catalogue("azure"))
    machine = next(one for one in found.instances if one.name == "Standard_NC4as_T4_v3")
    assert (machine.on_demand, machine.spot, machine.one_year) == (1.5, 0.4, 1.0)
    assert "Standard_NC6" not in {one.name for one in found.instances}, "what is no longer offered is left out"
    assert "Retail Prices API" in found.source


def _sku(description: str, usage: str, price: float, region: str = "us-central1") -> dict[str, Any]:
    """As the Catalog API documents it; the first tier may be free."""
    tiers = [{"unitPrice": {"units": "0", "nanos": 0}}] * (usage == "OnDemand")
    tiers.append({"unitPrice": {"units": str(int(price)), "nanos": round(price % 1 * 1e9)}})
    return {
        "description": description, "category": {"usageType": usage}, "serviceRegions": [region],
        "pricingInfo": [{"pricingExpression": {"tieredRates": tiers}}],
    }  # fmt: skip


_PAGES = [
    [
        _sku("Nvidia Tesla T4 GPU running in Americas", "OnDemand", 0.5),
        _sku("Nvidia Tesla T4 GPU running in Tokyo", "OnDemand", 0.1, "asia-northeast1"),
        _sku("Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in Americas", "Preemptible", 0.2),
        _sku("Commitment v1: Nvidia Tesla T4 GPU running in Americas for 1 Year", "Commit1Yr", 0.3),
        _sku("Nvidia Tesla A100 GPU running in Americas", "OnDemand", 3.0),
        _sku("Nvidia Tesla A100 80GB GPU running in Americas", "OnDemand", 5.0),
        _sku("Nvidia H100 80GB GPU running in Americas", "OnDemand", 9.8),
        _sku("Nvidia H100 80GB GPU attached to DWS Defined Duration VMs running in Americas", "OnDemand", 4.2),
        _sku("H200 141GB GPU running in Americas", "OnDemand", 9.0),
    ],
    [
        _sku("N2 Instance Core running in Americas", "OnDemand", 0.03),
        _sku("N2D AMD Instance Core running in Americas", "OnDemand", 0.01),
        _sku("N2 Custom Instance Core running in Americas", "OnDemand", 0.02),
        _sku("N2 Instance Ram running in Americas", "OnDemand", 0.004),
        _sku("Spot Preemptible N2 Instance Core running in Americas", "Preemptible", 0.01),
        _sku("Spot Preemptible N2 Instance Ram running in Americas", "Preemptible", 0.001),
        _sku("Commitment v1: N2 Cpu in Americas for 1 Year", "Commit1Yr", 0.02),
        _sku("Commitment v1: N2 Ram in Americas for 1 Year", "Commit1Yr", 0.003),
        _sku("N1 Predefined Instance Core running in Americas", "OnDemand", 0.03),
        _sku("N1 Predefined Instance Ram running in Americas", "OnDemand", 0.004),
    ],
]


class _Google(BaseHTTPRequestHandler):
    """Two pages, for who has the key."""

    def do_GET(self) -> None:
        page = int(parse_qs(urlparse(self.path).query).get("pageToken", ["0"])[0])
        good = self.headers["X-Goog-Api-Key"] == "secret-key" and "key=" not in self.path
        more = {"nextPageToken": "1"} if page == 0 else {}
        self.send_response(200 if good else 403)
        self.end_headers()
        self.wfile.write(json.dumps({"skus": _PAGES[page], **more}).encode() if good else b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_googles_prices_are_read_from_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = load_catalogue("gcp")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    with pytest.raises(Exception, match="GOOGLE_API_KEY is not set"):
        from_gcp(catalogue)
    with HTTPServer(("127.0.0.1", 0), _Google) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("TUNE_GCP_PRICES", f"http://127.0.0.1:{server.server_port}/skus")
        monkeypatch.setenv("GOOGLE_API_KEY", "secret-key")
        found = {one.name: one for one in from_gcp(catalogue).instances}
        monkeypatch.setenv("GOOGLE_API_KEY", "another")
        with pytest.raises(Exception, match="did not answer") as caught:
            from_gcp(catalogue)
        server.shutdown()
    assert "another" not in str(caught.value)
    assert (found["T4"].on_demand, found["T4"].spot, found["T4"].one_year) == (0.5, 0.2, 0.3)
    assert (found["A100"].on_demand, found["A100-80GB"].on_demand, found["H200"].on_demand) == (3.0, 5.0, 8 * 9.0)
    assert found["H100"].on_demand == 9.8, "not the price of jobs that end"
    machine = found["n2-standard-2"]
    assert machine.on_demand == pytest.approx(2 * 0.03 + 8 * 0.004)
    assert machine.spot == pytest.approx(2 * 0.01 + 8 * 0.001)
    assert machine.one_year == pytest.approx(2 * 0.02 + 8 * 0.003)
    assert found["n1-standard-4"].on_demand == pytest.approx(4 * 0.03 + 15 * 0.004)
    assert "K80" not in found, "what is no longer offered is left out"


AWS = """#!/usr/bin/env python3
import json, sys
if sys.argv[1] == "pricing":
    hour = lambda price: {"priceDimensions": {"d": {"unit": "Hrs", "pricePerUnit": {"USD": str(price)}}}}
    year = hour(0.7) | {"termAttributes": {"LeaseContractLength": "1yr", "PurchaseOption": "No Upfront",
                                           "OfferingClass": "standard"}}
    other = hour(0.1) | {"termAttributes": {"LeaseContractLength": "3yr", "PurchaseOption": "No Upfront",
                                            "OfferingClass": "standard"}}
    product = {"terms": {"OnDemand": {"a": hour(1.0)}, "Reserved": {"b": year, "c": other}}}
    print(json.dumps({"PriceList": [json.dumps(product)]}))
else:
    print(json.dumps({"SpotPriceHistory": [{"SpotPrice": "0.2"}, {"SpotPrice": "0.3"}, {"SpotPrice": "0.9"}]}))
"""


def test_awss_prices_are_asked_through_its_command_line(
    tmp_path: Path, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = load_catalogue("aws")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match="there is no `aws` on the PATH"):
        from_aws(catalogue)
    monkeypatch.setenv("PATH", f"{tmp_path}:{tune_environment(tmp_path)['PATH']}:/usr/bin")
    program = tmp_path / "aws"
    program.write_text(AWS, encoding="utf-8")
    program.chmod(0o755)
    found = from_aws(catalogue)
    assert {(one.on_demand, one.spot, one.one_year) for one in found.instances} == {(1.0, 0.3, 0.7)}
    assert not any(one.unverified for one in found.instances)
    program.write_text("#!/bin/sh\necho 'Unable to locate credentials' >&2; exit 253\n", encoding="utf-8")
    with pytest.raises(Exception, match="failed: Unable to locate credentials"):
        from_aws(catalogue)


def test_a_catalogue_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UsageError, match="there are aws, azure, gcp"):
        load_catalogue("nowhere")


def test_a_catalogues_prices_are_not_called_another_currency(tmp_path: Path) -> None:
    assert load(tmp_path, "{catalogue: aws, currency: USD}").spec.prices.currency == "USD"
    with pytest.raises(SpecError, match="Amazon EC2 has its prices in USD, and currency says EUR"):
        load(tmp_path, "{catalogue: aws, currency: EUR}")


@pytest.mark.parametrize("prices", ["prices.yaml", "{catalogue: own.yaml}"])
def test_a_spec_that_is_a_link_has_its_prices_beside_what_it_leads_to(tmp_path: Path, prices: str) -> None:
    there, link = tmp_path / "there", tmp_path / "link.yaml"
    there.mkdir()
    (there / "prices.yaml").write_text(
        "cpu_core_hour: 0.5\nmemory_gib_hour: 0.1\ngpu_hour: {T4: 1}\n", encoding="utf-8"
    )
    own = load_catalogue("gcp").model_dump(mode="json", exclude_none=True)
    (there / "own.yaml").write_text(json.dumps(own), encoding="utf-8")
    load(there, prices)
    link.symlink_to(there / "spec.yaml")
    assert load_spec(link).spec.prices == load_spec(there / "spec.yaml").spec.prices
