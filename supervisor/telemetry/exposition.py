"""Writes the samples in Prometheus' formats. Loads a library for it: nobody but a scrape may import this."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.parser import text_string_to_metric_families

from supervisor.core.counts import DURATION_BUCKETS_S, Durations
from supervisor.telemetry.facts import Relayed
from supervisor.telemetry.samples import samples
from supervisor.telemetry.table import COUNTER, METRICS, RELAYED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.telemetry.facts import Facts
    from supervisor.telemetry.samples import Sample

_TOTAL = "_total"
# Done in a few milliseconds; the next better ones take three times as long for little.
_QUICK = 1


class Exposition(NamedTuple):
    """What a scrape gets; ``errors`` counts the scrapes so far for which tailscaled gave nothing that can be read."""

    body: bytes
    content_type: str
    gzipped: bool
    errors: int


class _Once:
    """Gives the library what it asks a registry for."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def write(facts: Facts, accept: str, accept_encoding: str) -> Exposition:
    """Return everything in the format, and the coding, that these two headers of the request ask for."""
    relayed = _relayed(facts.relayed.text)
    errors = facts.relayed.errors + (relayed is None and facts.snapshot.tailnet.mode != "off")
    facts = facts._replace(relayed=Relayed(facts.relayed.text if relayed is not None else None, errors))
    encode, content_type = choose_encoder(accept)
    body = encode(_Once([*_families(samples(facts)), *(relayed or ())]))
    gzipped = gzip_accepted(accept_encoding)
    return Exposition(gzip.compress(body, _QUICK, mtime=0) if gzipped else body, content_type, gzipped, errors)


def _families(found: Iterable[Sample]) -> Iterator[Family]:
    by_name: dict[str, Family] = {}
    for sample in found:
        metric = METRICS[sample.name]
        name = metric.full_name
        family = by_name.get(name)
        if family is None:
            family = by_name[name] = Family(name.removesuffix(_TOTAL), metric.help, metric.kind)
        labels = {label.name: value for label, value in zip(metric.labels, sample.labels, strict=True)}
        if isinstance(sample.value, Durations):
            _add_buckets(family, labels, sample.value)
        else:
            family.add_sample(name, labels, float(sample.value))
    yield from by_name.values()


def _add_buckets(family: Family, labels: dict[str, str], durations: Durations) -> None:
    so_far = 0
    for edge, count in zip((*map(str, DURATION_BUCKETS_S), "+Inf"), durations.buckets, strict=True):
        so_far += count
        family.add_sample(f"{family.name}_bucket", {**labels, "le": edge}, so_far)
    family.add_sample(f"{family.name}_count", labels, so_far)
    family.add_sample(f"{family.name}_sum", labels, durations.sum_s)


def _relayed(text: bytes | None) -> list[Family] | None:
    """Return tailscaled's own metrics; None where there are none that can be read."""
    if text is None:
        return None
    try:
        families = list(text_string_to_metric_families(text.decode()))
    except ValueError:
        return None
    for family in families:
        if family.type == COUNTER and not all(sample.name.endswith(_TOTAL) for sample in family.samples):
            # OpenMetrics has no counter of such a name.
            family.type = "unknown"
    return [family for family in families if family.name.startswith(RELAYED_PREFIX) and family.samples]
