"""For authors of adapters and content types: contracts, failing disks, test media, and the model of the engine.

Nothing here is imported by the library itself. `stores` and `library` have the conformance suites, `disk` the disks
that fail, `worlds` and `stateful` the model that drives the engine on any set of adapters, `content` a content type
without media; `crashes`, `kernel`, `trials` and `kills` crash what is real; `media`, `pictures` and `archives` make
test files. Install ``stagedoor[testing]`` for pytest and
Hypothesis.
"""
