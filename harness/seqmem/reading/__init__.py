"""The reading of records by metrics: answers, curves of facts, visits, injections, controls, and what is missing.

Every name here is public: a metric of your own package may import it.
"""

from seqmem.reading.answers import ANSWER as ANSWER
from seqmem.reading.answers import after_last_visits as after_last_visits
from seqmem.reading.answers import all_visited as all_visited
from seqmem.reading.answers import answers as answers
from seqmem.reading.answers import at_step as at_step
from seqmem.reading.answers import earlier_loops as earlier_loops
from seqmem.reading.answers import facts_probed as facts_probed
from seqmem.reading.answers import first_run as first_run
from seqmem.reading.answers import loops_of as loops_of
from seqmem.reading.answers import questions as questions
from seqmem.reading.answers import recall_by_loop as recall_by_loop
from seqmem.reading.answers import stream_answers as stream_answers
from seqmem.reading.controls import SPLITS as SPLITS
from seqmem.reading.controls import items_in as items_in
from seqmem.reading.controls import mean_better as mean_better
from seqmem.reading.controls import splits as splits
from seqmem.reading.curves import Array as Array
from seqmem.reading.curves import Curves as Curves
from seqmem.reading.curves import Names as Names
from seqmem.reading.curves import Rows as Rows
from seqmem.reading.curves import Steps as Steps
from seqmem.reading.curves import Watched as Watched
from seqmem.reading.curves import answer_curves as answer_curves
from seqmem.reading.curves import watch as watch
from seqmem.reading.injections import Injection as Injection
from seqmem.reading.injections import first_injection as first_injection
from seqmem.reading.injections import injection_windows as injection_windows
from seqmem.reading.injections import injections as injections
from seqmem.reading.injections import injections_by_group as injections_by_group
from seqmem.reading.memory import once_per_run as once_per_run
from seqmem.reading.missing import Missing as Missing
from seqmem.reading.missing import attempt as attempt
from seqmem.reading.missing import by_seed as by_seed
from seqmem.reading.missing import control as control
from seqmem.reading.missing import some as some
from seqmem.reading.statements import first_exposures as first_exposures
from seqmem.reading.statements import own_statements as own_statements
from seqmem.reading.statements import rival_loops as rival_loops
from seqmem.reading.statements import since_visit as since_visit
from seqmem.reading.statements import stream_exposures as stream_exposures
from seqmem.reading.statements import trained_in_rest as trained_in_rest
from seqmem.reading.stream import loop_visits as loop_visits
from seqmem.reading.stream import loops_end as loops_end
from seqmem.reading.stream import rest_steps as rest_steps
from seqmem.reading.stream import stream_end as stream_end
from seqmem.reading.stream import stream_experiences as stream_experiences
from seqmem.record.reader import scheduled as scheduled
