"""The Hub and the runs of the tests of `hub/`: what is pushed is tested against the same double."""

from tests.pipelines.hub.conftest import attnlab, hub, recorded, run, stock

__all__ = ["attnlab", "hub", "recorded", "run", "stock"]
