"""What a service tells Prometheus, read as Prometheus reads it."""

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
        """Give the samples of that name that have these labels."""
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample

    def value(self, name: str, **labels: str) -> float:
        """Give the sum of those samples; none at all is an error."""
        found = [sample.value for sample in self.of(name, **labels)]
        assert found, (name, labels)
        return sum(found)


def scrape(*urls: str) -> Scrape:
    """Ask services for their metrics."""
    answers = [httpx2.get(f"{url}/metrics") for url in urls]
    assert all(answer.headers["content-type"].startswith("text/plain; version=0.0.4") for answer in answers)
    return Scrape(*(answer.raise_for_status().text for answer in answers))
