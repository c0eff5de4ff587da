"""Questions answered by several runs: sweeps, benchmarks, comparisons, a course's studies."""
