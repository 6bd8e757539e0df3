"""What a run asks of its model before its first step: a primary measure that can be true."""

from __future__ import annotations

from collections.abc import Sequence

from seqmem.core.data import Probe, Relation
from seqmem.core.errors import Refused
from seqmem.planning.audit import Asked, Check, answer_checks, chance_checks, form_of, forms_of
from seqmem.training.loop import forward
from seqmem.training.probing import Answers, ProbeSet
from seqmem.training.run_state import Run


def asked_of(probes: Sequence[Probe], answers: Answers) -> list[Asked]:
    """Return each probe with what was answered, as an audit reads it."""
    return list(map(Asked, probes, answers.rank, answers.exact_match, answers.in_form))


class RunAudit:
    """Refuses a run whose primary measure would be false, or notes what of it was accepted."""

    def __init__(self, run: Run, relation: Relation, *, accept: bool) -> None:
        """Listen to the first answers of a run that starts.

        Args:
            run: before its first step.
            relation: the primary probe form.
            accept: note what fails, in place of refusing.
        """
        self._run, self._relation, self._accept = run, relation, accept
        self._by_choice = run.stream.design.recall == "forced_choice" and relation != "general"
        run.on_first_answers = self.on_first_answers

    def check_stream(self) -> None:
        """Check what can be told without the model.

        Raises:
            Refused: answers that the tokenizer cannot tell.
        """
        sets = self._run.stream.probe_sets.values()
        self._judge(answer_checks((probe for probes in sets for probe in probes), self._run.unknown))

    def check_unasked(self) -> None:
        """Ask the primary questions now, where the stream does not ask them before its first step anyway.

        Raises:
            Refused: facts or twins are off chance.
        """
        run = self._run
        due = {point.probe_set for point in run.stream.probe_points(0) if point.after == 0}
        holding = [name for name, probes in run.stream.probe_sets.items() if any(map(self._counts, probes))]
        if not self._by_choice or run.probing == "none" or not holding or due & {*holding}:
            return
        probes = ProbeSet(
            tuple(filter(self._counts, run.stream.probe_sets[holding[0]])),
            run.learner.device,
            None,
            run.routed,
        )
        self.on_first_answers(probes, probes.ask(run.learner.model, lambda label: forward(run, label)))

    def on_first_answers(self, probes: ProbeSet, answers: Answers) -> None:
        """Check facts and twins of the primary form against chance.

        Raises:
            Refused: one of them is off it.
        """
        asked = [one for one in asked_of(probes.probes, answers) if self._counts(one.probe)]
        if self._by_choice and asked:
            (form,) = forms_of(asked, self._relation)
            self._judge(chance_checks(form))

    def _counts(self, probe: Probe) -> bool:
        return form_of(probe) == self._relation and bool(probe.choices)

    def _judge(self, checks: Sequence[Check]) -> None:
        failed = [check.text for check in checks if check.state == "failed"]
        accepted = self._run.progress.accepted
        if self._accept:
            accepted += [text for text in failed if text not in accepted]
        elif failed:
            raise Refused(f"{'; '.join(failed)}; --accept-audit runs it anyway, and the table says so")
