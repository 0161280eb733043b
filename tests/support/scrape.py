"""The metrics of a service, parsed as Prometheus does."""

from collections.abc import Iterator

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Scrape:
    """The samples of one or more expositions."""

    def __init__(self, *texts: str) -> None:
        self.families = [family for text in texts for family in text_string_to_metric_families(text)]
        self.samples = [sample for family in self.families for sample in family.samples]

    def of(self, name: str, **labels: str) -> Iterator[Sample]:
        """Return the samples of a name with these labels."""
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of those samples; it is an error if there are none."""
        found = [sample.value for sample in self.of(name, **labels)]
        assert found, (name, labels)
        return sum(found)


def scrape(*urls: str) -> Scrape:
    """Request the metrics of services."""
    answers = [httpx2.get(f"{url}/metrics") for url in urls]
    assert all(answer.headers["content-type"].startswith("text/plain; version=0.0.4") for answer in answers)
    return Scrape(*(answer.raise_for_status().text for answer in answers))
