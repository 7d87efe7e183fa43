"""Runs in AIPerf's environment: opens a folder with AIPerf's own models and loader, and prints what it understood."""

import json
import sys
from pathlib import Path

from aiperf.common.models.export_models import JsonExportData
from aiperf.common.models.record_models import MetricRecordInfo
from aiperf.plot.core.data_loader import DataLoader

folder = Path(sys.argv[1])
export = JsonExportData.model_validate_json((folder / "profile_export_aiperf.json").read_text())
lines = (folder / "profile_export.jsonl").read_text().splitlines()
records = [MetricRecordInfo.model_validate_json(line) for line in lines]
run = DataLoader().load_run(folder)
print(
    json.dumps(
        {
            "itl_p50": export.inter_token_latency.p50,
            "phase": str(export.input_config.phases[0].type),
            "records": len(records),
            "failed": sum(record.error is not None for record in records),
            "rows": len(run.requests),
            "model": run.metadata.model,
            "concurrency": run.metadata.concurrency,
        }
    )
)
