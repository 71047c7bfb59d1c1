"""What Prefect does by itself when something happens: dead runs become Crashed, and people hear of what went wrong."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from tasks.outcome import DRIFT_DETECTED, REFUSED

ALERTS_BLOCK = "sentiment-alerts"
HEARTBEAT_SECONDS = 60  # of every run that the worker starts
SILENCE_SECONDS = 200  # three heartbeats, and some seconds for the server
_OURS = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.sentiment"}
_DRIFTED = """{% for feature in event.payload.features -%}
{{ feature.name }}: {{ feature.here }}; in training {{ feature.reference }}
{% endfor %}"""
_RUN_LINK = "{% if flow_run %}\n{{ flow_run | ui_url }}{% endif %}"  # the run that emitted the event
_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_MODELS = {"prefect.resource.id": "reviews.model.*"}


def mark_dead_runs() -> AutomationCore:
    """Return the automation that ends a run whose process died, so that its slot is free for the next.

    Every event of a run counts as a sign of life, as runs end in states of many names.
    """
    return AutomationCore(
        name="sentiment: a run without a heartbeat has crashed",
        description=f"A run of which nothing is heard for {SILENCE_SECONDS} seconds was killed, or its machine is gone.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification(_RUNS),
            match_related=ResourceSpecification(_OURS),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"Nothing was heard of this run for {SILENCE_SECONDS} seconds.")],
    )


def alerts(block: UUID) -> list[AutomationCore]:
    """Return the automations that send a message through a notification block: on crash or failure, on refusal, on drift."""
    return [
        _alert(
            block,
            "a run crashed or failed",
            {"prefect.flow-run.Crashed", "prefect.flow-run.Failed", "prefect.flow-run.TimedOut"},
            (_RUNS, _OURS),
            "{{ flow_run.name }}: {{ flow_run.state.name }}",
            "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
        ),
        _alert(
            block,
            "a model was refused",
            {REFUSED},
            (_MODELS, {}),
            "model {{ event.payload.model_id }} was not promoted",
            "{{ event.payload.reason }}" + _RUN_LINK,
        ),
        _alert(
            block,
            "the reviews have drifted",
            {DRIFT_DETECTED},
            (_MODELS, {}),
            "reviews differ from what model {{ event.payload.model_id }} was trained on",
            _DRIFTED + _RUN_LINK,
        ),
    ]


def _alert(
    block: UUID, when: str, events: set[str], where: tuple[dict[str, str], dict[str, str]], subject: str, body: str
) -> AutomationCore:
    match, related = where
    return AutomationCore(
        name=f"sentiment: tell that {when}",
        description=f"Sends a message through the notification block {ALERTS_BLOCK}.",
        trigger=EventTrigger(
            expect=events,
            match=ResourceSpecification(match),
            match_related=ResourceSpecification(related),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[SendNotification(block_document_id=block, subject=subject, body=body)],
    )


def put_automation(client: SyncPrefectClient, wanted: AutomationCore) -> bool:
    """Create an automation, or change the one of its name to be like it; return whether there was anything to do.

    Whether it is enabled is left to people.
    """
    found = client.read_automations_by_name(wanted.name)
    if not found:
        client.create_automation(wanted)
        return True
    if _essence(found[0]) == _essence(wanted):
        return False
    client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
    return True


def _essence(automation: AutomationCore) -> Any:
    return automation.model_dump(include={"description": True, "trigger": True, "actions": True})


def find_alerts_block(client: SyncPrefectClient) -> UUID | None:
    """Return the notification block that alerts go through, whatever its type, if somebody made one."""
    return next((block.id for block in client.read_block_documents() if block.name == ALERTS_BLOCK), None)


def make_alerts_block(url: str) -> None:
    """Make the block that posts alerts as JSON, `title` and `text`, to a webhook; or point it to another address."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    json_data = {"title": "{{subject}}", "text": "{{body}}"}
    CustomWebhookNotificationBlock(name=ALERTS_BLOCK, url=url, json_data=json_data).save(ALERTS_BLOCK, overwrite=True)
