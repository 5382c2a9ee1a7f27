"""DBOS's workflows, looked up: never with what they were given and gave, which nobody needs."""

from typing import TypedDict, Unpack

from dbos import DBOSClient, WorkflowStatus

ACTIVE = ["PENDING", "ENQUEUED", "DELAYED"]
"""The states of a workflow that has yet to end."""


class Criteria(TypedDict, total=False):
    """What the workflows wanted have in common, as DBOS names it."""

    workflow_ids: list[str]
    workflow_id_prefix: str
    name: str
    status: str | list[str]
    executor_id: str
    limit: int


def find_workflows(client: DBOSClient, **criteria: Unpack[Criteria]) -> list[WorkflowStatus]:
    return client.list_workflows(**criteria, load_input=False, load_output=False)
