"""Public blocks for scenarios: state a stream once, and derive `Stream` and `Outline` from it."""

from seqmem.core.schedule import Place as Place
from seqmem.core.schedule import Repeat as Repeat
from seqmem.core.schedule import Schedule as Schedule
from seqmem.core.schedule import Segment as Segment
from seqmem.core.schedule import Size as Size
from seqmem.core.schedule import When as When
from seqmem.core.schedule import ask as ask
from seqmem.core.schedule import begin as begin
from seqmem.core.schedule import end as end
from seqmem.core.schedule import every as every
from seqmem.core.schedule import finish as finish
from seqmem.core.schedule import log as log
from seqmem.core.schedule import log_spaced as log_spaced
from seqmem.core.schedule import rest as rest
from seqmem.core.schedule import start as start
