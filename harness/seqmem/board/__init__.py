"""Published leaderboards: rules, rows, submission, building, verification."""
