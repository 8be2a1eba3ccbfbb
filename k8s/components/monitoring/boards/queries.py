"""PromQL over what was chosen on a dashboard, and panels' lines made of it."""

from typing import Final

from k8s.components.monitoring.grafana import Query

OR_NONE: Final = " or vector(0)"
"""Ends a query of what has no sample before the first time."""
_CHOSEN: Final = 'job=~"$job", instance=~"$instance"'


def of(metric: str, *conditions: str) -> str:
    """A metric of the chosen instances."""
    return f"{metric}{{{', '.join((_CHOSEN, *conditions))}}}"


def rate(metric: str, *conditions: str, by: str = "") -> str:
    """What a counter gains a second, over all instances, by a label."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({of(metric, *conditions)}[$__rate_interval]))"


def sum_of(metric: str, by: str = "") -> str:
    """A gauge, summed over all instances, by a label."""
    return f"sum by ({by}) ({of(metric)})" if by else f"sum ({of(metric)})"


def max_of(metric: str, by: str = "") -> str:
    """A gauge, the largest of all instances, by a label."""
    return f"max by ({by}) ({of(metric)})" if by else f"max ({of(metric)})"


def or_none(expression: str) -> str:
    """0 where it has never happened: such a counter has no sample before the first time."""
    return f"{expression}{OR_NONE}"


def quantiles(metric: str, *conditions: str) -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram."""
    buckets = rate(f"{metric}_bucket", *conditions, by="le")
    return tuple(
        Query(f"histogram_quantile({quantile}, {buckets})", name)
        for quantile, name in ((0.5, "half within"), (0.99, "99 % within"))
    )


def slowest(metric: str, *conditions: str, by: str) -> tuple[Query, ...]:
    """The 99th percentile of a histogram by a label."""
    buckets = rate(f"{metric}_bucket", *conditions, by=f"{by}, le")
    return (Query(f"histogram_quantile(0.99, {buckets})", f"{{{{{by}}}}}"),)


def one(expression: str, legend: str = "") -> tuple[Query, ...]:
    """The only query of a panel."""
    return (Query(expression, legend),)
