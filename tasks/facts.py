"""Gathers what a model card and a report tell, from the records of the steps that a model stands on."""

import json
import sys
from typing import Any

from tasks.model import bundle
from tasks.model.metrics import Evaluation
from tasks.report_page import DataFacts, ReportFacts
from tasks.store import ArtifactRef, Record, Store


def collect_facts(model: ArtifactRef, evaluation: Evaluation, store: Store) -> ReportFacts:
    """Return everything that is known of a model before its promotion is decided; no path and no time of this run."""
    folder = store.path(model).parent
    training = json.loads((folder / bundle.TRAINING).read_text(encoding="utf-8"))
    records = store.lineage(model)
    trained = records["train"].recipe.settings
    settings: dict[str, Any] = {step: records[step].recipe.settings for step in ("ingest", "clean", "tokenize", "split") if step in records}
    settings |= {name: trained[name] for name in ("seed", "vocabulary", "model", "linear", "self_training", "decision")}
    settings["evaluate"] = evaluation["settings"]
    ingested = records.get("ingest")
    return ReportFacts(
        model_id=folder.name,
        preset=records["train"].recipe.settings["preset"],
        evaluation=evaluation,
        sample=training["trained_on"]["sample"],
        data=data_facts(records),
        history=training["history"],
        best_epoch=training["best_epoch"],
        model_summary=training["summary"],
        num_parameters=training["num_parameters"],
        settings=settings,
        seed=records["train"].recipe.settings["seed"],
        data_digest=ingested.files[0].sha256 if ingested else "",
        versions={"python": ".".join(map(str, sys.version_info[:3])), **records["train"].recipe.libraries},
    )


def data_facts(records: dict[str, Record]) -> DataFacts | None:
    """Return what was read, refused and divided; None if the records of reading or splitting are gone."""
    if not {"ingest", "split", "tokenize"} <= set(records):
        return None
    read, divided = records["ingest"].facts, records["split"].facts
    return DataFacts(
        rows_read=read["rows_read"],
        rows=records["ingest"].rows,
        sources=read["rows_by_source"],
        refused=read["refused_by_reason"],
        dropped=read["rows_dropped"],
        outside_window=read["rows_outside_window"],
        in_golden=divided["in_golden"],
        rows_by_split=divided["rows_by_split"],
        duplicates=divided["duplicates"],
        duplicates_with_other_label=divided["duplicates_with_other_label"],
        left_out=divided["left_out"],
        left_out_by_reason=divided["left_out_by_reason"],
        left_out_rows=divided["left_out_rows"],
        declared_split=divided["declared"],
        length_quantiles=records["tokenize"].facts["length_quantiles"],
        unlabelled=records["unlabelled"].facts["counts"] if "unlabelled" in records else {},
    )
