"""Do the metrics return the truth? Synthetic learners with a known memory, scored as real runs are.

A **bed** is the stream of a scenario's own preset as a record sees it, with the answers left open. A **learner**
fills them in: what it knows at every probe is known. A **case** is a bed and a learner, and what each metric
should say of it. A **bench** is as many runs as a leaderboard has seeds: their mean, its 95 % t interval, and
whether that lies above zero, all by the leaderboard's own code.
"""
