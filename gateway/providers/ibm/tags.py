"""The tags by which the gateway knows its jobs at the provider, and which callers never see."""

from __future__ import annotations

from collections.abc import Iterable

MARKER_PREFIX = "qgw-"
"""How the tag begins that bears a job's marker."""


def marker_tag(marker: str) -> str:
    """Return the tag that bears a marker."""
    return MARKER_PREFIX + marker


def marker_of(tags: Iterable[str]) -> str:
    """Return the marker among some tags; empty if there is none."""
    return next((tag.removeprefix(MARKER_PREFIX) for tag in tags if tag.startswith(MARKER_PREFIX)), "")


def hidden(tags: Iterable[str], common: str) -> tuple[str, ...]:
    """Return the gateway's own tags among some, in their order."""
    return tuple(tag for tag in tags if tag == common or tag.startswith(MARKER_PREFIX))


def visible(tags: Iterable[str], common: str) -> tuple[str, ...]:
    """Return the tags of callers among some, in their order.

    A caller's tag that looks like one of the gateway's is left out: it must not be taken for the mark of another job.
    """
    return tuple(tag for tag in tags if tag != common and not tag.startswith(MARKER_PREFIX))


def unclaimed(tags: Iterable[str], marker: str, common: str) -> tuple[str, ...]:
    """Return what a job with some tags lacks to be the gateway's own. A marker that it bears already is as good."""
    bears = tuple(tags)
    missing = () if marker_of(bears) else (marker_tag(marker),)
    return missing if common in bears else (*missing, common)
