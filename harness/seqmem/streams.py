"""Public blocks for scenarios: state a stream once, and derive `Stream` and `Outline` from it."""

from seqmem.core.asking import When as When
from seqmem.core.asking import ask as ask
from seqmem.core.asking import begin as begin
from seqmem.core.asking import end as end
from seqmem.core.asking import every as every
from seqmem.core.asking import finish as finish
from seqmem.core.asking import log as log
from seqmem.core.asking import log_spaced as log_spaced
from seqmem.core.asking import start as start
from seqmem.core.schedule import Schedule as Schedule
from seqmem.core.schedule import Size as Size
from seqmem.core.segments import Place as Place
from seqmem.core.segments import Repeat as Repeat
from seqmem.core.segments import Segment as Segment
from seqmem.core.segments import rest as rest
