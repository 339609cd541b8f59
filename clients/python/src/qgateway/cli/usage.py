"""The command `usage`."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from qgateway.cli.plain import plain
from qgateway.cli.session import Session
from qgateway.v1 import account_pb2, account_service_pb2


class By(StrEnum):
    """By what usage is added up."""

    TENANT = "tenant"
    ACCOUNT = "account"
    TAG = "tag"
    DAY = "day"


def usage(
    session: Session,
    *,
    by: Annotated[By, typer.Option(help="By what to add up.")] = By.TENANT,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="First day, UTC. Default: the first of this month."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="Day after the last, UTC. Default: today counts."),
    ] = None,
    account: Annotated[str, typer.Option(metavar="NAME", help="Only this account.")] = "",
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Another tenant, or - for all. Operators only.")] = "",
) -> None:
    """Show what was used of the budgets, and what is left."""
    request = account_service_pb2.GetUsageRequest(
        group_by=account_service_pb2.GetUsageRequest.GroupBy.Value(f"GROUP_BY_{by.name}"),
        account=account,
        tenant=tenant,
    )
    for at, field in ((since, request.start_time), (until, request.end_time)):
        if at is not None:
            field.FromDatetime(at.replace(tzinfo=UTC))
    connection = session.connection
    found = connection.call(connection.accounts.GetUsage, request).usages
    if session.output.as_json:
        session.output.document([plain(each) for each in found])
        return
    rows = (
        (
            each.tenant,
            _group(each, by),
            f"{each.used:,.10g}",
            f"{each.reserved:,.10g}" if each.HasField("qpu_time") else "",
            f"{each.limit:,.10g}" if each.HasField("limit") else "",
            f"{each.jobs:,}" if each.HasField("start_time") else "",
            _period(each),
        )
        for each in found
    )
    head = "WHAT" if by is By.TENANT else by.name
    session.output.table(("TENANT", head, "USED", "RESERVED", "LIMIT", "JOBS", "PERIOD"), rows)


def _group(each: account_pb2.Usage, by: By) -> str:
    if by is By.DAY:
        return f"{each.start_time.ToDatetime():%Y-%m-%d}"
    return {By.TENANT: each.limit_name, By.ACCOUNT: each.account, By.TAG: each.tag}[by]


def _period(each: account_pb2.Usage) -> str:
    if not each.HasField("start_time"):
        return "now"
    return f"{each.start_time.ToDatetime():%Y-%m-%d} to {each.end_time.ToDatetime():%Y-%m-%d}"
