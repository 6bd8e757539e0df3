"""From a request to runs: the grid, models found without torch, search files, the output folder."""
