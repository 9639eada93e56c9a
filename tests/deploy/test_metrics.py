"""The dashboard that ships asks for metrics that exist, and only those."""

from __future__ import annotations

import json
import re
from importlib.resources import files

from actors.inline import Inline
from deploy.metrics import METRICS, TAGS, meter
from storage.zarr_store import ZarrStore
from sweeps.run import run
from tests.conftest import SpecMaker

GRAFANA = json.loads((files("deploy") / "grafana" / "sweeps.json").read_text())


def test_grafana_queries_exactly_the_metrics_there_are() -> None:
    queries = [target["expr"] for panel in GRAFANA["panels"] for target in panel["targets"]]
    queries += [v["definition"] for v in GRAFANA["templating"]["list"] if v["type"] == "query"]
    asked = set(re.findall(r"ray_\w+", " ".join(queries)))
    assert asked == {metric.exported for metric in METRICS}
    tags = set(re.findall(r"(\w+)=~", " ".join(queries))) | set(re.findall(r"by \((\w+)\)", " ".join(queries)))
    assert tags <= set(TAGS)


def test_panels_have_titles_units_and_places_of_their_own() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in GRAFANA["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in GRAFANA["panels"]})
    assert all(panel["title"] and panel["fieldConfig"]["defaults"]["unit"] for panel in GRAFANA["panels"])


def test_without_ray_events_are_passed_on(toy: SpecMaker) -> None:
    store = ZarrStore.create("a.zarr", toy())
    assert len(list(meter(run(store, Inline("cpu")), store, "sweep-1"))) == 14
