"""Contexts of the wells of a compiled script, and the steps with `process` that get them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace

from pyama_dask.api.openhcs.pipelines import Translated
from pyama_dask.api.openhcs.well_steps import ProcessingContext
from pyama_dask.runs.orchestrator import CompiledPlan, WellResult

log = logging.getLogger("pyama_dask")


class CompiledContexts(dict[str, ProcessingContext]):
    """Contexts of the wells of a plan, by name.

    Parameters
    ----------
    plan
        The plan, which can be printed, saved and compared; None if there is nothing but steps with `process`.
    script
        Pipelines that were compiled.
    """

    def __init__(
        self, contexts: Mapping[str, ProcessingContext], plan: CompiledPlan | None, script: Translated
    ) -> None:
        super().__init__(contexts)
        self.plan, self.script = plan, script

    def processed(
        self, results: Mapping[str, WellResult], cancel: threading.Event | None = None
    ) -> dict[str, WellResult]:
        """Do the steps with `process` of all wells whose functions are done, one well after the other.

        Parameters
        ----------
        results
            Results of the functions, by well.
        cancel
            Set it to begin no further step.

        Returns
        -------
        Results by well; what a step raises is the reason of its failure, and harms no other well.
        """
        return {
            well: self._processed(self[well], result, cancel) if result.status == "done" else result
            for well, result in results.items()
        }

    def _processed(
        self, context: ProcessingContext, result: WellResult, cancel: threading.Event | None
    ) -> WellResult:  # fmt: skip
        for pipeline, step in self.script.after:
            if cancel is not None and cancel.is_set():
                return replace(result, status="cancelled", reason="the run was cancelled")
            context.pipeline = pipeline
            try:
                context.outputs[step.name] = step.process(context)
            except Exception as error:
                log.exception("%s: step %s failed", context.well, step.name)
                return replace(result, status="failed", reason=f"step {step.name}: {error}")
        return result
