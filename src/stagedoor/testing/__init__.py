"""For authors of adapters and content types: contracts, failing disks, test media, and the model of the engine.

Nothing here is imported by the library itself. `stores` and `library` have the conformance suites, `disk` the disks
that fail, `worlds` and `stateful` the model that drives the engine on any set of adapters, `content` a content type
without media; `crashes`, `kernel`, `trials` and `kills` crash what is real; `power` cuts the power in whole lives;
`schedules` lets a seed decide who goes next, on the scheduler in `baton`; `fuzzing` has what a fuzzer needs; `media`,
`pictures` and `archives` make test files. Install ``stagedoor[testing]`` for pytest, Hypothesis and greenlet.
"""
