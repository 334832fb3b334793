"""One integer a stage: raise it when a change of code changes what the stage writes.

They stand in this light module, since the workflow reads them at every start.
"""

MINI = 2  # juicyfruits.synthetic: the miniature
PREPARE = 2  # juicyfruits.nsd, .kriegeskorte92, .cowley_v4: prepared benchmarks
